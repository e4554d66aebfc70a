"""Labelled data sets of others as folders that training reads: ``images/NAME.jpg`` and ``labels/NAME.png``.

All of them end in the 11 classes of :mod:`retouch_common.parsing.labels`. Left and right are told by where the parts
are in the picture, since data sets differ in whose left they mean.

Layouts, as published:

- Helen (Smith et al., CVPR 2013): ``images/NAME.jpg``, ``labels/NAME/NAME_lbl00.png`` to ``_lbl10.png``, the
  probability of every class; ``exemplars.txt``, ``tuning.txt`` and ``testing.txt`` with lines ``number , NAME``.
- Relabelled Helen: ``NAME_image.jpg`` and ``NAME_label.png`` with the classes as grey values, in folders ``train``,
  ``test`` or ``val``.
- CelebAMask-HQ (Lee et al., CVPR 2020): ``CelebA-HQ-img/N.jpg`` and ``CelebAMask-HQ-mask-anno/K/NNNNN_PART.png``, white
  where the part is; PART is one of 18.
- LaPa (Liu et al., AAAI 2020): ``{train,val,test}/images/NAME.jpg`` and ``labels/NAME.png``, the 11 classes.
- templates: portraits with `.tem` files of 189 points beside them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retouch_common.data.faces import find_portraits
from retouch_common.files import write_atomically
from retouch_common.parsing.labels import CLASSES, NUM_CLASSES, read_labels, write_labels

__all__ = ["CELEBAMASK_PARTS", "KINDS", "convert", "left_is_left"]

CELEBAMASK_PARTS: dict[str, str] = {
    "skin": "skin",
    "l_brow": "brow_left",
    "r_brow": "brow_right",
    "l_eye": "eye_left",
    "r_eye": "eye_right",
    "eye_g": "background",
    "l_ear": "background",
    "r_ear": "background",
    "ear_r": "background",
    "nose": "nose",
    "mouth": "mouth",
    "u_lip": "upper_lip",
    "l_lip": "lower_lip",
    "neck": "background",
    "neck_l": "background",
    "cloth": "background",
    "hair": "hair",
    "hat": "background",
}
"""Class of each of CelebAMask-HQ's parts, in the order in which later ones lie over earlier ones."""

_SPLITS = {"exemplars.txt": "train", "tuning.txt": "val", "testing.txt": "test"}
_PICTURES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Item:
    """One picture of a data set.

    Attributes:
        picture: Its file.
        split: "train", "val", "test", or empty if the data set is not split.
        labels: Makes its (H, W) uint8 labels.
        name: Of what is written.
    """

    picture: Path
    split: str
    labels: Callable[[], np.ndarray]
    name: str


def convert(kind: str, source: str | Path, out: str | Path, *, report: Callable[[str], None] = print) -> int:
    """Write a data set as folders that :func:`retouch_common.parsing.data.open_data` reads.

    Args:
        kind: A key of :data:`KINDS`.
        source: The data set as published.
        out: Folder to write; a data set that is split becomes ``out/train`` and so on. Pictures are copied as they
            are; those whose labels are there already are passed over.
        report: Receives lines for the user.

    Returns:
        How many pictures there are in ``out`` now.

    Raises:
        ValueError: No such kind, no such data set, or a file that cannot be read.
        OSError: ``out`` cannot be written.
    """
    from retouch_common.cli import progress_bar

    source, out = Path(source), Path(out)
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of data set; there are {', '.join(KINDS)}")
    if not source.is_dir():
        raise ValueError(f"{source}: no such folder")
    items = list(KINDS[kind](source))
    if not items:
        raise ValueError(f"{source}: holds no pictures laid out as {kind} is published")
    left_out = []
    with progress_bar(unit="pictures") as bar:
        for item in bar.track(items, description="Converting"):
            folder = out / item.split
            file = folder / "labels" / f"{item.name}.png"
            if file.is_file():
                continue
            try:
                labels = _like_picture(left_is_left(item.labels()), item.picture)
            except _LeftOut as error:
                left_out.append(str(error))
                continue
            for name in ("images", "labels"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            picture = folder / "images" / f"{item.name}{item.picture.suffix.lower()}"
            write_atomically(picture, item.picture.read_bytes())
            write_labels(file, labels)  # last: what has labels is complete
    for line in left_out:
        report(f"left out: {line}")
    report(f"{len(items) - len(left_out)} pictures with labels in {out}")
    return len(items) - len(left_out)


def left_is_left(labels: np.ndarray) -> np.ndarray:
    """Labels with left and right brow, and left and right eye, exchanged where the left one lies on the right.

    Args:
        labels: (H, W) uint8.

    Returns:
        The same, or changed labels; a single brow or eye stays what it is called.
    """
    result = labels
    for name in ("brow", "eye"):
        left, right = CLASSES.index(f"{name}_left"), CLASSES.index(f"{name}_right")
        columns = [np.nonzero(labels == part)[1] for part in (left, right)]
        if all(map(len, columns)) and columns[0].mean() > columns[1].mean():
            result = result.copy() if result is labels else result
            result[labels == left], result[labels == right] = right, left
    return result


class _LeftOut(Exception):
    """A picture for which there are no labels; the message names it and says why."""


def _helen(source: Path) -> Iterator[Item]:
    pictures = {path.stem: path for path in _pictures(source) if "_lbl" not in path.stem}
    splits: dict[str, str] = {}
    for list_name, split in _SPLITS.items():
        for file in source.rglob(list_name):
            for line in file.read_text(encoding="utf-8").splitlines():
                if line.strip():
                    splits[line.rpartition(",")[2].strip()] = split
    for first in sorted(source.rglob("*_lbl00.png")):
        name = first.name.removesuffix("_lbl00.png")
        if name not in pictures:
            raise ValueError(f"{first}: there is no picture {name}.jpg for these labels")
        files = [first.with_name(f"{name}_lbl{number:02d}.png") for number in range(NUM_CLASSES)]
        yield Item(pictures[name], splits.get(name, "train") if splits else "", lambda f=files: _most_likely(f), name)  # type: ignore[misc]


def _most_likely(files: list[Path]) -> np.ndarray:
    """The class of the highest probability; the first where several are equal."""
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise ValueError(f"{missing[0]}: missing; Helen's labels are {NUM_CLASSES} files for every picture")
    planes = [_grey(file) for file in files]
    if len({plane.shape for plane in planes}) > 1:
        raise ValueError(f"{files[0]}: its classes have pictures of different sizes")
    return np.stack(planes).argmax(axis=0).astype(np.uint8)


def _helen_relabelled(source: Path) -> Iterator[Item]:
    for file in sorted(source.rglob("*_label.png")):
        name = file.name.removesuffix("_label.png")
        picture = next(
            (file.with_name(f"{name}_image{s}") for s in _PICTURES if file.with_name(f"{name}_image{s}").is_file()),
            None,
        )
        if picture is None:
            raise ValueError(f"{file}: there is no picture {name}_image.jpg beside it")
        folders = [folder.name for folder in file.parents if folder != source and source in folder.parents]
        split = next((part for part in folders if part in _SPLITS.values()), "")
        yield Item(picture, split, lambda f=file: read_labels(f), name)  # type: ignore[misc]


def _celebamask(source: Path) -> Iterator[Item]:
    parts: dict[int, dict[str, Path]] = {}
    for file in sorted(source.rglob("*.png")):
        found = re.fullmatch(r"(\d+)_(\w+)\.png", file.name)
        if found:
            if found[2] not in CELEBAMASK_PARTS:
                raise ValueError(f"{file}: {found[2]!r} is none of CelebAMask-HQ's parts")
            parts.setdefault(int(found[1]), {})[found[2]] = file
    pictures = {int(path.stem): path for path in _pictures(source) if path.stem.isdigit()}
    for number in sorted(parts):
        if number not in pictures:
            raise ValueError(f"{next(iter(parts[number].values()))}: there is no picture {number}.jpg for these parts")
        yield Item(pictures[number], "", lambda p=parts[number]: _painted(p), f"{number:05d}")  # type: ignore[misc]


def _painted(files: dict[str, Path]) -> np.ndarray:
    """One part over the other."""
    labels: np.ndarray | None = None
    for part, name in CELEBAMASK_PARTS.items():
        if part not in files:
            continue
        mask = _grey(files[part]) > 127
        if labels is None:
            labels = np.zeros(mask.shape, np.uint8)
        if mask.shape != labels.shape:
            raise ValueError(f"{files[part]}: {mask.shape[1]}x{mask.shape[0]} pixels, other parts differ")
        labels[mask] = CLASSES.index(name)
    assert labels is not None
    return labels


def _lapa(source: Path) -> Iterator[Item]:
    for split in _SPLITS.values():
        for file in sorted((source / split / "labels").glob("*.png")):
            picture = next(
                (
                    source / split / "images" / f"{file.stem}{suffix}"
                    for suffix in _PICTURES
                    if (source / split / "images" / f"{file.stem}{suffix}").is_file()
                ),
                None,
            )
            if picture is None:
                raise ValueError(f"{file}: there is no picture {file.stem}.jpg in {source / split / 'images'}")
            yield Item(picture, split, lambda f=file: read_labels(f), file.stem)  # type: ignore[misc]


def _templates(source: Path) -> Iterator[Item]:
    for picture in find_portraits(source):
        file = picture.with_suffix(".tem")
        if file.is_file():
            name = "_".join(picture.relative_to(source).with_suffix("").parts)
            yield Item(picture, "", lambda p=picture, f=file: _rasterised(p, f), name)  # type: ignore[misc]


def _rasterised(picture: Path, file: Path) -> np.ndarray:
    from retouch_common.data.face_cache import read_levels
    from retouch_common.data.webmorph import read_template
    from retouch_common.parsing.templates import NotPlain, labels_of_photo

    try:
        return labels_of_photo(read_levels(picture), read_template(file))
    except NotPlain as error:
        raise _LeftOut(f"{picture}: {error}") from error


KINDS: dict[str, Callable[[Path], Iterator[Item]]] = {
    "helen": _helen,
    "helen-relabelled": _helen_relabelled,
    "celebamask-hq": _celebamask,
    "lapa": _lapa,
    "templates": _templates,
}
"""What can be converted."""


def _pictures(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in _PICTURES and path.is_file())


def _grey(file: Path) -> np.ndarray:
    """(H, W) uint8 of an 8-bit grey PNG, one that says so or one with three equal channels."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file, formats=("PNG",)) as picture:
            return np.array(picture.convert("L"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{file}: not a PNG file that can be read ({error})") from None


def _like_picture(labels: np.ndarray, picture: Path) -> np.ndarray:
    """Labels at the picture's size; CelebAMask-HQ's are half as large as its pictures."""
    from retouch_common.photo.io import Photo

    photo = Photo.open(picture)
    if labels.shape == (photo.height, photo.width):
        return labels
    if abs(labels.shape[1] / labels.shape[0] - photo.width / photo.height) > 0.01:
        sizes = f"{labels.shape[1]}x{labels.shape[0]} for a picture of {photo.width}x{photo.height}"
        raise ValueError(f"{picture}: its labels have {sizes} pixels")
    rows, columns = (
        ((np.arange(wanted) + 0.5) * have / wanted).astype(int)
        for wanted, have in zip((photo.height, photo.width), labels.shape, strict=True)
    )
    return labels[np.ix_(rows, columns)]
