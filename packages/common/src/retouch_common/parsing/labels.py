"""Label images: the class of every pixel of a face, and the PNG files that hold them.

The 11 classes are those of the Helen data set (Smith et al., "Exemplar-Based Face Parsing", CVPR 2013). Left is the
image's left, not the person's. Files are PNGs with a palette, so that any viewer shows the parts in colours.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retouch_common.files import refuse_special, write_atomically

if TYPE_CHECKING:
    import PIL.Image

CLASSES = (
    "background",
    "skin",
    "brow_left",
    "brow_right",
    "eye_left",
    "eye_right",
    "nose",
    "upper_lip",
    "mouth",
    "lower_lip",
    "hair",
)
"""Names of the classes 0 to 10. "mouth" is visible between the lips; ears, neck and clothes are background."""

NUM_CLASSES = len(CLASSES)

NOT_FACE, UNKNOWN = 254, 255  # labels in training only: "hair or background" and "any class"

COLOURS = np.array(
    [
        (0, 0, 0),
        (235, 190, 150),
        (120, 70, 160),
        (200, 130, 220),
        (40, 110, 220),
        (90, 200, 240),
        (240, 210, 60),
        (225, 60, 90),
        (255, 255, 255),
        (165, 25, 60),
        (60, 150, 70),
    ],
    dtype=np.uint8,
)
"""(11, 3) RGB of the classes."""

_EXCHANGED = np.arange(256, dtype=np.uint8)
_EXCHANGED[2:6] = 3, 2, 5, 4


def read_labels(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a label image as (H, W) uint8, 0 to 10; see :func:`decode_labels`.

    Raises:
        ValueError: It is not a label image; the message names the file.
        OSError: It cannot be read.
    """
    refuse_special(path)
    return decode_labels(Path(path).read_bytes(), str(path))


def decode_labels(data: bytes, name: str) -> np.ndarray:
    """Decode the labels in a PNG file to (H, W) uint8, 0 to 10.

    With a palette of :data:`COLOURS`, in any order, colours are the classes, so that black and white are background and
    mouth; with any other palette, and in an image of a single colour, the indices are. Grey values are classes. RGB
    must consist of :data:`COLOURS` exactly.

    Args:
        data: Content of the file.
        name: Name of the file in messages.

    Raises:
        ValueError: It is not such a PNG.
    """
    image = open_png(data, name)
    mode, pixels = image.mode, np.array(image)
    if mode == "P":
        return _from_indices(pixels, np.array(image.getpalette(), np.uint8).reshape(-1, 3), name)
    if mode == "L":
        return _checked(pixels, name)
    if mode == "RGBA" and (pixels[..., 3] == 255).all():
        mode, pixels = "RGB", pixels[..., :3]
    if mode == "RGB":
        return _from_colours(pixels, name)
    raise ValueError(
        f"{name}: a PNG of kind {mode} holds no labels; save it with a palette, or as 8-bit grey with values 0 to "
        f"{NUM_CLASSES - 1}"
    )


def open_png(data: bytes, name: str) -> PIL.Image.Image:
    """Open a PNG file and read all of it; ``name`` is for messages.

    Raises:
        ValueError: It is not a PNG file, damaged, or of too many pixels for the memory.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(data), formats=("PNG",))
        image.load()
    except Image.DecompressionBombError:  # a file of a few kilobytes can claim to be larger than any memory
        raise ValueError(f"{name}: too many pixels for a label image") from None
    except UnidentifiedImageError:
        raise ValueError(f"{name}: not a PNG file; labels are read from PNG files only") from None
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's words for damaged files
        raise ValueError(f"{name}: a damaged PNG file ({error})") from None
    return image


def encode_labels(labels: np.ndarray) -> bytes:
    """Encode labels (H, W) of integers 0 to 10 as a PNG file with the palette COLOURS; ValueError for others."""
    from PIL import Image

    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "ui" or not labels.size:
        raise ValueError(f"labels must be whole numbers (H, W), not {labels.dtype} {labels.shape}")
    image = Image.fromarray(_checked(labels, "labels"))
    image.putpalette(COLOURS.tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def write_labels(path: str | os.PathLike[str], labels: np.ndarray) -> None:
    """Write labels (H, W) of integers 0 to 10 as a PNG file, atomically; ValueError for others."""
    write_atomically(path, encode_labels(labels))


def coloured(labels: np.ndarray) -> np.ndarray:
    """Return the colours (…, 3) uint8 of labels (…) 0 to 10."""
    return COLOURS[labels]


def exchanged(labels: np.ndarray) -> np.ndarray:
    """Exchange left and right in labels; every pixel stays where it is."""
    return _EXCHANGED[labels]


def mirrored(labels: np.ndarray) -> np.ndarray:
    """Mirror labels (H, W), exchanging left and right."""
    return np.ascontiguousarray(exchanged(labels[:, ::-1]))


def resized(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize labels (H, W) by nearest neighbour."""
    rows, columns = (
        ((np.arange(wanted) + 0.5) * have / wanted).astype(int)
        for wanted, have in zip((height, width), labels.shape, strict=True)
    )
    return labels[np.ix_(rows, columns)]


def _checked(labels: np.ndarray, name: str) -> np.ndarray:
    if labels.min() < 0 or labels.max() >= NUM_CLASSES:
        wrong = int(labels.max()) if labels.max() >= NUM_CLASSES else int(labels.min())
        raise ValueError(f"{name}: holds the label {wrong}; classes go from 0 to {NUM_CLASSES - 1}")
    return np.ascontiguousarray(labels, dtype=np.uint8)


def _from_indices(indices: np.ndarray, palette: np.ndarray, name: str) -> np.ndarray:
    used = np.unique(indices)
    if used[-1] < len(palette) and len(used) > 1:
        keys, ours = _keys(palette[used]), _keys(COLOURS)
        if len(np.unique(keys)) == len(used) and np.isin(keys, ours).all():
            table = np.zeros(256, np.uint8)
            table[used] = (keys[:, None] == ours).argmax(axis=1)
            return table[indices]
    return _checked(indices, name)


def _from_colours(pixels: np.ndarray, name: str) -> np.ndarray:
    keys = _keys(pixels)
    labels = np.full(keys.shape, NUM_CLASSES, np.uint8)
    for label, key in enumerate(_keys(COLOURS)):
        labels[keys == key] = label
    strange = labels == NUM_CLASSES
    if strange.any():
        row, column = np.argwhere(strange)[0]
        colour = ", ".join(str(value) for value in pixels[row, column])
        raise ValueError(
            f"{name}: {int(strange.sum())} pixels have a colour of no class, first ({colour}) at x={column}, y={row}; "
            "paint without smooth edges, and save as PNG"
        )
    return labels


def _keys(colours: np.ndarray) -> np.ndarray:
    return colours.astype(np.int64) @ (1 << 16, 1 << 8, 1)
