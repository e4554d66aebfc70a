from __future__ import annotations

from pathlib import Path

import pytest
import torch
from average import average
from safetensors import safe_open
from safetensors.torch import load_file, save_file


def test_the_mean_is_weighted_and_has_the_second_header(tmp_path: Path) -> None:
    first, second, out = (tmp_path / name for name in ("first", "second", "folder/out"))
    save_file({"w": torch.tensor([0.0, 4.0]), "steps": torch.tensor(1)}, first, {"config": "old"})
    save_file({"w": torch.tensor([1.0, 0.0]), "steps": torch.tensor(5)}, second, {"config": "new"})
    average(first, second, 0.25, out)
    found = load_file(out)
    assert found["w"].tolist() == [0.25, 3.0] and found["steps"].item() == 5
    with safe_open(out, "pt") as opened:
        assert opened.metadata() == {"config": "new"}


def test_other_networks_and_shares_are_refused(tmp_path: Path) -> None:
    first, second, out = (tmp_path / name for name in ("first", "second", "out"))
    save_file({"w": torch.zeros(2)}, first)
    save_file({"w": torch.zeros(3)}, second)
    with pytest.raises(ValueError, match="different networks"):
        average(first, second, 0.5, out)
    with pytest.raises(ValueError, match="between 0 and 1"):
        average(first, first, 1.5, out)
    assert not out.exists()
