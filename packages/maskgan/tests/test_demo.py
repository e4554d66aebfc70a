"""The demonstration's files and figure; she is parsed by the bundled weights."""

from dataclasses import replace

import pytest
import pyvips
import torch
from maskgan.config import PRESETS
from maskgan.demo import main
from maskgan.model import MaskGAN

pytest.importorskip("skimage")


def test_pictures_and_the_figure(tmp_path, capsys):
    torch.manual_seed(0)
    main(str(tmp_path), weights=MaskGAN(replace(PRESETS["tiny"].model, size=256)))
    names = ["astronaut", "her_own_mask", "with_closed_lips", "without_brows"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.png" for name in names]
    result = pyvips.Image.new_from_file(str(tmp_path / "without_brows.png"))
    assert (result.width, result.height) == (512, 512)
    assert "reconstruction: PSNR" in capsys.readouterr().out


def test_weights_that_are_not_there_are_an_error():
    with pytest.raises(ValueError, match="nothing-like-this"):
        main(weights="nothing-like-this")
