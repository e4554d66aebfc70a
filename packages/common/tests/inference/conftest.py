"""Modules beside the tests, for them and for worker processes."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
