"""Files of pairs of photographs, before and after retouching, matched by name."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from retouch_common.data.portraits import SUFFIXES

logger = logging.getLogger(__name__)

Pair = tuple[Path, Path]
Split = Literal["train", "dev", "val", "test", "all"]


def find_pairs(folder: Path, split: Split = "all") -> list[Pair]:
    """Return the pairs of a folder with raw/ and target/, or with train/raw, train/target, val/raw, ...

    Raises:
        ValueError: there are no such folders, nothing matches, or the split is empty.
    """
    if has_pairs(folder):
        pairs = match(folder / "raw", folder / "target")
        held_out = pairs[::10] if len(pairs) > 1 else []
        chosen = {
            "all": pairs,
            "train": [pair for pair in pairs if pair not in set(held_out)],
            "val": held_out,
            "test": held_out,
        }[split]
        if not chosen:
            raise ValueError(f"{folder}: a single pair cannot be divided; there is nothing for '{split}'")
        return chosen
    present = [name for name in ("train", "val", "test") if has_pairs(folder / name)]
    wanted = present if split == "all" else [split]
    if split == "test" and "test" not in present:
        wanted = ["val"]
    if not present:
        raise ValueError(f"{folder}: has no raw/ and target/")
    if not set(wanted) <= set(present):
        raise ValueError(f"{folder}: has no {wanted[0]}/raw and {wanted[0]}/target")
    return [pair for name in wanted for pair in match(folder / name / "raw", folder / name / "target")]


def match(raw: Path, target: Path) -> list[Pair]:
    """Pair the photographs of two folders by name, whatever their formats, in the order of their names.

    Names include the path below the folder. What has no partner is reported in a warning.

    Raises:
        ValueError: nothing matches, or a folder holds two photographs of one name.
    """
    raws, targets = _by_stem(raw), _by_stem(target)
    common = sorted(raws.keys() & targets.keys())
    if not common:
        raise ValueError(
            f"{target}: none of its {len(targets)} photographs is named like one of the {len(raws)} in {raw}"
        )
    for side, others in ((raws, targets), (targets, raws)):
        alone = sorted(side.keys() - others.keys())
        if alone:
            folder = raw if side is raws else target
            logger.warning("%s: %d without a partner, left out: %s", folder, len(alone), _some(alone))
    return [(raws[name], targets[name]) for name in common]


def has_pairs(folder: Path) -> bool:
    """Whether a folder has raw/ and target/."""
    return (folder / "raw").is_dir() and (folder / "target").is_dir()


def _by_stem(folder: Path) -> dict[str, Path]:
    """Return the photographs below a folder by their path without suffix."""
    found: dict[str, Path] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() not in SUFFIXES or file.name.startswith("."):
            continue
        name = file.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise ValueError(f"{folder}: {found[name].name} and {file.name} have one name; which is meant?")
        found[name] = file
    return found


def _some(names: Iterable[str], limit: int = 5) -> str:
    names = list(names)
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
