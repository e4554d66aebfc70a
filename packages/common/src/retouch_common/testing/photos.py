"""Drawn photograph files, and commands run on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
import pyvips
from click.testing import CliRunner, Result


def make_photo(
    path: Path, *, size: tuple[int, int] = (260, 340), bands: int = 3, dtype: Any = np.uint8, **options: Any
) -> Path:
    """Draw waves with noise into an image file; return its path.

    Args:
        path: File; its folder is created.
        size: Height and width.
        bands: 1 or 2 for grey, 3 or 4 for sRGB; the last of an even number is opacity.
        dtype: uint8 or uint16.
        options: Options of the encoder.
    """
    y, x = np.mgrid[: size[0], : size[1]]
    pixels = 0.55 + 0.25 * np.sin(x[..., None] / 31 + y[..., None] / 47 + np.arange(bands))
    pixels = pixels + np.random.default_rng(3).normal(0, 0.02, (*size, bands))
    image = pyvips.Image.new_from_array((pixels.clip(0, 1) * np.iinfo(dtype).max).astype(dtype))
    grey, colour = ("grey16", "rgb16") if dtype == np.uint16 else ("b-w", "srgb")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.copy(interpretation=grey if bands < 3 else colour).write_to_file(str(path), **options)
    return path


def read_pixels(path: Path) -> np.ndarray:
    """Return the stored pixels of an image file, (H, W, bands)."""
    image = pyvips.Image.new_from_file(str(path))
    pixels: np.ndarray = image.numpy().reshape(image.height, image.width, image.bands)
    return pixels


def run_command(command: click.Command, *arguments: object) -> Result:
    """Run a command; it may fail, but not with a traceback."""
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result
