from __future__ import annotations

from pathlib import Path

import pytest
from retouch_common.testing import anywhere
from retouch_common.testing.anywhere import MeshPortrait


@pytest.fixture
def drawn_portrait(tmp_path: Path) -> MeshPortrait:
    return anywhere.drawn_portrait(tmp_path / "drawn" / "person.png")
