"""Commands on photo files: ``maskgan-parse``, ``maskgan-edit``, ``maskgan-swap``.

Formats, metadata, faces and alignment are handled by :mod:`retouch_common.inference`. Label files are palette PNGs of
the aligned face, S by S pixels, or of the photo's own size.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from retouch_common.faces.alignment import FaceSquare, portrait_square, read_aligned
from retouch_common.inference.batch import Job, Summary, plan_jobs, refuse_collisions
from retouch_common.inference.face_plan import plan_faces
from retouch_common.inference.names import ALIGNED, LABELS, OVERLAY, sibling_path
from retouch_common.inference.photos import PhotoOptions, edit_record, face_parts, open_limited, open_photo, write_photo
from retouch_common.inference.workers import Work
from retouch_common.parsing.labels import CLASSES, coloured, read_labels, write_labels
from retouch_common.parsing.parser import FaceParser
from retouch_common.photo.formats import format_of_name
from retouch_common.photo.io import Photo
from retouch_common.photo.sink import write_png
from retouch_common.progress import progress_bar
from retouch_common.ranges import from_levels

from maskgan.components import warnings_of
from maskgan.editor import Edited, Editor, Portrait

OPACITY = 0.5  # of the labels' colours over a face


@dataclass(frozen=True, kw_only=True)
class EditOptions(PhotoOptions):
    """Options of finding the face, the largest unless ``face_boxes`` holds one, and of what to write.

    Attributes:
        aligned: The photo is an aligned face, a square, as in training.
        adapt: Steps of adapting the network to the face before the edit; 0 disables it.
    """

    aligned: bool = False
    adapt: int = 0

    def __post_init__(self) -> None:
        if len(self.face_boxes) > 1:
            raise ValueError(f"one face is edited at a time; {len(self.face_boxes)} face boxes were given")


def plan_parsing(
    inputs: Sequence[Path],
    out: Path,
    *,
    recursive: bool = False,
    overlay: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> list[Job]:
    """Plan jobs as :func:`retouch_common.inference.batch.plan_jobs` does, with ``NAME.labels.png`` as targets.

    Raises:
        ValueError: Likewise, or ``out`` is a file name.
    """
    if format_of_name(out) is not None and not out.is_dir():
        raise ValueError(f"{out}: is a file name, but label images and aligned faces go into a folder")
    planned = plan_jobs(inputs, out, recursive=recursive, endings=_endings(overlay), report=report)
    return [plan_labels(job.source, job.target, overlay=overlay) for job in planned]


def plan_labels(source: Path, output: Path, *, overlay: bool) -> Job:
    """Return the job of one photo, whose target is the label image beside ``output``."""
    labels, *companions = (sibling_path(output, ending) for ending in _endings(overlay))
    return Job(source, labels, tuple(companions))


def _endings(overlay: bool) -> tuple[str, ...]:
    return (LABELS, ALIGNED, OVERLAY) if overlay else (LABELS, ALIGNED)


def start_parsing(parser: str, *, device: str, whole: bool, overlay: bool, **options: Any) -> Work:
    """Load the parser; return what ``maskgan-parse`` does with one photograph. Errors as of :class:`FaceParser`."""
    network, opts = FaceParser(parser, device=device), EditOptions(**options)

    def parse(job: Job) -> Summary:
        text = parse_file(network, job.source, job.target, opts, whole=whole, overlay=overlay)
        return Summary(text, num_faces=1)

    return Work(parse, network.model.weights_sha256)


def parse_file(
    parser: FaceParser, src: Path, target: Path, options: EditOptions, *, whole: bool = False, overlay: bool = False
) -> str:
    """Write the labels of a photo's face and, beside them, the aligned face; return a summary.

    Args:
        parser: The face parser.
        src: The photo.
        target: The label image, ``NAME.labels.png``.
        options: Options of the command.
        whole: Write labels of the photo's size instead, background around the face.
        overlay: Also write ``NAME.overlay.png``, the labels' colours over the face.

    Raises:
        OSError: A file cannot be opened or written.
        ValueError: ``src`` is not a photo or shows no face, or existing labels would be replaced.
    """
    companions = [_sibling(target, ending) for ending in ((ALIGNED, OVERLAY) if overlay else (ALIGNED,))]
    refuse_collisions(Job(src, target, tuple(companions)), overwrite=options.overwrite)
    photo = open_limited(src, options)
    square = find_face(photo, options)
    ((_, face),) = read_aligned(photo, [square], parser.size)
    labels = parser(face)
    write_png(_sibling(target, ALIGNED), face)
    if overlay:
        colours = from_levels(coloured(labels))
        shown = np.where((labels != 0)[..., None], face + OPACITY * (colours - face), face)
        write_png(_sibling(target, OVERLAY), shown)
    write_labels(target, _in_photo(labels, square, photo) if whole else labels)  # last: marks the photo as done
    missing = [name for number, name in enumerate(CLASSES) if not (labels == number).any()]
    return "labels and aligned face" + (f"; no {', '.join(missing)}" if missing else "")


def edit_file(editor: Editor, src: Path, target: Path, mask: Path, options: EditOptions) -> str:
    """Edit the face of a photo to match a label image of the aligned face or of the photo; return a summary.

    ``target`` is written atomically, in the format of its suffix.

    Raises:
        OSError: A file cannot be opened or written.
        ValueError: ``src`` is not a photo or shows no face, the mask does not fit, or ``target`` cannot hold it.
    """
    labels = read_labels(mask)
    photo = open_photo(src, target, options, kept=[mask])
    portrait = editor.open_source(photo, find_face(photo, options))
    in_photo = None
    if labels.shape == (photo.height, photo.width):
        in_photo = _in_photo(portrait.labels, portrait.square, photo)
    if in_photo is not None and _is_of_photo(labels, in_photo, portrait.labels):
        painted = labels != in_photo  # resampling is not an edit
        inside = _in_face(painted, portrait.square, editor.size).astype(bool)
        labels = np.where(inside, _in_face(labels, portrait.square, editor.size), portrait.labels)
    elif labels.shape != portrait.labels.shape:
        raise ValueError(
            f"{mask}: has {labels.shape[1]}x{labels.shape[0]} pixels; the aligned face has {editor.size}x{editor.size} "
            f"and the photo {photo.width}x{photo.height}"
        )
    portrait = _adapted(editor, portrait, options)
    edited = editor.render(portrait, labels, portrait.codes)
    _write(photo, target, editor, portrait, edited, options)
    return "; ".join([f"{np.mean(labels != portrait.labels):.1%} of the labels differ", *warnings_of(labels)])


def _is_of_photo(labels: np.ndarray, in_photo: np.ndarray, in_face: np.ndarray) -> bool:
    """Return whether labels of the photo's size are of the photo, and not of an aligned face of the same size."""
    return labels.shape != in_face.shape or bool(np.mean(labels == in_photo) > np.mean(labels == in_face))


def open_reference(editor: Editor, source: Path, parts: Sequence[str], options: EditOptions) -> Portrait:
    """Open the largest face of the photo whose appearance is taken.

    Raises:
        OSError: It cannot be opened.
        ValueError: It is not a photo or shows no face, or the face lacks some of ``parts``.
    """
    photo = open_limited(source, options)
    portrait = editor.open_source(photo, find_face(photo, replace(options, face_boxes=())))
    lacking = [part for part in parts if not portrait.codes.shows(part)]
    if lacking:
        raise ValueError(f"{source}: shows no {', '.join(lacking)} to take; choose other --parts")
    return portrait


def swap_file(
    editor: Editor,
    reference: Portrait,
    src: Path,
    target: Path,
    parts: Sequence[str],
    blend: float,
    options: EditOptions,
) -> str:
    """Blend the appearance of a face's parts towards a reference's, with weight ``blend``; return a summary.

    Shapes stay; ``target`` is written atomically, in the format of its suffix.

    Raises:
        OSError: A file cannot be opened or written.
        ValueError: ``src`` is not a photo or shows no face, or ``target`` cannot hold it.
    """
    photo = open_photo(src, target, options)
    portrait = _adapted(editor, editor.open_source(photo, find_face(photo, options)), options)
    taken = [part for part in parts if portrait.codes.shows(part)]
    codes = editor.blend(portrait.codes, {part: (reference.codes, blend) for part in taken})
    edited = editor.render(portrait, portrait.labels, codes)
    swap = {"parts_of_another_face": ",".join(taken), "blend": blend}
    _write(photo, target, editor, portrait, edited, options, further=swap)
    lacking = [part for part in parts if part not in taken]
    summary = f"took {', '.join(taken) or 'nothing'}"
    return f"{summary}; the face has no {', '.join(lacking)}" if lacking else summary


def find_face(photo: Photo, options: EditOptions) -> FaceSquare:
    """Return the position of the selected face.

    Raises:
        ValueError: None is found, or the box lies outside the photo.
    """
    return plan_faces(photo, face_boxes=options.face_boxes, aligned=options.aligned, frame=portrait_square).squares[0]


def _adapted(editor: Editor, portrait: Portrait, options: EditOptions) -> Portrait:
    if not options.adapt:
        return portrait
    adaptation = editor.adaptation(portrait, steps=options.adapt)
    with progress_bar(unit="steps") as bar:
        for _ in bar.track(adaptation, description="Adapting the network"):
            pass
    return editor.adapted(portrait, adaptation)


def _write(
    photo: Photo,
    target: Path,
    editor: Editor,
    portrait: Portrait,
    edited: Edited,
    options: EditOptions,
    *,
    further: Mapping[str, object] | None = None,
) -> None:
    os.makedirs(target.parent, exist_ok=True)
    rows, parts = editor.pasted_rows(photo, portrait, edited), face_parts(photo, [portrait.square])
    edit = edit_record(options, editor.model.weights_sha256, further=further)
    write_photo(photo, target, rows, options, parts, edit=edit)


def _sibling(labels: Path, ending: str) -> Path:
    return labels.with_name(labels.name.removesuffix(LABELS) + ending)


def _in_photo(labels: np.ndarray, square: FaceSquare, photo: Photo) -> np.ndarray:
    """Return labels of an aligned face at their position in the photo, (H, W)."""
    result = np.zeros((photo.height, photo.width), np.uint8)
    x, y, width, height = square.bounds(photo.height, photo.width)
    u, v = square.from_photo(np.arange(x, x + width)[None, :] + 0.5, np.arange(y, y + height)[:, None] + 0.5)
    inside = (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
    side = labels.shape[0]
    columns, rows = ((side * share).astype(np.int64).clip(0, side - 1) for share in (u, v))
    result[y : y + height, x : x + width] = np.where(inside, labels[rows, columns], 0)
    return result


def _in_face(labels: np.ndarray, square: FaceSquare, side: int) -> np.ndarray:
    """Return labels of a photo in its aligned face, (side, side), background outside the photo."""
    unit = (np.arange(side) + 0.5) / side
    x, y = square.to_photo(unit[None, :], unit[:, None])
    columns, rows = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    height, width = labels.shape
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    return np.where(inside, labels[rows.clip(0, height - 1), columns.clip(0, width - 1)], 0).astype(np.uint8)
