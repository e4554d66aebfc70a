import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # maskgan_cases.py, which child processes run as a script too
