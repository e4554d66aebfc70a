"""Networks for aligned faces on photographs of any size, in memory that does not grow with them.

Every face is cut out upright and at the network's size S, the network runs on it, and only the *difference* is pasted
back into the photograph, softly weighted towards the border of the face's square: hair, background and every pixel that
the network leaves alone keep their bits. Where a face has more than S pixels in the photograph, the difference is
computed at S and enlarged smoothly.

    squares = squares_in(image, None, False)                                  # where the faces are
    faces = run_on_faces(read_aligned(source, squares, S), network)           # first pass over the rows
    rows = changed_face_rows(source, faces)                                   # second pass

Shapes: photographs are (H, W, 3) RGB, uint8 or uint16; faces (S, S, 3) float32 in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from retouch_common.faces.alignment import FaceSquare
from retouch_common.faces.pasting import changed_rows
from retouch_common.photo.sources import ArraySource, RowSource

if TYPE_CHECKING:
    from retouch_common.parsing.skin import SkinSegmenter

UNTOUCHED = 1 / 255  # changes of up to an 8-bit level are the network's noise

Item = TypeVar("Item", bound=tuple[Any, ...])
Result = TypeVar("Result")


@dataclass(frozen=True)
class ChangedFace:
    """What a network makes of one face.

    Attributes:
        square: Where the face lies in the photograph.
        change: What the network adds, (S, S, 3) float32 in [-1, 1], 0 where it leaves the face alone.
    """

    square: FaceSquare
    change: np.ndarray


def run_on_faces(
    faces: Iterable[Item], network: Callable[[list[Item]], Iterable[Result]], *, batch_size: int = 1
) -> list[Result]:
    """Run a network on aligned faces as they are read.

    Args:
        faces: Tuples that start with the index of the face, in any order.
        network: Given up to ``batch_size`` of them, returns a result for each.
        batch_size: Faces at once.

    Returns:
        The results, in the order of the indices.
    """
    found: dict[int, Result] = {}
    remaining = iter(faces)
    while batch := list(islice(remaining, batch_size)):
        found.update(zip((item[0] for item in batch), network(batch), strict=True))
    return [found[index] for index in sorted(found)]


def suppress_noise(change: Tensor) -> Tensor:
    """Return differences of images in [0, 1] with those up to ``UNTOUCHED`` set to 0.

    What a network leaves alone thus comes back bit for bit, at 8 and at 16 bits.
    """
    return F.hardshrink(change, UNTOUCHED)


def face_change(output: Tensor, image: Tensor) -> np.ndarray:
    """Return what a network changes, without its noise.

    Args:
        output: (N, 3, S, S) in [0, 1].
        image: The network's input, on the CPU.

    Returns:
        (N, S, S, 3) float32 in [-1, 1].
    """
    change = suppress_noise(output.float().cpu() - image)
    return change.permute(0, 2, 3, 1).contiguous().numpy()


def changed_face_rows(
    source: RowSource, faces: Sequence[ChangedFace], *, strength: float = 1.0, protect: RowSource | None = None
) -> Iterator[np.ndarray]:
    """Paste every face's difference back.

    Args:
        source: The photograph; its rows are asked for once, from top to bottom.
        faces: From the first pass.
        strength: 0 changes nothing, 1 is the network's result.
        protect: A picture of the photograph's size, white where nothing may change.

    Yields:
        Consecutive blocks of rows, (n, W, 3) of the photograph's type.

    Raises:
        ValueError: If the strength is outside [0, 1], or ``protect`` has another size.
    """
    yield from changed_rows(source, [(face.square, face.change) for face in faces], strength=strength, protect=protect)


def changed_image(
    image: np.ndarray, faces: Sequence[ChangedFace], *, strength: float = 1.0, protect: RowSource | None = None
) -> np.ndarray:
    """Return a photograph with every face's difference pasted in; arguments as of :func:`changed_face_rows`."""
    return gather_rows(changed_face_rows(ArraySource(image), faces, strength=strength, protect=protect), image)


def gather_rows(rows: Iterable[np.ndarray], like: np.ndarray) -> np.ndarray:
    """Return consecutive blocks of rows as one array of the shape and type of ``like``."""
    result, y = np.empty_like(like), 0
    for block in rows:
        result[y : y + len(block)] = block
        y += len(block)
    return result


def open_skin_segmenter(device: torch.device, precision: str) -> SkinSegmenter:
    """Load what finds the skin to which changes of faces are confined.

    Raises:
        ValueError: If the precision is not available on the device.
    """
    from retouch_common.parsing.parser import FaceParser
    from retouch_common.parsing.skin import SkinSegmenter

    return SkinSegmenter(FaceParser("small", str(device), precision=precision))
