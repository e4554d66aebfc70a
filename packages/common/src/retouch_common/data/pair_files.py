"""Files of pairs of photographs, before and after retouching, matched by name."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from retouch_common.errors import joined
from retouch_common.photo.formats import SUFFIXES

logger = logging.getLogger(__name__)

Pair = tuple[Path, Path]
Split = Literal["train", "dev", "val", "test", "all"]


def find_pairs(folder: Path, split: Split = "all") -> list[Pair]:
    """Return the pairs of a folder with raw/ and target/, or with train/raw, train/target, val/raw, ...

    Raises:
        ValueError: There are no such folders, nothing matches, or the split is empty.
    """
    if has_pairs(folder):
        pairs = match(folder / "raw", folder / "target")
        if split == "all":
            return pairs
        held_out = set(pairs[::10]) if len(pairs) > 1 else set()
        chosen = [pair for pair in pairs if (pair in held_out) == (split != "train")]
        if not chosen:
            raise ValueError(f"{folder}: a single pair cannot be divided; there is nothing for '{split}'")
        return chosen
    present = [name for name in ("train", "val", "test") if has_pairs(folder / name)]
    wanted = present if split == "all" else [split]
    stands_for = {"test": "val", "val": "test"}.get(split)
    if split not in present and stands_for in present:
        wanted = [str(stands_for)]
    if not present:
        raise ValueError(f"{folder}: has no raw/ and target/")
    if not set(wanted) <= set(present):
        raise ValueError(f"{folder}: has no {wanted[0]}/raw and {wanted[0]}/target")
    return [pair for name in wanted for pair in match(folder / name / "raw", folder / name / "target")]


def match(raw: Path, target: Path) -> list[Pair]:
    """Pair the photos of two folders by their paths without suffix, sorted; warn of those without a partner.

    Raises:
        ValueError: Nothing matches, or a folder holds two photos of one name.
    """
    raws, targets = _by_stem(raw), _by_stem(target)
    common = sorted(raws.keys() & targets.keys())
    if not common:
        raise ValueError(
            f"{target}: none of its {len(targets)} photographs is named like one of the {len(raws)} in {raw}"
        )
    for folder, side, others in ((raw, raws, targets), (target, targets, raws)):
        unpaired = sorted(side.keys() - others.keys())
        if unpaired:
            logger.warning("%s: %d without a partner, skipped: %s", folder, len(unpaired), joined(unpaired, ", "))
    return [(raws[name], targets[name]) for name in common]


def has_pairs(folder: Path) -> bool:
    """Whether a folder has raw/ and target/."""
    return (folder / "raw").is_dir() and (folder / "target").is_dir()


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() not in SUFFIXES or file.name.startswith("."):
            continue
        name = file.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise ValueError(
                f"{folder}: {found[name].name} and {file.name} differ in their suffix alone; keep one of them"
            )
        found[name] = file
    return found
