"""Drawn photograph files, and commands run on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

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


def make_dng(target: Path | BinaryIO, mosaic: np.ndarray, *, tags: Sequence[tuple] = (), **options: Any) -> None:
    """Write a camera raw file (DNG 1.4) that rawpy reads; needs tifffile.

    Args:
        target: File.
        mosaic: (H, W) uint16, red, green, green and blue in 2 x 2 pixels.
        tags: More tags, as tifffile's ``extratags``.
        options: Options of ``tifffile.imwrite``.
    """
    import tifffile

    matrix = (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1)  # the camera's colours are XYZ
    own = [
        (271, 2, 0, "Maker", False),
        (272, 2, 0, "Model", False),
        (33421, 3, 2, (2, 2), False),  # the mosaic's size and colours
        (33422, 1, 4, (0, 1, 1, 2), False),
        (50706, 1, 4, (1, 4, 0, 0), False),  # DNGVersion
        (50708, 2, 0, "Maker Model", False),
        (50714, 4, 1, 0, False),  # black and white levels
        (50717, 4, 1, 65535, False),
        (50721, 10, 9, matrix, False),
        (50728, 5, 3, (1, 1) * 3, False),  # AsShotNeutral
        (50778, 3, 1, 21, False),  # CalibrationIlluminant1: D65
    ]
    tifffile.imwrite(
        target, mosaic, photometric=32803, extratags=[*own, *tags], metadata=None, software=False, **options
    )


def read_pixels(path: Path) -> np.ndarray:
    """Return the stored pixels of an image file, (H, W, bands)."""
    image = pyvips.Image.new_from_file(str(path))
    return image.numpy().reshape(image.height, image.width, image.bands)


def run_command(command: click.Command, *arguments: object) -> Result:
    """Run a command; it may fail, but not with a traceback."""
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result
