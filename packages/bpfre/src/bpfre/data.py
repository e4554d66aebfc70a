"""Section 3.2: few pairs and many unpaired images.

A seeded random split decides which pairs stay pairs. The others become two unpaired streams, one of raw and one of
retouched images, each in its own order. If all pairs stay pairs, the unpaired streams take the images of the pairs.
"""

from collections.abc import Sized
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from retouch_common.data.face_crops import CropConfig
from retouch_common.data.pair_files import Split
from retouch_common.data.pairs import ImagePairs, open_pairs
from retouch_common.data.portraits import find_portraits
from torch.utils.data import Dataset

from bpfre.inpainting import AlignedFaces, InpaintingPairs, subset

FACE_WIDTHS = (210.0, 390.0)  # of faces:DIR, pixels in an image of 512: about as wide as in aligned faces
FACE_REACH = 0.12  # largest distance between the centres of face and image, in widths of the face
FACE_LIFT = 0.07  # of the image's centre above the face's, in heights of the face, as in aligned faces
NATURAL = 0.25  # share of the raw images of faces:DIR that keep the person's own blemishes


@dataclass(frozen=True)
class LimitedPairs:
    """The three training sets.

    Attributes:
        paired: Samples ``dict(raw, target)``.
        raw: Samples of which only ``raw`` is used.
        retouched: Samples of which only ``target`` is used.
        lists: Positions of their images in the data set, for the run directory.
    """

    paired: Dataset[Any]
    raw: Dataset[Any]
    retouched: Dataset[Any]
    lists: dict[str, list[int]]


def open_face_pairs(spec: str, *, size: int, split: Split, seed: int, task: str = "retouching") -> Dataset[Any]:
    """Open a data set of whole faces, ``dict(raw, target)`` of (3, size, size) in [0, 1].

    Args:
        spec: As for :func:`retouch_common.data.pairs.open_pairs`. For inpainting, ``faces:DIR,DIR`` are aligned faces
            (:class:`bpfre.inpainting.AlignedFaces`) and ``pictures:DIR`` is a folder of images, every tenth of which
            is for validation.
        size: Side in pixels.
        split: "train", "val", "test" or "all".
        seed: Of crops, flips, blemishes and strokes.
        task: "retouching", or "inpainting", where raw is the retouched image with white strokes.

    Raises:
        ValueError: If the data cannot be used.
    """
    if task == "inpainting":
        spec = str(spec)
        data: Dataset[Any]
        if spec.startswith("faces:"):
            data = AlignedFaces(spec.removeprefix("faces:"), size=size, split=split, seed=seed)
        elif spec.startswith("pictures:"):
            data = _plain_images(spec.removeprefix("pictures:"), size=size, split=split, seed=seed)
        else:
            data = open_face_pairs(spec, size=size, split=split, seed=seed)
        return InpaintingPairs(data)
    if not str(spec).startswith("faces:"):
        return open_pairs(spec, size=size, split=split, seed=seed, fit="whole")
    crop = CropConfig(
        min_face_width=FACE_WIDTHS[0], max_face_width=FACE_WIDTHS[1], reach=FACE_REACH, lift=FACE_LIFT,
        anywhere_probability=0.0,
    )  # fmt: skip
    return open_pairs(spec, size=size, split=split, seed=seed, crop=crop, natural=NATURAL)


def _plain_images(folder: str, *, size: int, split: Split, seed: int) -> ImagePairs:
    """Open images as both sides of a pair; every tenth is held out for validation."""
    files = find_portraits(folder)
    held_out = set(files[::10]) if len(files) > 1 else set()
    if split != "all":
        files = [file for file in files if (file in held_out) == (split != "train")]
    return ImagePairs([(file, file) for file in files], size=size, fit="whole", augment=split == "train", seed=seed)


def limit_pairs(data: Dataset[Any], *, fraction: float, seed: int) -> LimitedPairs:
    """Keep a share of the pairs and split the others into unpaired images.

    Args:
        data: All pairs; an :class:`ImagePairs` or a data set with ``subset(positions)``.
        fraction: Share of the pairs that stay pairs, rounded, at least one.
        seed: Of the split and of the order of the unpaired images.
    """
    number = len(cast(Sized, data))
    generator = np.random.default_rng((seed, 0x1157))
    order = generator.permutation(number)
    kept = max(1, round(fraction * number))
    paired, rest = sorted(order[:kept].tolist()), order[kept:]
    rest = rest if len(rest) else order
    raw, retouched = generator.permutation(rest).tolist(), generator.permutation(rest).tolist()
    lists = {"paired": paired, "raw": raw, "retouched": retouched}
    streams = {
        name: subset(data, positions, seed=3 * seed + stream)  # or their n-th samples would be augmented alike
        for stream, (name, positions) in enumerate(lists.items())
    }
    return LimitedPairs(lists=lists, **streams)
