"""FFHQR: FFHQ's 70,000 portraits and their professionally retouched versions, in the published layout.

Shafaei, Little, Schmidt, "AutoRetouch: automatic professional face retouching", WACV 2021; CC BY-NC-SA 4.0.
The raw images are FFHQ's ``images1024x1024``; the retouched ones come in seven tar files of 10,000. Both name an image
by its number, with or without the folder of its thousand::

    DIR/images1024x1024/00000/00000.png     FFHQ
    DIR/image_retouched/00000/00000.png     FFHQR (also found: images_retouched, ffhqr, ffhqr/images1024x1024)

The authors split by thousands: 00000-55000 for training, 56000-62000 for validation, 63000-69000 for testing.
"""

from __future__ import annotations

import logging
from pathlib import Path

from retouch_common.data.pair_files import Pair, Split

logger = logging.getLogger(__name__)

_RAW = ("images1024x1024", "ffhq/images1024x1024", "ffhq-dataset/images1024x1024", "ffhq")
_RETOUCHED = ("image_retouched", "images_retouched", "ffhqr/images1024x1024", "ffhqr-dataset/images1024x1024", "ffhqr")
_NUMBERS = {"train": (0, 56000), "val": (56000, 63000), "test": (63000, 70000), "all": (0, 70000)}


def is_ffhqr(folder: Path) -> bool:
    """Whether ``folder`` looks like FFHQ beside FFHQR."""
    return _first(folder, _RAW) is not None and _first(folder, _RETOUCHED) is not None


def find_ffhqr(folder: Path, split: Split = "all") -> list[Pair]:
    """Return the pairs of a split in the order of their numbers; numbers without a partner are skipped with a warning.

    Raises:
        ValueError: The folders are missing, or the split has no pair.
    """
    raw, retouched = _first(folder, _RAW), _first(folder, _RETOUCHED)
    if raw is None or retouched is None:
        missing = "images1024x1024 (FFHQ)" if raw is None else "image_retouched (FFHQR)"
        raise ValueError(f"{folder}: has no folder {missing}")
    first, last = _NUMBERS[split]
    raws, targets = _by_number(raw, first, last), _by_number(retouched, first, last)
    common = sorted(raws.keys() & targets.keys())
    if not common:
        raise ValueError(
            f"{folder}: no pairs in the {split} split, numbers {first:05d} to {last - 1:05d} "
            f"({len(raws)} of them in {raw.name}, {len(targets)} in {retouched.name})"
        )
    unpaired = len(raws) + len(targets) - 2 * len(common)
    if unpaired:
        logger.warning("%s: %d images of the %s split have no partner and are skipped", folder, unpaired, split)
    return [(raws[number], targets[number]) for number in common]


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _by_number(folder: Path, first: int, last: int) -> dict[int, Path]:
    found = {}
    for file in folder.rglob("*.png"):
        if len(file.stem) == 5 and file.stem.isdigit() and first <= int(file.stem) < last:
            found[int(file.stem)] = file
    return found
