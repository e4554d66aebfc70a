"""RetouchingFFHQ and MoFRR's extension of it, as published: files and their operations.

Ying et al., "RetouchingFFHQ", ACM MM 2023; its authors give the images out on request. The layout is

    DIR/Whitening_60/00012/00012345.png      one operation, its magnitude 30, 60 or 90 in the folder's name
    DIR/*.txt                                lines "{'EyeEnlarging': 60, 'Smoothing': 30}<TAB>PATH", PATH below DIR
    DIR/ori/.../00012345.png                 the originals; the folder may be original, ffhq or images1024x1024

``mofrr-simulate`` writes the same. Other operations (LipPlumping_60) are read likewise. An image belongs to the
original whose number its name ends with. Folders named train, val and test define the split of an original and of its
retouched images; otherwise originals are split 8:1:1 by the thousands of their numbers. Without test images, "test" is
"val".
"""

import ast
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from retouch_common.data.pair_files import Split
from retouch_common.data.portraits import SUFFIXES

logger = logging.getLogger(__name__)

NAMES = {"Whitening": "white", "Smoothing": "smooth", "FaceLifting": "lift", "EyeEnlarging": "eye"}
MAGNITUDES = (30, 60, 90)
ORIGINALS = ("ori", "original", "originals", "ffhq", "images1024x1024")
SPLITS = ("train", "val", "test")
_FOLDER = re.compile(r"((?:[A-Z][a-z]+)+)_(\d+)")
_NUMBER = re.compile(r"\d+$")


@dataclass(frozen=True)
class Retouched:
    """A retouched image, or an original as its own original.

    Attributes:
        file: The image.
        original: Its original.
        magnitudes: 1, 2 or 3 by operation; only those applied.
    """

    file: Path
    original: Path
    magnitudes: dict[str, int]


def find_retouched(folder: Path, split: Split = "all") -> list[Retouched]:
    """Return the images of a split and their originals, sorted by path.

    Args:
        folder: DIR.
        split: "train", "val", "test" or "all".

    Raises:
        ValueError: There are no originals, no retouched images, none in the split, or a line of a text file is not a
            label.
    """
    root = next((folder / name for name in ORIGINALS if (folder / name).is_dir()), None)
    if root is None:
        raise ValueError(f"{folder}: no folder of originals (one of {', '.join(ORIGINALS)})")
    originals = {number: file for file in _images(root) if (number := _number(file)) is not None}
    found, skipped = [], 0
    for file, magnitudes in _labelled(folder):
        number = _number(file)
        if number in originals:
            found.append(Retouched(file, originals[number], magnitudes))
        else:
            skipped += 1
    if skipped:
        logger.warning("%s: %d images have no original and are skipped", folder, skipped)
    if not found:
        raise ValueError(f"{folder}: no retouched images (folders such as Whitening_60, or text files of labels)")
    found += [Retouched(file, file, {}) for file in originals.values()]
    found.sort(key=lambda image: image.file)
    splits = _splits(found, originals, folder)
    if split == "test" and "test" not in splits.values() and "val" in splits.values():
        split = "val"
    chosen = [image for image in found if split in ("all", splits[image.original])]
    if not chosen:
        raise ValueError(f"{folder}: nothing belongs to the split {split!r}")
    return chosen


def operation_of(name: str) -> str:
    """Return the operation of a name in the data set; other names become snake case: lip_plumping.

    Raises:
        KeyError: The name is not of that form.
    """
    if name in NAMES:
        return NAMES[name]
    if not _FOLDER.fullmatch(f"{name}_0"):
        raise KeyError(name)
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _labelled(folder: Path) -> Iterator[tuple[Path, dict[str, int]]]:
    """Yield every image that a folder's name or a text file labels, with its magnitudes."""
    for part in sorted(folder.iterdir()):
        named = _FOLDER.fullmatch(part.name)
        if part.is_dir() and named:
            magnitude = _magnitude(named[2], str(part))
            for file in _images(part):
                yield file, {operation_of(named[1]): magnitude}
        elif part.suffix == ".txt":
            for number, line in enumerate(part.read_text(encoding="utf-8").splitlines(), 1):
                if line.strip():
                    yield _label(folder, line, f"{part}, line {number}")


def _label(folder: Path, line: str, place: str) -> tuple[Path, dict[str, int]]:
    try:
        text, path = line.rstrip().split("\t")
        given = ast.literal_eval(text)  # literals only
        applied = {operation_of(name): value for name, value in given.items() if str(value) != "0"}
    except (ValueError, KeyError, SyntaxError, AttributeError, TypeError):
        raise ValueError(f"{place}: not a label such as {{'EyeEnlarging': 60}}, a tab and a path") from None
    file = folder / path
    if not file.is_file() or not file.is_relative_to(folder):
        raise ValueError(f"{place}: there is no {path} below {folder}")
    return file, {operation: _magnitude(value, place) for operation, value in applied.items()}


def _magnitude(value: object, place: str) -> int:
    """Map 30, 60 or 90 to 1, 2 or 3."""
    if str(value) not in map(str, MAGNITUDES):
        raise ValueError(f"{place}: a magnitude is 30, 60 or 90, not {value}")
    return MAGNITUDES.index(int(str(value))) + 1


def _images(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())


def _number(file: Path) -> int | None:
    number = _NUMBER.search(file.stem)
    return int(number[0]) if number else None


def _splits(found: list[Retouched], originals: dict[int, Path], folder: Path) -> dict[Path, str]:
    """Return the split of every original: by its folders, by those of its retouched images, or by its number."""
    splits: dict[Path, str] = {}
    for image in found:
        parts = (*image.original.relative_to(folder).parts, *image.file.relative_to(folder).parts)
        named = next((part for part in parts if part in SPLITS), None)
        if named:
            splits.setdefault(image.original, named)
    thousands = sorted({number // 1000 for number in originals})
    tenths = {thousand: index * 10 // len(thousands) for index, thousand in enumerate(thousands)}
    for number, original in originals.items():
        tenth = tenths[number // 1000]
        splits.setdefault(original, "train" if tenth < 8 else "val" if tenth == 8 else "test")
    return splits
