"""JPEG XL files, decoded in a process of its own whose memory and time are limited.

A JPEG XL file may have any number of layers as large as the photograph, each of a few bytes, so that its size does not
bound the time of decoding. The limits grow with the number of pixels: 100 bytes each and a second per million are
several times what libjxl needs for a photograph of one layer.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from retouch_common.photo import jpegxl_worker
from retouch_common.photo.content_credentials import CREDENTIALS
from retouch_common.photo.jpegxl_header import read_header
from retouch_common.photo.limits import refuse_large
from retouch_common.photo.metadata import Metadata

MEMORY, MEMORY_PER_PIXEL = 512_000_000, 100
"""Bytes of address space."""
SECONDS, SECONDS_PER_PIXEL = 20, 1e-6
"""CPU time."""

_CHANNELS = {"L": 1, "I;16": 1, "LA": 2, "RGB": 3, "RGBA": 4}


def decode(path: Path, folder: Path, limit: int | None) -> tuple[np.ndarray | Path, Metadata]:
    """Decode a JPEG XL file, using a folder for files of its own.

    Args:
        path: File.
        folder: Empty folder, which must stay as long as a file in it.
        limit: Largest number of pixels, None for any.

    Returns:
        Upright pixels (H, W, channels), uint8 or uint16, or the JPEG file that was recompressed, now in ``folder`` with
        metadata of its own; metadata.

    Raises:
        ImportError: If pillow-jxl-plugin is not installed.
        OSError: If the folder's disk is full.
        ValueError: If the system cannot limit a process, or the file is damaged, too large, takes too long, or is of a
            kind that is not supported.
    """
    if sys.platform != "linux":  # other systems do not limit the address space
        raise ValueError(f"{path}: is a JPEG XL photo, which can be read safely on Linux only; convert it")
    if importlib.util.find_spec("pillow_jxl") is None:
        raise ImportError("pillow-jxl-plugin is not installed")
    header = read_header(path)
    refuse_large(path, "JPEG XL", header.width, header.height, limit)
    if header.unsupported:
        raise ValueError(f"{path}: {header.unsupported}, which is not supported for JPEG XL; convert it")
    found = _run(path, folder, header.width * header.height)
    others = found["others"]
    if sorted((found["width"], found["height"])) != sorted((header.width, header.height)):
        raise ValueError(f"{path}: holds a JPEG photo of another size; convert it")
    if found["jpeg"]:  # holds its EXIF and XMP, which the boxes repeat
        others = [kind for kind in others if not kind.startswith("brob")]
        return folder / "photo.jpg", Metadata(losses=_names(others))
    shape = found["height"], found["width"], _CHANNELS.get(found["mode"], 0)
    samples = (folder / "pixels").read_bytes()
    depth = len(samples) // max(1, np.prod(shape, dtype=int))
    if depth not in (1, 2) or len(samples) != depth * np.prod(shape, dtype=int):
        raise ValueError(f"{path}: its pixels are {found['mode']}, which is not supported for JPEG XL; convert it")
    if header.bits > 8 * depth:
        raise ValueError(
            f"{path}: has {header.bits} bits per channel, of which the decoder gives {8 * depth}; convert it to TIFF"
        )
    exif = _box(folder / "Exif")
    return np.frombuffer(samples, np.uint8 if depth == 1 else np.uint16).reshape(shape), Metadata(
        profile=_box(folder / "icc"),
        exif=exif[4:] if exif is not None and exif[4:8] in (b"II*\0", b"MM\0*") else exif,  # after the header's offset
        xmp=_box(folder / "xml"),
        losses=_names(others),
    )


def _names(kinds: list[str]) -> tuple[str, ...]:
    """Return what boxes are called in messages; those of the image have no name."""
    names = {"jumb": CREDENTIALS, "jhgm": "gain map", "brobExif": "compressed EXIF", "brobxml ": "compressed XMP"}
    image = ("JXL ", "ftyp", "jxlc", "jxlp", "jxll", "jxli", "jbrd")
    return tuple(dict.fromkeys(names.get(kind, f"box {kind!r}") for kind in kinds if kind not in image))


def _box(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _run(path: Path, folder: Path, num_pixels: int) -> dict[str, Any]:
    memory = MEMORY + MEMORY_PER_PIXEL * num_pixels + 4 * path.stat().st_size
    seconds = round(SECONDS + SECONDS_PER_PIXEL * num_pixels)
    command = [sys.executable, "-I", jpegxl_worker.__file__, json.dumps(sys.path), str(memory), str(seconds)]
    result = subprocess.run([*command, path.absolute(), folder], stdin=subprocess.DEVNULL, capture_output=True)
    if result.returncode == jpegxl_worker.FULL:
        raise OSError(errno.ENOSPC, "the disk is full", str(folder))
    if result.returncode in (-signal.SIGXCPU, -signal.SIGKILL):  # the latter also where memory is short
        too_long = f"decoding takes more than {seconds} seconds, too long for its size"
        killed = "" if result.returncode == -signal.SIGXCPU else ", or the system ended it for want of memory"
        raise ValueError(f"{path}: {too_long}{killed}; convert it")
    if result.returncode:
        raise ValueError(
            f"{path}: cannot be read, it is damaged or cut off, or needs more than {memory // 1_000_000} MB of memory"
        )
    return json.loads(result.stdout)
