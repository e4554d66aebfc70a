"""Labelled data sets converted to folders that training reads: ``images/NAME.jpg`` and ``labels/NAME.png``.

All labels become the 11 classes of :mod:`retouch_common.parsing.labels`. Left and right follow from the positions of
the parts, since data sets differ in whose left they mean. Layouts, as published:

- Helen (Smith et al., CVPR 2013): ``images/NAME.jpg``, ``labels/NAME/NAME_lbl00.png`` to ``_lbl10.png``, the
  probability of every class; ``exemplars.txt``, ``tuning.txt`` and ``testing.txt`` with lines ``number , NAME``.
- Relabelled Helen: ``NAME_image.jpg`` and ``NAME_label.png`` with the classes as grey values, in folders ``train``,
  ``test`` or ``val``.
- CelebAMask-HQ (Lee et al., CVPR 2020): ``CelebA-HQ-img/N.jpg`` and ``CelebAMask-HQ-mask-anno/K/NNNNN_PART.png``, white
  where the part is; PART is one of 18.
- LaPa (Liu et al., AAAI 2020): ``{train,val,test}/images/NAME.jpg`` and ``labels/NAME.png``, the 11 classes.
- templates: portraits beside `.tem` files of 189 points; people are split as ``faces:DIR`` splits them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from retouch_common.data.portraits import find_portraits, split_portraits
from retouch_common.files import write_atomically
from retouch_common.parsing.labels import CLASSES, NUM_CLASSES, exchanged, open_png, read_labels, resized, write_labels
from retouch_common.training.fingerprint import refuse_output_in_data

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
"""Classes of CelebAMask-HQ's parts; later ones lie over earlier ones."""

_SPLITS = {"exemplars.txt": "train", "tuning.txt": "val", "testing.txt": "test"}
_SUFFIXES = (".jpg", ".jpeg", ".png")

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Item:
    """One image of a data set.

    Attributes:
        image: Its file.
        split: "train", "val", "test", or empty if the data set is not split.
        labels: Returns its (H, W) uint8 labels.
        name: Name of the output files.
    """

    image: Path
    split: str
    labels: Callable[[], np.ndarray]
    name: str


def convert(kind: str, source: str | Path, out: str | Path, *, report: Callable[[str], None] = print) -> int:
    """Convert a data set to folders that :func:`retouch_common.parsing.data.open_data` reads.

    Args:
        kind: A key of :data:`KINDS`.
        source: The data set as published.
        out: Folder to write, with subfolders ``train`` and so on if the data set is split. Images are copied; those
            that have labels already are skipped, those whose labels cannot be read or made are left out.
        report: Receives lines for the user.

    Returns:
        The number of images in ``out``.

    Raises:
        ValueError: No such kind or data set, ``out`` is inside it, two images of one name, or images were left out.
        OSError: ``out`` cannot be written.
    """
    from retouch_common.errors import error_line, printable
    from retouch_common.progress import progress_bar

    source, out = Path(source), Path(out)
    if kind not in KINDS:
        raise ValueError(f"unknown kind of data set {kind!r}; choose from {', '.join(KINDS)}")
    if not source.is_dir():
        raise ValueError(f"{source}: no such folder")
    refuse_output_in_data(out, source)
    items = list(KINDS[kind](source))
    if not items:
        raise ValueError(f"{source}: no images in the published layout of {kind}")
    _by_name(((item.split, item.name), item.image) for item in items)
    left_out = []
    with progress_bar(unit="images") as bar:
        for item in bar.track(items, description="Converting"):
            folder = out / item.split
            file = folder / "labels" / f"{item.name}.png"
            if file.is_file():
                continue
            try:
                labels = _like_image(left_is_left(item.labels()), item.image)
            except (ValueError, OSError) as error:
                left_out.append(error_line(error))
                continue
            data, image = item.image.read_bytes(), folder / "images" / f"{item.name}{item.image.suffix.lower()}"
            if image.is_file() and image.read_bytes() != data:
                left_out.append(f"{item.image}: {image} already exists and is another image; choose another folder")
                continue
            for name in ("images", "labels"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            write_atomically(image, data)
            write_labels(file, labels)  # last: what has labels is complete
    for line in left_out:
        report(printable(f"skipped: {line}"))
    report(f"{len(items) - len(left_out)} images with labels in {out}")
    if left_out:
        raise ValueError(f"{len(left_out)} of {len(items)} images were skipped; the lines above say why")
    return len(items)


def left_is_left(labels: np.ndarray) -> np.ndarray:
    """Exchange left and right in labels (H, W) uint8 if the left brow and eye lie on the right.

    The convention is the data set's: what a pair shows holds for a single brow or eye, too.
    """
    across = 0.0
    for name in ("brow", "eye"):
        left, right = (np.nonzero(labels == CLASSES.index(f"{name}_{side}"))[1] for side in ("left", "right"))
        if len(left) and len(right):
            across += float(right.mean() - left.mean())
    return exchanged(labels) if across < 0 else labels


def _helen(source: Path) -> Iterator[Item]:
    images = _by_name((path.stem, path) for path in _images(source) if "_lbl" not in path.stem)
    splits: dict[str, str] = {}
    for list_name, split in _SPLITS.items():
        for file in source.rglob(list_name):
            for line in file.read_text(encoding="utf-8").splitlines():
                if line.strip():
                    splits[line.rpartition(",")[2].strip()] = split
    for first in sorted(source.rglob("*_lbl00.png")):
        name = first.name.removesuffix("_lbl00.png")
        if name not in images:
            raise ValueError(f"{first}: there is no image {name}.jpg for these labels")
        files = [first.with_name(f"{name}_lbl{number:02d}.png") for number in range(NUM_CLASSES)]
        yield Item(images[name], splits.get(name, "train") if splits else "", partial(_most_likely, files), name)


def _most_likely(files: list[Path]) -> np.ndarray:
    """Return the class of the highest probability, the first of equal ones."""
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise ValueError(f"{missing[0]}: missing; Helen's labels are {NUM_CLASSES} files for every image")
    planes = [_grey(file) for file in files]
    if len({plane.shape for plane in planes}) > 1:
        raise ValueError(f"{files[0]}: its classes have images of different sizes")
    return np.stack(planes).argmax(axis=0).astype(np.uint8)


def _helen_relabelled(source: Path) -> Iterator[Item]:
    for file in sorted(source.rglob("*_label.png")):
        name = file.name.removesuffix("_label.png")
        image = _image(file.parent, f"{name}_image")
        if image is None:
            raise ValueError(f"{file}: there is no image {name}_image.jpg beside it")
        folders = [folder.name for folder in file.parents if folder != source and source in folder.parents]
        split = next((part for part in folders if part in _SPLITS.values()), "")
        yield Item(image, split, partial(read_labels, file), name)


def _celebamask(source: Path) -> Iterator[Item]:
    parts: dict[int, dict[str, Path]] = {}
    for file in sorted(source.rglob("*.png")):
        found = re.fullmatch(r"(\d+)_(\w+)\.png", file.name)
        if found:
            if found[2] not in CELEBAMASK_PARTS:
                raise ValueError(f"{file}: {found[2]!r} is none of CelebAMask-HQ's parts")
            parts.setdefault(int(found[1]), {})[found[2]] = file
    images = _by_name((int(path.stem), path) for path in _images(source) if path.stem.isdigit())
    for number in sorted(parts):
        if number not in images:
            raise ValueError(f"{next(iter(parts[number].values()))}: there is no image {number}.jpg for these parts")
        yield Item(images[number], "", partial(_painted, parts[number]), f"{number:05d}")


def _painted(files: dict[str, Path]) -> np.ndarray:
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
            image = _image(source / split / "images", file.stem)
            if image is None:
                raise ValueError(f"{file}: there is no image {file.stem}.jpg in {source / split / 'images'}")
            yield Item(image, split, partial(read_labels, file), file.stem)


def _templates(source: Path) -> Iterator[Item]:
    portraits = [path for path in find_portraits(source) if path.with_suffix(".tem").is_file()]
    held_out = set(split_portraits(portraits, "val"))
    for split, images in (("train", [path for path in portraits if path not in held_out]), ("val", sorted(held_out))):
        for image in images:
            name = "_".join(image.relative_to(source).with_suffix("").parts)  # names repeat from folder to folder
            yield Item(image, split, partial(_rasterised, image), name)


def _rasterised(image: Path) -> np.ndarray:
    from retouch_common.data.face_cache import read_levels
    from retouch_common.faces.webmorph import read_template
    from retouch_common.parsing.templates import labels_of_photo

    levels, template = read_levels(image), read_template(image.with_suffix(".tem"))
    try:
        return labels_of_photo(levels, template)
    except ValueError as error:
        raise ValueError(f"{image}: {error}") from error


KINDS: dict[str, Callable[[Path], Iterator[Item]]] = {
    "helen": _helen,
    "helen-relabelled": _helen_relabelled,
    "celebamask-hq": _celebamask,
    "lapa": _lapa,
    "templates": _templates,
}


def _images(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in _SUFFIXES and path.is_file())


def _image(folder: Path, stem: str) -> Path | None:
    files = (folder / f"{stem}{suffix}" for suffix in _SUFFIXES)
    return next(filter(Path.is_file, files), None)


def _by_name(images: Iterable[tuple[Name, Path]]) -> dict[Name, Path]:
    """Return images by name; refuse two of one name, since one would replace the other."""
    found: dict[Name, Path] = {}
    for name, image in images:
        if name in found:
            raise ValueError(f"{image}: its name is taken by {found[name]}; rename one, with its labels")
        found[name] = image
    return found


def _grey(file: Path) -> np.ndarray:
    return np.array(open_png(file.read_bytes(), str(file)).convert("L"))


def _like_image(labels: np.ndarray, image: Path) -> np.ndarray:
    """Resize labels to the image; CelebAMask-HQ's are half as large as its images."""
    from retouch_common.photo.io import Photo

    photo = Photo.open(image)
    if labels.shape == (photo.height, photo.width):
        return labels
    if abs(labels.shape[1] / labels.shape[0] - photo.width / photo.height) > 0.01:
        sizes = f"{labels.shape[1]}x{labels.shape[0]} for an image of {photo.width}x{photo.height}"
        raise ValueError(f"{image}: its labels have {sizes} pixels")
    return resized(labels, photo.height, photo.width)
