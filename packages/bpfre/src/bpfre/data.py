"""Section 3.2: few pairs, many pictures without a partner.

A seeded draw decides which pairs stay pairs. The others are taken apart: their raw pictures form one stream, their
retouched ones another, each in an order of its own. All streams are endless, so no share of pairs, not even 100 %,
leaves one of them empty: without unpaired pictures the two streams go over the pairs' own.
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

from bpfre.aligned_faces import AlignedFaces
from bpfre.inpainting import InpaintingPairs

FACE_WIDTHS = (210.0, 390.0)  # of faces:DIR, pixels in a picture of 512: as aligned faces are, and somewhat around it
FACE_REACH = 0.12  # widths of the face between its centre and the picture's, at most
FACE_LIFT = 0.07  # heights of the face that the picture's centre lies above its own in aligned faces
NATURAL = 0.25  # share of faces:DIR's raw pictures that keep the person's own blemishes


@dataclass(frozen=True)
class LimitedPairs:
    """The three streams.

    Attributes:
        paired: Samples dict(raw, target).
        raw: Samples of which only ``raw`` is used.
        retouched: Samples of which only ``target`` is used.
        lists: Positions of each stream's pictures in the data set, for the run directory.
    """

    paired: Dataset[Any]
    raw: Dataset[Any]
    retouched: Dataset[Any]
    lists: dict[str, list[int]]


def open_data(spec: str, *, size: int, split: Split, seed: int, task: str = "retouching") -> Dataset[Any]:
    """Open pictures of whole faces, ``dict(raw, target)`` of (3, size, size) in [0, 1].

    Args:
        spec: What :func:`retouch_common.data.pairs.open_pairs` reads. For inpainting ``faces:DIR,DIR`` gives aligned
            faces, see :class:`bpfre.aligned_faces.AlignedFaces`, and ``pictures:DIR`` a folder of plain images, every
            tenth of which is for validation.
        size: Side in pixels.
        split: "train", "val", "test" or "all".
        seed: Of crops, flips, blemishes and strokes.
        task: "retouching", or "inpainting": raw is the retouched picture with white strokes.

    Raises:
        ValueError: Unusable data.
    """
    if task == "inpainting":
        spec = str(spec)
        data: Dataset[Any]
        if spec.startswith("faces:"):
            data = AlignedFaces(spec.removeprefix("faces:"), size=size, split=split, seed=seed)
        elif spec.startswith("pictures:"):
            data = _plain_pictures(spec.removeprefix("pictures:"), size=size, split=split, seed=seed)
        else:
            data = open_data(spec, size=size, split=split, seed=seed)
        return InpaintingPairs(data, seed=seed)
    if not str(spec).startswith("faces:"):
        return open_pairs(spec, size=size, split=split, seed=seed, fit="whole")
    crop = CropConfig(
        min_face_width=FACE_WIDTHS[0], max_face_width=FACE_WIDTHS[1], reach=FACE_REACH, lift=FACE_LIFT,
        anywhere_probability=0.0,
    )  # fmt: skip
    return open_pairs(spec, size=size, split=split, seed=seed, crop=crop, natural=NATURAL)


def _plain_pictures(folder: str, *, size: int, split: Split, seed: int) -> ImagePairs:
    """Plain pictures that stand for both sides of a pair; every tenth is held out."""
    pictures = find_portraits(folder)
    held_out = set(pictures[::10]) if len(pictures) > 1 else set()
    if split != "all":
        pictures = [picture for picture in pictures if (picture in held_out) == (split != "train")]
    pairs = [(picture, picture) for picture in pictures]
    return ImagePairs(pairs, size=size, fit="whole", augment=split == "train", seed=seed)


def limit_pairs(data: Dataset[Any], *, fraction: float, seed: int) -> LimitedPairs:
    """Keep a share of the pairs and take the others apart.

    Args:
        data: All pairs; a dataset with ``subset(positions)`` or an :class:`ImagePairs`.
        fraction: Share of the pairs that stay pairs, rounded, at least one.
        seed: Of the draw and of the two shuffles.
    """
    number = len(cast(Sized, data))
    generator = np.random.default_rng((seed, 0x1157))
    order = generator.permutation(number)
    kept = max(1, round(fraction * number))
    paired, rest = sorted(order[:kept].tolist()), order[kept:]
    rest = rest if len(rest) else order
    raw, retouched = generator.permutation(rest).tolist(), generator.permutation(rest).tolist()
    lists = {"paired": paired, "raw": raw, "retouched": retouched}
    # Seeds of their own: or the n-th samples of all streams would be drawn alike.
    streams = {
        name: _subset(data, positions, seed=3 * seed + number) for number, (name, positions) in enumerate(lists.items())
    }
    return LimitedPairs(lists=lists, **streams)


def _subset(data: Any, positions: list[int], *, seed: int) -> Dataset[Any]:
    if isinstance(data, ImagePairs):
        return ImagePairs(
            [data.pairs[p] for p in positions], size=data.size, fit=data.fit, augment=data.augment, seed=seed
        )
    part = data.subset(positions)
    part.seed = seed
    return part
