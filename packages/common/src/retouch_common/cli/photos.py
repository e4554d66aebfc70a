"""Options of the commands that retouch photographs, and a run over many files.

Importing this costs click only; everything else is imported when a command runs.
"""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from retouch_common.errors import printable
from retouch_common.photo.limits import MAX_PIXELS

if TYPE_CHECKING:
    from retouch_common.inference.batch import Job

F = TypeVar("F", bound=Callable[..., Any])


class FaceBox(click.ParamType):
    """Parameter X,Y,W,H in pixels."""

    name = "X,Y,W,H"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float, float, float]:
        """Parse four numbers; width and height must be positive."""
        try:
            x, y, width, height = (float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not four numbers X,Y,W,H, e.g. 320,180,400,520", param, ctx)
        if not all(map(math.isfinite, (x, y, width, height))):
            self.fail(f"{value!r} is not four finite numbers", param, ctx)
        if not (width > 0 and height > 0):
            self.fail(f"{value!r} has no area; W and H must be above 0", param, ctx)
        return x, y, width, height


inputs_argument = click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="INPUT...")

out_option = click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="Folder for the results, or a file name when INPUT is one file.",
)

strength_option = click.option(
    "--strength", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="0 changes nothing."
)

face_box_option = click.option(
    "--face-box",
    "face_boxes",
    type=FaceBox(),
    multiple=True,
    help="Where a face is, in pixels of the upright photo, instead of the detector; may be repeated.",
)

protect_option = click.option(
    "--protect",
    type=click.Path(path_type=Path),
    metavar="MASK",
    help="Image of the photo's size, white where nothing may change, or strokes on a transparent layer; or a folder of "
    "such images, named like the photos.",
)

mask_out_option = click.option(
    "--mask-out", is_flag=True, help="Also write NAME.mask.png: where the network would retouch."
)

compare_option = click.option(
    "--compare", is_flag=True, help="Also write NAME.compare.jpg: before and after side by side."
)

confine_option = click.option(
    "--confine/--no-confine",
    default=True,
    show_default=True,
    help="Change only the skin of the faces (face, ears, neck), softly; or all that the network changes.",
)

overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace outputs that are there, the input too where OUT is the input."
)

recursive_option = click.option(
    "--recursive", is_flag=True, help="Search folders within folders; OUT keeps their tree."
)


provenance_option = click.option(
    "--provenance",
    type=click.Choice(["on", "off"]),
    default="on",
    show_default=True,
    callback=lambda ctx, param, value: value == "on",
    help="Record in the XMP that and how a trained network changed the photo, or leave it out.",
)

max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=MAX_PIXELS,
    show_default=True,
    help="Refuse larger photos (WebP and AVIF: a fifth), which small files can claim to be.",
)


strip_option = click.option(
    "--strip",
    type=click.Choice(["gps", "all"]),
    help="Leave out coordinates, or all metadata but the colour space and --provenance.",
)


def output_options(command: F) -> F:
    """Add --provenance, --strip and --max-pixels."""
    return provenance_option(strip_option(max_pixels_option(command)))


quality_option = click.option(
    "--quality",
    type=click.IntRange(1, 100),
    help="Quality of JPEG, WebP and AVIF outputs.  [default: 95; AVIF: 90]",
)


def _store(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    ctx.meta[f"{__name__}.{param.name}"] = value


def _stored(name: str) -> Any:
    """Return an option of :data:`_run_options`; None where the command has none."""
    ctx = click.get_current_context(silent=True)
    return None if ctx is None else ctx.meta.get(f"{__name__}.{name}")


# Options of the run, not of a photo: plan_photos and retouch_all read them from the context.
_run_options = (
    click.option("--skip-existing", is_flag=True, expose_value=False, callback=_store,
                 help="Skip photos whose output is there already, to go on with an interrupted run."),
    click.option("--format", type=click.Choice(["jpg", "png", "tif", "webp", "avif"]), expose_value=False,
                 callback=_store, help="Format of outputs in a folder.  [default: that of each photo]"),
    click.option("--keep-times", is_flag=True, expose_value=False, callback=_store,
                 help="Give outputs the modification times of their photos."),
    click.option("--faceless", type=click.Choice(["refuse", "copy"]), default="refuse", show_default=True,
                 expose_value=False, callback=_store,
                 help="Refuse photos without a face, or copy them, so that the folder stays whole."),
)  # fmt: skip


def batch_options(command: F) -> F:
    """Add --recursive, --overwrite, --quality and the options of the run over many files."""
    for option in reversed((recursive_option, overwrite_option, *_run_options, quality_option)):
        command = option(command)
    return command


def plan_photos(
    inputs: Sequence[Path], out: Path, *, recursive: bool = False, endings: Sequence[str] = ()
) -> list[Job]:
    """Call :func:`retouch_common.inference.batch.plan_jobs`; skipped images are reported on standard error."""
    from retouch_common.inference.batch import plan_jobs

    suffix = f".{chosen}" if (chosen := _stored("format")) else None
    if suffix and out.suffix and not out.is_dir() and out.suffix.lower() != suffix:
        raise click.UsageError(f"--format {chosen} and the file name {out} contradict each other; leave out one")

    def report(line: str) -> None:
        click.echo(printable(line), err=True)

    return plan_jobs(inputs, out, recursive=recursive, endings=endings, suffix=suffix, report=report)


def retouch_all(
    jobs: Sequence[Job],
    retouch: Callable[[Job], object],
    *,
    overwrite: bool,
    done: str = "retouched",
    kept: Iterable[Path] = (),
) -> None:
    """Retouch every photo, report each, and list those that failed at the end.

    Args:
        jobs: Inputs and outputs; with --skip-existing those whose output is there are left out.
        retouch: Processes one job; its result is the summary of that photo.
        overwrite: Whether existing files may be replaced.
        done: Verb of the summary.
        kept: Other files that are read, never replaced.

    Raises:
        click.ClickException: If the only photo failed.
        SystemExit: If some of several failed (1), or on SIGTERM (128 + the signal).
    """
    from retouch_common.inference.batch import run_jobs
    from retouch_common.photo.io import Photo

    def copy(job: Job) -> None:
        chosen = click.get_current_context().params
        Photo.open(job.source, max_pixels=None).write_unchanged(
            job.target, quality=chosen.get("quality"), strip=chosen.get("strip")
        )

    if _stored("skip_existing"):
        if overwrite:
            raise click.UsageError("--skip-existing and --overwrite exclude each other; leave one out")
        left = [job for job in jobs if not os.path.lexists(job.target)]
        if len(left) < len(jobs):
            click.echo(f"skipping {len(jobs) - len(left)} of {len(jobs)} photos, whose outputs are there", err=True)
        jobs = left
    signal.signal(signal.SIGTERM, _stop)  # or a temporary file would be left behind
    failures = run_jobs(
        jobs,
        retouch,
        overwrite=overwrite,
        report=click.echo,
        kept=kept,
        copy_faceless=copy if _stored("faceless") == "copy" else None,
        keep_times=bool(_stored("keep_times")),
    )
    if len(jobs) == 1 and failures:
        raise click.ClickException(failures[0])
    if failures:
        click.echo(f"{len(failures)} of {len(jobs)} photos could not be {done}:", err=True)
        for line in failures:
            click.echo(f"  {line}", err=True)
        raise SystemExit(1)


def _stop(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)
