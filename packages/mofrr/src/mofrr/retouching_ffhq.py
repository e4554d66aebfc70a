"""RetouchingFFHQ and MoFRR's extension of it, as published: files and their operations.

Ying et al., "RetouchingFFHQ", ACM MM 2023; its authors give the images out on request. The layout is

    DIR/Whitening_60/00012/00012345.png      one operation, its magnitude 30, 60 or 90 in the folder's name
    DIR/*.txt                                lines "{'EyeEnlarging': 60, 'Smoothing': 30}<TAB>PATH", PATH below DIR
    DIR/ori/.../00012345.png                 the originals; the folder may be original, ffhq or images1024x1024

The folders and text files of a program may lie in a folder of their own, as published: FFHQ_megvii_dual_process. Then
paths may also be absolute ones of another machine; what follows below DIR counts. An image's program (its API) is named
in its path or file name (``megvii_00012345.png``), see :data:`APIS`.

``mofrr-simulate`` writes the same without programs. Other operations (LipPlumping_60) are read likewise. An image
belongs to the original whose number its name ends with. Folders named train, val and test define the split of an
original and of its retouched images; otherwise originals are split 8:1:1 by the thousands of their numbers. Without
test images, "test" is "val", and the other way round.
"""

import ast
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from retouch_common.data.pair_files import Split
from retouch_common.photo.formats import SUFFIXES

logger = logging.getLogger(__name__)

NAMES = {"Whitening": "white", "Smoothing": "smooth", "FaceLifting": "lift", "EyeEnlarging": "eye"}
MAGNITUDES = (30, 60, 90)
ORIGINALS = ("ori", "original", "originals", "ffhq", "FFHQ", "images1024x1024")
APIS = {
    "megvii": re.compile(r"(?<![a-z])megvii(?![a-z])", re.IGNORECASE),
    "alibaba": re.compile(r"(?<![a-z])ali(baba)?(?![a-z])", re.IGNORECASE),
    "portrait": re.compile(r"(?<![a-z])portrait(pro)?(?![a-z])", re.IGNORECASE),
    "tencent": re.compile(r"(?<![a-z])tencent(?![a-z])|(?<![a-z])FFHQ(_dual|_three|_four)?_process", re.IGNORECASE),
}
"""The programs of the data set, and what their images have in their paths; Tencent's published folders name none."""
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
        api: The program, a key of :data:`APIS`; empty for originals and where the path names none.
    """

    file: Path
    original: Path
    magnitudes: dict[str, int]
    api: str = ""


def find_retouched(folder: Path, split: Split = "all", apis: Sequence[str] = ()) -> list[Retouched]:
    """Return the images of a split and their originals, sorted by path.

    Args:
        folder: DIR.
        split: "train", "val", "test" or "all".
        apis: Programs whose images are taken, keys of :data:`APIS`; empty takes all. Originals are always taken.

    Raises:
        ValueError: There are no originals, no retouched images, none in the split or of the programs, a program is
            unknown, or a line of a text file is not a label.
    """
    unknown = sorted(set(apis) - set(APIS))
    if unknown:
        raise ValueError(f"unknown API {', '.join(unknown)}; choose from {', '.join(APIS)}")
    root = next((folder / name for name in ORIGINALS if (folder / name).is_dir()), None)
    if root is None:
        raise ValueError(f"{folder}: no folder of originals (one of {', '.join(ORIGINALS)})")
    originals = {number: file for file in _images(root) if (number := _number(file)) is not None}
    found, skipped = [], 0
    for file, magnitudes in _labelled(folder):
        number = _number(file)
        if number in originals:
            found.append(Retouched(file, originals[number], magnitudes, api_of(file.relative_to(folder))))
        else:
            skipped += 1
    if skipped:
        logger.warning("%s: %d images have no original and are skipped", folder, skipped)
    if not found:
        raise ValueError(f"{folder}: no retouched images (folders such as Whitening_60, or text files of labels)")
    found += [Retouched(file, file, {}) for file in originals.values()]
    found.sort(key=lambda image: image.file)
    splits = _splits(found, originals, folder)
    part: str = split
    measured = {"test", "val"} & set(splits.values())
    if split in ("test", "val") and len(measured) == 1:
        (part,) = measured
    chosen = [image for image in found if part in ("all", splits[image.original])]
    if not chosen:
        raise ValueError(f"{folder}: nothing belongs to the split {split!r}")
    if not apis:
        return chosen
    kept = [image for image in chosen if not image.magnitudes or image.api in apis]
    if not any(image.magnitudes for image in kept):
        raise ValueError(f"{folder}: no image of {', '.join(apis)} in the split {split!r}")
    return kept


def api_of(path: Path) -> str:
    """Return the program named in an image's path below DIR, see :data:`APIS`; empty if none is."""
    return next((name for name, pattern in APIS.items() if pattern.search(path.as_posix())), "")


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
    for part in _sources(folder):
        named = _FOLDER.fullmatch(part.name)
        if part.is_dir() and named:
            magnitude = _magnitude(named[2], str(part))
            for file in _images(part):
                yield file, {operation_of(named[1]): magnitude}
        elif part.suffix == ".txt":
            for number, line in enumerate(part.read_text(encoding="utf-8").splitlines(), 1):
                if line.strip():
                    yield _label(folder, line, f"{part}, line {number}")


def _sources(folder: Path) -> Iterator[Path]:
    """Yield the folders of operations and the text files in DIR and in its programs' folders."""
    for part in sorted(folder.iterdir()):
        if part.suffix == ".txt" or _FOLDER.fullmatch(part.name):
            yield part
        elif part.is_dir() and part.name not in ORIGINALS:
            yield from sorted(p for p in part.iterdir() if p.suffix == ".txt" or _FOLDER.fullmatch(p.name))


def _label(folder: Path, line: str, place: str) -> tuple[Path, dict[str, int]]:
    try:
        text, path = line.rstrip().split("\t")
        given = ast.literal_eval(text)  # literals only
        applied = {operation_of(name): value for name, value in given.items() if str(value) != "0"}
    except (ValueError, KeyError, SyntaxError, AttributeError, TypeError):
        raise ValueError(f"{place}: not a label such as {{'EyeEnlarging': 60}}, a tab and a path") from None
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
    ends = (folder.joinpath(*parts[start:]) for start in range(len(parts)))
    file = next((end for end in ends if end.is_file()), None)
    if file is None:
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
