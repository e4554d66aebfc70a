"""Networks for aligned faces on photographs of any size, in bounded memory.

Every face is cropped upright at the network's size S, the network runs on it, and only the *difference* is pasted back
with a soft border: hair, background and unchanged pixels keep their bits. Where a face is larger than S, the difference
is computed at S and upsampled smoothly.

    squares = squares_in(image, None, False)
    faces = run_on_faces(read_aligned(source, squares, S), network)           # first pass over the rows
    rows = changed_face_rows(source, faces)                                   # second pass

Shapes: photographs are (H, W, 3) RGB, uint8 or uint16; faces (S, S, 3) float32 in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from retouch_common.faces.alignment import FaceSquare
from retouch_common.faces.pasting import changed_rows
from retouch_common.photo.sources import ArraySource, ChangedRows, RowSource
from retouch_common.weights import require_finite

if TYPE_CHECKING:
    from retouch_common.parsing.skin import SkinSegmenter

NOISE_LEVEL = 1 / 255  # changes of up to an 8-bit level are the network's noise

Item = TypeVar("Item", bound=tuple[Any, ...])
Result = TypeVar("Result")


@dataclass(frozen=True)
class ChangedFace:
    """The change of one face.

    Attributes:
        square: Its square in the photograph.
        change: (S, S, 3) float32 in [-1, 1].
        skin: Matte to which the change is confined, (S, S) float32 in [0, 1]; None if it is not.
    """

    square: FaceSquare
    change: np.ndarray
    skin: np.ndarray | None = field(default=None, kw_only=True)


def run_on_faces(
    faces: Iterable[Item], network: Callable[[list[Item]], Iterable[Result]], *, batch_size: int = 1
) -> list[Result]:
    """Run a network on batches of faces, tuples that start with the face's index; return its results by index."""
    found: dict[int, Result] = {}
    remaining = iter(faces)
    while batch := list(islice(remaining, batch_size)):
        found.update(zip((item[0] for item in batch), network(batch), strict=True))
    return [found[index] for index in sorted(found)]


def suppress_noise(change: Tensor) -> Tensor:
    """Set differences of images in [0, 1] up to ``NOISE_LEVEL`` to 0, so that unchanged pixels keep their bits."""
    return F.hardshrink(change, NOISE_LEVEL)


def face_change(output: Tensor, image: Tensor) -> np.ndarray:
    """Return the change of faces without noise, (N, S, S, 3) float32 in [-1, 1].

    Model output and input are (N, 3, S, S) in [0, 1], the latter on the CPU.

    Raises:
        ValueError: If the output holds NaN or infinite values.
    """
    change = suppress_noise(require_finite(output).float().cpu() - image)
    return change.permute(0, 2, 3, 1).contiguous().numpy()


def changed_face_rows(
    source: RowSource, faces: Sequence[ChangedFace], *, strength: float = 1.0, protect: RowSource | None = None
) -> ChangedRows:
    """Paste the change of every face; see :func:`retouch_common.faces.pasting.changed_rows`."""
    changes = [(face.square, face.change, face.skin) for face in faces]
    return (yield from changed_rows(source, changes, strength=strength, protect=protect))


def changed_image(
    image: np.ndarray, faces: Sequence[ChangedFace], *, strength: float = 1.0, protect: RowSource | None = None
) -> np.ndarray:
    """Return an image in memory with the change of every face pasted; arguments as of :func:`changed_face_rows`."""
    return gather_rows(changed_face_rows(ArraySource(image), faces, strength=strength, protect=protect), image)


def gather_rows(rows: Iterable[np.ndarray], like: np.ndarray) -> np.ndarray:
    """Concatenate blocks of rows to an array of the shape and dtype of ``like``."""
    result, y = np.empty_like(like), 0
    for block in rows:
        result[y : y + len(block)] = block
        y += len(block)
    return result


def open_skin_segmenter(device: torch.device, precision: str) -> SkinSegmenter:
    """Load the skin segmenter to which changes of faces are confined.

    Raises:
        ValueError: If the precision is not available on the device.
    """
    from retouch_common.parsing.parser import FaceParser
    from retouch_common.parsing.skin import SkinSegmenter

    return SkinSegmenter(FaceParser("small", str(device), precision=precision))
