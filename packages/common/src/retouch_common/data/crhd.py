"""CRHD-3K: 3,022 clothing photographs up to 6K and their retouched versions, in the published layout.

Lei et al., "ABPN: adaptive blend pyramid network for real-time local retouching of ultra high-resolution
photo", CVPR 2022; for non-commercial research. ``src.zip`` and ``gt.zip``, unpacked side by side, hold JPEG
files of equal names::

    DIR/src/NAME.jpg     raw
    DIR/gt/NAME.jpg      retouched

The paper draws 2,522 pairs for training and 500 for testing at random and does not publish the lists. Here the names
are sorted by their SHA-256, and the first 500 of 3,022 (the same share of a smaller set) are the test set, which
depends on nothing but the names. There is no validation set: "val" is the test set.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from retouch_common.data.pair_files import Pair, Split, match

_TOTAL, _TEST = 3022, 500


def is_crhd(folder: Path) -> bool:
    """Whether ``folder`` has the two folders of CRHD-3K."""
    return (folder / "src").is_dir() and (folder / "gt").is_dir()


def find_crhd(folder: Path, split: Split = "all") -> list[Pair]:
    """Return the pairs of a split in the order of their names.

    Raises:
        ValueError: The folders are missing, or the split has no pair.
    """
    if not is_crhd(folder):
        packed = [name for name in ("src.zip", "gt.zip") if (folder / name).is_file()]
        hint = f"; unpack {' and '.join(packed)} there" if packed else ""
        raise ValueError(f"{folder}: has no folders src and gt{hint}")
    pairs = match(folder / "src", folder / "gt")
    shuffled = sorted(pairs, key=lambda pair: hashlib.sha256(pair[0].stem.encode()).digest())
    test = set(shuffled[: max(1, round(len(pairs) * _TEST / _TOTAL))])
    if split == "all":
        return pairs
    chosen = [pair for pair in pairs if (pair in test) == (split != "train")]
    if not chosen:
        raise ValueError(f"{folder}: a single pair cannot be divided; there is nothing for '{split}'")
    return chosen
