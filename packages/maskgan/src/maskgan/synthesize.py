"""Synthetic faces with exact labels: masks of some people, appearances of others.

    DIR/images/000000.png   the generated face
    DIR/labels/000000.png   its mask
    DIR/pairs.jsonl         mask and sources of each
    DIR/settings.json       settings of the set

The face parser's training reads such a folder.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from retouch_common.data.pair_files import Split
from retouch_common.data.portraits import find_portraits
from retouch_common.errors import error_line
from retouch_common.faces.alignment import whole_square
from retouch_common.files import refuse_other_settings, write_atomically
from retouch_common.inference.names import ALIGNED, LABELS
from retouch_common.parsing.data import find_pairs
from retouch_common.parsing.labels import write_labels
from retouch_common.photo.formats import SUFFIXES
from retouch_common.photo.io import Photo
from retouch_common.photo.sink import write_png
from retouch_common.photo.sources import ArraySource
from retouch_common.progress import progress_bar
from retouch_common.training.fingerprint import refuse_output_in_data
from retouch_common.weights import state_hash

from maskgan.components import COMPONENTS
from maskgan.config import COMPONENT_NAMES
from maskgan.data import read_aligned_pair
from maskgan.edit_files import EditOptions, find_face
from maskgan.editor import Editor, Portrait
from maskgan.genders import person_name

Genders = tuple[Mapping[str, str], Mapping[str, str]]
"""Genders of masks and of sources, by name."""

CACHE_SIZE = 256  # source faces kept in memory
TRIES = 20  # draws of a source with the components that a mask needs


def synthesize(
    editor: Editor,
    masks: Path,
    sources: Path,
    out: Path,
    *,
    number: int,
    mix: bool = False,
    aligned: bool = False,
    seed: int = 0,
    split: Split = "all",
    genders: Genders | None = None,
    report: Callable[[str], None] = print,
) -> None:
    """Generate faces, skipping existing ones.

    Args:
        editor: The network.
        masks: A folder of label images of aligned faces, or one with ``images/`` and ``labels/``, whose images give the
            background, and which are aligned first if they have another size than the network's; without an image the
            background is the source's.
        sources: Folder of photos whose faces give the appearance.
        out: Folder of the set.
        number: Number of faces. Masks are drawn without replacement; once all are used, all are drawn again.
        mix: Draw a source for every component.
        aligned: The sources are aligned faces.
        seed: Random seed; face i depends on it, i, the two folders and the genders only.
        split: People whose masks are taken, see :func:`find_masks`.
        genders: Of masks and sources, see :func:`maskgan.genders.read_genders`; a mask then gets sources of its gender,
            and sources without one are left out.
        report: Called with lines for the user.

    Raises:
        ValueError: A folder holds nothing usable, no source has what a mask needs, a mask has no gender, or ``out`` is
            among the sources or has other settings.
        OSError: A file cannot be read or written.
    """
    refuse_output_in_data(out, sources)
    chosen_masks, photos = find_masks(masks, split), find_portraits(sources)
    if genders is not None:
        _refuse_unknown(chosen_masks, genders)
    settings = {
        "masks": [str(masks.resolve()), len(chosen_masks)],
        "sources": [str(sources.resolve()), len(photos)],
        "split": split,
        "genders": None if genders is None else state_hash([dict(table) for table in genders]),
        "mix": mix,
        "aligned": aligned,
        "seed": seed,
        "weights": state_hash(editor.model.state_dict()),
        "parser": state_hash(editor.parser.model.state_dict()),
    }
    refuse_other_settings(out / "settings.json", settings)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "settings.json", (json.dumps(settings, indent=2) + "\n").encode())
    for folder in ("images", "labels"):
        (out / folder).mkdir(exist_ok=True)
    pool = _SourcePool(editor, photos, aligned, None if genders is None else genders[1], report)
    if number > len(chosen_masks):
        report(f"note: there are {len(chosen_masks)} masks for {number} faces; each is used several times")
    order = mask_order(len(chosen_masks), number, seed)
    pairs: list[str] = []
    with progress_bar(unit="faces") as bar:
        for index in bar.track(range(number), description="Drawing"):
            name = f"{index:06d}.png"
            generator = np.random.default_rng((seed, index))
            mask = chosen_masks[order[index]]
            labels, image = read_aligned_pair(mask, image_of(mask), editor.size)
            gender = None if genders is None else genders[0][person_name(mask)]
            chosen = pool.draw(labels, generator, mix=mix, gender=gender)
            names = {part: path.relative_to(sources).as_posix() for part, path in chosen.items()}
            pairs.append(json.dumps({"file": name, "mask": mask.name, "sources": names}))
            # The label image is written last: its presence marks the face as complete.
            if not (out / "labels" / name).is_file():
                faces = {part: pool.open(path) for part, path in chosen.items()}
                write_png(out / "images" / name, _generate(editor, labels, image, faces))
                write_labels(out / "labels" / name, labels)
    write_atomically(out / "pairs.jsonl", ("\n".join(pairs) + "\n").encode())
    report(f"wrote {number} faces to {out}")


def mask_order(count: int, number: int, seed: int) -> list[int]:
    """Return the masks of all faces: a random order of all of them, then another, and so on."""
    rounds = range(-(-number // count))
    orders = [np.random.default_rng((seed, round_, 0x3A5)).permutation(count) for round_ in rounds]
    return np.concatenate(orders)[:number].tolist()


def find_masks(folder: Path, split: Split = "all") -> list[Path]:
    """Return the label images of a folder or of its folder ``labels``, sorted.

    With another ``split`` than "all" the folder is a data set, of which the masks of that split are returned; see
    :func:`retouch_common.parsing.data.find_pairs`.

    Raises:
        ValueError: There are none.
    """
    if split != "all":
        return sorted(labels for _, labels in find_pairs(str(folder), split))
    inner = folder / "labels" if (folder / "labels").is_dir() else folder
    if not inner.is_dir():
        raise ValueError(f"{folder}: not a folder of label images")
    named = sorted(inner.glob(f"*{LABELS}"))  # as maskgan-parse writes them, beside other images
    found = named or sorted(inner.glob("*.png"))
    if not found:
        raise ValueError(f"{inner}: no label images in it (PNG)")
    return found


def image_of(mask: Path) -> Path | None:
    """Return the aligned face of a label image, if it is where maskgan-parse or a training set has it."""
    if mask.name.endswith(LABELS):
        beside = mask.with_name(mask.name.removesuffix(LABELS) + ALIGNED)
        if beside.is_file():
            return beside
    images = mask.parent.parent / "images"  # not listed: that takes half a second for 30,000
    suffixes = (form for suffix in sorted(SUFFIXES) for form in (suffix, suffix.upper(), suffix.title()))
    return next(filter(Path.is_file, (images / f"{mask.stem}{suffix}" for suffix in suffixes)), None)


class _SourcePool:
    """Photos whose faces are opened when first drawn."""

    def __init__(
        self, editor: Editor, photos: Sequence[Path], aligned: bool, genders: Mapping[str, str] | None,
        report: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.photos: dict[str | None, list[Path]] = {}
        for photo in photos:
            gender = None if genders is None else genders.get(person_name(photo))
            if genders is None or gender is not None:
                self.photos.setdefault(gender, []).append(photo)
        self._report, self._useless = report, set[Path]()
        self.open = lru_cache(maxsize=CACHE_SIZE)(lambda path: _portrait(editor, path, aligned))

    def draw(
        self, labels: np.ndarray, generator: np.random.Generator, *, mix: bool, gender: str | None
    ) -> dict[str, Path]:
        """Draw a photo for every component, all the same one unless ``mix``, which has what the mask needs."""
        if gender not in self.photos:
            raise ValueError(f"no source of gender {gender}; add some to the sources and their table")
        photos = self.photos[gender]
        needed = [component.name for component in COMPONENTS if np.isin(labels, component.labels).any()]
        if not mix:
            return dict.fromkeys(COMPONENT_NAMES, self._draw_with(needed, photos, generator))
        return {part: self._draw_with([part] if part in needed else [], photos, generator) for part in COMPONENT_NAMES}

    def _draw_with(self, parts: Sequence[str], photos: Sequence[Path], generator: np.random.Generator) -> Path:
        for _ in range(TRIES):
            path = photos[int(generator.integers(len(photos)))]
            if path in self._useless:
                continue
            try:
                codes = self.open(path).codes
            except (ValueError, OSError) as error:
                self._useless.add(path)
                self._report(f"skipped: {error_line(error)}")
                continue
            if all(codes.shows(part) for part in parts):
                return path
        raise ValueError(f"none of {TRIES} drawn sources has {', '.join(parts) or 'a face'}")


def _refuse_unknown(masks: Sequence[Path], genders: Genders) -> None:
    unknown = [mask for mask in masks if person_name(mask) not in genders[0]]
    if unknown:
        raise ValueError(f"{unknown[0]}: not in the table of the masks' genders, nor are {len(unknown) - 1} others")


def _portrait(editor: Editor, path: Path, aligned: bool) -> Portrait:
    photo = Photo.open(path)
    return editor.open_source(photo, find_face(photo, EditOptions(aligned=aligned)))


def _generate(
    editor: Editor, labels: np.ndarray, image: np.ndarray | None, faces: Mapping[str, Portrait]
) -> np.ndarray:
    target = faces["skin"]
    if image is not None:
        target = editor.open_source(ArraySource(image), whole_square(*image.shape[:2]), labels=labels)
    parts = {part: (face.codes, 1.0) for part, face in faces.items() if face.codes.shows(part)}
    return editor.render(target, labels, editor.blend(faces["skin"].codes, parts)).image
