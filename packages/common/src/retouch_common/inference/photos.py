"""Photograph files through a network: options, checks and companions shared by the papers' commands.

    photo = open_photo(source, target, options)
    ...                                                # the paper's part: find faces, run the network
    write_photo(photo, target, rows, options, parts)

A run over many files is :func:`retouch_common.cli.photo_runs.retouch_all`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from retouch_common.inference.names import COMPARISON, MASK, sibling_path
from retouch_common.photo.limits import MAX_PIXELS, LargePhotoError
from retouch_common.versions import package_version

if TYPE_CHECKING:
    import numpy as np

    from retouch_common.faces.alignment import FaceSquare
    from retouch_common.inference.regions import Box
    from retouch_common.photo.io import Photo
    from retouch_common.photo.outgoing import Strip
    from retouch_common.photo.sources import ChangedRows
    from retouch_common.photo.xmp import Edit

_NOT_RECORDED = (
    "compare", "overwrite", "provenance", "max_pixels", "mask", "protect", "mask_out", "attention_out", "damaged_out",
    "report", "strip", "measure", "sign", "convert", "stage",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PhotoOptions:
    """How to process photograph files.

    Attributes:
        face_boxes: (x, y, w, h) in pixels of the upright photo, instead of the face detector's.
        compare: Whether to write NAME.compare.jpg, before and after side by side.
        overwrite: Whether existing files may be replaced, the input included where it is the output.
        quality: 1 to 100 for JPEG, WebP and AVIF; None for 95 (AVIF: 90).
        provenance: Whether the output's XMP says that and how a trained network changed it.
        sign: PEM file of a certificate chain and its key, to add content credentials (extra ``c2pa``); None for none.
        strip: Metadata that outputs do not carry: "gps", "all", or None; see :meth:`Photo.write_stripes`.
        convert: Whether to round 16 bits to 8 and flatten transparency onto white, where the output format needs it.
        max_pixels: Largest photo that is opened, in pixels, a third for those decoded in memory; None for any.
        measure: Whether to measure the share of pixels that are changed, which takes decoding the photo once more.
    """

    face_boxes: Sequence[Box] = ()
    compare: bool = False
    overwrite: bool = False
    quality: int | None = None
    provenance: bool = True
    sign: Path | None = None
    strip: Strip | None = None
    convert: bool = False
    max_pixels: int | None = MAX_PIXELS
    measure: bool = False

    @property
    def companions(self) -> tuple[str, ...]:
        """Endings of the companions besides the comparison."""
        return ()

    @property
    def endings(self) -> tuple[str, ...]:
        """Endings of all companions."""
        return (*self.companions, *((COMPARISON,) if self.compare else ()))

    def kept(self, photos: Sequence[Path]) -> Sequence[Path]:
        """Return the files that are read besides photos; no output may replace them."""
        return ()


@dataclass(frozen=True, kw_only=True)
class RetouchingOptions(PhotoOptions):
    """How to retouch photograph files.

    Attributes:
        strength: Scale of the change in [0, 1].
        protect: Image of the photo's size, white where nothing may change (moles, tattoos), or a folder of such images,
            named like the photos; see :func:`retouch_common.inference.masks.open_mask`.
        confine: Change only the skin of faces.
        mask_out: Also write where the network retouches, NAME.mask.png.
    """

    strength: float = 1.0
    protect: str | os.PathLike[str] | None = None
    confine: bool = True
    mask_out: bool = False

    def __post_init__(self) -> None:
        require_strength(self.strength)

    @property
    def companions(self) -> tuple[str, ...]:
        """Ending of the mask, if it is written."""
        return (MASK,) if self.mask_out else ()

    def kept(self, photos: Sequence[Path]) -> Sequence[Path]:
        """Return the files of ``protect``."""
        from retouch_common.inference.masks import mask_files

        return mask_files(self.protect, photos)


def require_strength(strength: float) -> None:
    """Refuse a strength outside [0, 1].

    Raises:
        ValueError: If it is outside.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must lie between 0 and 1, not {strength}")


def open_photo(source: Path, target: Path, options: PhotoOptions, *, kept: Sequence[Path] = ()) -> Photo:
    """Open a photograph after checking that its outputs may be written; ``kept`` are further files that are read.

    Raises:
        OSError: If the photograph cannot be opened.
        ValueError: If ``source`` is not a photograph, ``target`` cannot hold it, an existing output may not be
            replaced, or it cannot be signed.
    """
    from retouch_common.inference.batch import plan_job, refuse_collisions
    from retouch_common.photo.content_credentials import load_certificate, refuse_credentials

    job = plan_job(source, target, options.endings)
    # A folder may have thousands of masks; an output that is not there is none of them.
    masks = options.kept([source]) if any(map(os.path.lexists, job.outputs)) else ()
    refuse_collisions(job, kept=[*masks, *kept], overwrite=options.overwrite)
    photo = open_limited(source, options)
    photo.check_output(target, convert=options.convert)
    if options.sign is not None:
        load_certificate(options.sign)
        if options.strip is not None:
            refuse_credentials(source)
    return photo


def open_limited(source: Path, options: PhotoOptions) -> Photo:
    """Open a photograph that has at most ``max_pixels``, the option that the message names if it has more.

    Raises:
        OSError: If it cannot be opened.
        ValueError: If it is not a photograph, or has more pixels.
    """
    from retouch_common.photo.io import Photo

    try:
        return Photo.open(source, max_pixels=options.max_pixels)
    except LargePhotoError as error:
        raise LargePhotoError(f"{error}, or raise the limit with --max-pixels") from error


def write_photo(
    photo: Photo,
    target: Path,
    rows: ChangedRows | None,
    options: PhotoOptions,
    parts: Sequence[tuple[int, int, int, int]],
    *,
    weights: str | None = None,
    edit: Edit | None = None,
) -> float | None:
    """Write a result atomically, with the photograph's metadata, and the comparison if requested.

    Args:
        photo: Photograph.
        target: Output.
        rows: Blocks of rows, which may be computed from the photograph as it is written. The file of a photograph that
            stays as it is, by what they return or if they are None, is copied, or converted to another format.
        options: Options.
        parts: Parts (x, y, w, h) outside which nothing is changed, and which the comparison shows; the whole photograph
            without any.
        weights: SHA-256 of the network's weights, for the history.
        edit: Entry of the history instead of that of the options.

    Returns:
        The share of pixels that were changed, in [0, 1], before encoding; None if it was not to be measured.

    Raises:
        OSError: If a file cannot be written.
    """
    from retouch_common.inference.companions import Comparison
    from retouch_common.photo.content_credentials import Signature, load_certificate
    from retouch_common.photo.io import Photo

    comparison = Comparison(photo, parts) if options.compare else None  # before the photo itself may be replaced
    num_changed = 0

    def counted(rows: ChangedRows) -> ChangedRows:
        nonlocal num_changed
        before, y = photo.reopen(), 0
        for block in rows:
            num_changed += int((block != before.read_rows(y, y + len(block))).any(axis=2).sum())
            y += len(block)
            yield block
        return num_changed > 0

    if rows is not None:
        edit = edit or edit_record(options, weights)
        signature = None
        if options.sign is not None:
            signature = Signature(certificate=load_certificate(options.sign), edit=edit, regions=parts)
        try:
            photo.write_stripes(
                target,
                _changed(counted(rows) if options.measure else rows),
                quality=options.quality,
                edit=edit if options.provenance else None,
                strip=options.strip,
                signature=signature,
                convert=options.convert,
            )
        except _UnchangedError:
            rows = None
    if rows is None:
        photo.write_unchanged(target, quality=options.quality, strip=options.strip, convert=options.convert)
    if comparison is not None:
        comparison.write(Photo.open(target, max_pixels=None), sibling_path(target, COMPARISON))
    return num_changed / (photo.height * photo.width) if options.measure else None


class _UnchangedError(Exception):
    """All rows of a photograph turned out to be as they were."""


def _changed(rows: ChangedRows) -> Iterator[np.ndarray]:
    """Yield rows.

    Raises:
        _UnchangedError: After the last, if none was changed.
    """
    if (yield from rows) is False:
        raise _UnchangedError


def edit_record(
    options: PhotoOptions,
    weights: str | None = None,
    *,
    package: str | None = None,
    settings: Mapping[str, object] | None = None,
    when: str | None = None,
    further: Mapping[str, object] | None = None,
) -> Edit:
    """Return what an output's history says of an edit.

    Args:
        options: Options.
        weights: SHA-256 of the network's weights.
        package: Package that edits; by default that of the options.
        settings: Settings; by default the options that matter.
        when: Time of the edit in UTC, as ISO 8601; None for now.
        further: Settings that are no options of ``options``.
    """
    from retouch_common.photo.xmp import Edit

    package = package or type(options).__module__.partition(".")[0]
    if settings is None:
        settings = {
            entry.name: value
            for entry in fields(options)
            if entry.name not in _NOT_RECORDED
            and isinstance(value := getattr(options, entry.name), (bool, int, float, str))
        }
    settings = {**settings, **(further or {})}
    version = package_version(package) or ""
    return Edit(software=package, version=version, weights=weights, settings=settings, when=when)


def face_parts(photo: Photo, squares: Sequence[FaceSquare]) -> list[tuple[int, int, int, int]]:
    """Return the bounding boxes (x, y, w, h) of squares in a photograph, in pixels."""
    return [square.bounds(photo.height, photo.width) for square in squares]
