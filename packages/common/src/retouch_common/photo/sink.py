"""Writing images row by row and atomically."""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import shutil
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyvips

from retouch_common.files import DISK_FULL, atomic_output
from retouch_common.photo.damage import messages, reason
from retouch_common.photo.pixels import image_from_array
from retouch_common.photo.png_chunks import SIGNATURE, chunk
from retouch_common.ranges import to_levels

_FEW_ROWS = 32
_FULL_DISK_BYTES = 1 << 16


@contextlib.contextmanager
def atomic_image_output(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary file as :func:`atomic_output` does; failures of libvips become OSErrors."""
    with atomic_output(path) as temporary:
        try:
            yield temporary
        except pyvips.Error as error:
            why = reason(error)
            if shutil.disk_usage(temporary.parent).free < _FULL_DISK_BYTES:  # libvips does not say why a write failed
                raise _disk_full(path, errno.ENOSPC) from error
            raise OSError(f"{path}: cannot be written: {why}") from error
        except OSError as error:
            if error.errno in DISK_FULL and str(path) not in str(error):
                raise _disk_full(path, error.errno) from error
            raise


def _disk_full(path: str | os.PathLike[str], number: int | None) -> OSError:
    """Return an error with the message alone, which OSError(number, message) would begin with "[Errno 28]"."""
    error = OSError(f"{path}: cannot be written: the disk is full")
    error.errno = number
    return error


def stream_rows(
    rows: Iterator[np.ndarray],
    width: int,
    height: int,
    bands: int,
    dtype: np.dtype,
    consume: Callable[[pyvips.Image], None],
) -> None:
    """Run a libvips pipeline on rows that are produced while it runs.

    The rows pass through a short queue as an uncompressed one-channel PNG, so that only a few blocks are in memory. The
    caller's thread produces them; another runs the pipeline.

    Args:
        rows: Blocks (n, width, bands) of ``dtype``, top to bottom, ``height`` rows in all.
        width: Width in pixels.
        height: Height in pixels.
        bands: Channels per pixel.
        dtype: uint8 or uint16.
        consume: Saves the image, which it reads once from top to bottom.

    Raises:
        BaseException: Whatever ``rows`` raises, else what ``consume`` raises.
    """
    blocks: queue.Queue[bytes] = queue.Queue(maxsize=2)
    failure: list[BaseException] = []
    source = pyvips.SourceCustom()
    source.on_read(_reader(blocks))

    def run() -> None:
        try:
            image = pyvips.Image.pngload_source(source, access="sequential", fail_on="error", unlimited=True)
            consume(image.bandfold(factor=bands))
        except BaseException as error:
            failure.append(error)

    worker = threading.Thread(target=run, name="photo-writer", daemon=True)
    worker.start()
    try:
        for block in _png_blocks(rows, width * bands, height, 8 * dtype.itemsize):
            if not _put(blocks, block, worker):
                break
    finally:
        with messages.shared():  # the pipeline fails if rows are missing
            _put(blocks, b"", worker)
            worker.join()
        error = failure.pop() if failure else None
    try:
        if error is not None:
            raise error
    finally:
        del error  # a cycle of error and frames would keep libvips' buffers until garbage collection


def _reader(blocks: queue.Queue[bytes]) -> Callable[[int], bytes]:
    """Return a function that reads the bytes of consecutive blocks; an empty block is the end."""
    pending = memoryview(b"")
    ended = False

    def read(size: int) -> bytes:
        nonlocal pending, ended
        if not len(pending) and not ended:
            pending = memoryview(blocks.get())
            ended = not len(pending)  # libvips may ask again after the end
        taken, pending = pending[:size], pending[size:]
        return bytes(taken)

    return read


def _put(blocks: queue.Queue[bytes], block: bytes, worker: threading.Thread) -> bool:
    """Enqueue a block; return False if the reader has ended."""
    while worker.is_alive():
        with contextlib.suppress(queue.Full):
            blocks.put(block, timeout=0.2)
            return True
    return False


def _png_blocks(rows: Iterator[np.ndarray], width: int, height: int, bits: int) -> Iterator[bytes]:
    """Encode rows as an uncompressed grey PNG; never yield an empty block."""
    yield SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    store = zlib.compressobj(0)
    for stripe in rows:
        for top in range(0, stripe.shape[0], _FEW_ROWS):
            block = stripe[top : top + _FEW_ROWS].reshape(-1, width)
            filtered = np.zeros((block.shape[0], 1 + width * bits // 8), np.uint8)  # filter type 0
            filtered[:, 1:] = block.astype(">u2").view(np.uint8) if bits == 16 else block
            data = store.compress(filtered.tobytes())
            if data:
                yield chunk(b"IDAT", data)
    yield chunk(b"IDAT", store.flush()) + chunk(b"IEND", b"")


def write_png(path: Path, image: np.ndarray) -> None:
    """Write an image, (H, W, 3) float32 in [0, 1], as PNG.

    Raises:
        OSError: If it cannot be written.
    """
    levels = to_levels(image)
    with atomic_image_output(path) as temporary:
        image_from_array(np.ascontiguousarray(levels), "srgb").pngsave(os.fsencode(temporary))
