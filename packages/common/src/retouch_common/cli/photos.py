"""Options of the commands that retouch photographs, and a run over many files.

Importing this costs click only; everything else is imported when a command runs.
"""

from __future__ import annotations

import functools
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
    from retouch_common.inference.many import Engine, Plan
    from retouch_common.inference.workers import Work

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


INPUT = "INPUT..."

inputs_argument = click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar=INPUT)

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

recipe_option = click.option(
    "--recipe",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.recipe.json",
    help="Replay what was done in retouch-studio with this photo, instead of the options above.",
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


def _usable_certificate(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Refuse a certificate that cannot be used before anything else is loaded."""
    if value is not None:
        from retouch_common.photo.content_credentials import load_certificate

        try:
            load_certificate(value)
        except (ValueError, OSError) as error:
            raise click.UsageError(f"--sign {error}") from error
    return value


sign_option = click.option(
    "--sign",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="CERT",
    callback=_usable_certificate,
    help="Add content credentials (C2PA), signed with a PEM file of the certificate chain and its private key.  "
    "[needs retouch-common[c2pa]]",
)


def output_options(command: F) -> F:
    """Add --provenance, --sign, --strip and --max-pixels."""
    return provenance_option(sign_option(strip_option(max_pixels_option(command))))


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


_many_options = (
    click.option("--manifest", metavar="LIST", expose_value=False, callback=_store,
                 help="Many photos instead of INPUT: a folder, a quoted glob, or a list (.txt with a path per line, "
                 '.parquet with the column "path"), here or at s3:// or gs://.  [needs retouch-common[many]]'),
    click.option("--results", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.parquet",
                 expose_value=False, callback=_store,
                 help="Table of what became of the photos of --manifest; the same command again does what is missing "
                 "or has changed."),
    click.option("--retry", type=click.Choice(["failed"]), expose_value=False, callback=_store,
                 help="Only photos of --manifest that failed before."),
    click.option("--workers", type=click.IntRange(min=1), expose_value=False, callback=_store,
                 help="Processes for --manifest, each with its own network.  [default: number of cores; on a GPU 1; "
                 "with --engine ray all GPUs of the cluster, or without any its cores]"),
    click.option("--engine", type=click.Choice(["local", "ray"]), expose_value=False, callback=_store,
                 help="Where the processes for --manifest run: on this machine, or in a Ray cluster.  [default: local; "
                 "ray needs retouch-common[ray]]"),
    click.option("--ray-address", metavar="ADDRESS", expose_value=False, callback=_store,
                 help="Cluster of --engine ray: auto for the one that this machine belongs to, or HOST:PORT.  "
                 "[default: Ray is started on this machine]"),
)  # fmt: skip


def many_inputs(command: F) -> F:
    """Add INPUT, or --manifest and the options of a run over many photographs: for :func:`process_photos`."""
    for option in reversed(_many_options):
        command = option(command)
    return click.argument("inputs", nargs=-1, type=click.Path(path_type=Path), metavar=INPUT)(command)


def process_photos(
    inputs: Sequence[Path],
    out: Path,
    start: functools.partial[Work],
    *,
    device: str,
    overwrite: bool,
    recursive: bool = False,
    endings: Sequence[str] = (),
    plan: Plan | None = None,
    jobs: Callable[[], Sequence[Job]] | None = None,
    done: str = "retouched",
    kept: Sequence[Path] = (),
) -> None:
    """Process the photos that a command names, by INPUT in this process or by --manifest in workers.

    Args:
        inputs: Files and folders.
        out: Output folder, or the file for one input.
        start: Loads the network, with all options of the command.
        device: Where to compute, by name.
        overwrite: Whether existing files may be replaced.
        recursive: Whether to search folders within folders.
        endings: Endings of the companions of each output.
        plan: Plans the job of one photo of --manifest; by default one with ``endings``.
        jobs: Plans the jobs of INPUT; by default :func:`plan_photos`.
        done: Verb of the summary.
        kept: Other files that are read, never replaced.

    Raises:
        click.ClickException: If options contradict each other, or the only photo failed.
        SystemExit: If photos failed (1), or on SIGTERM (128 + the signal).
    """
    from retouch_common.inference.batch import plan_job

    if _stored("manifest") is not None:
        plan = plan or functools.partial(plan_job, endings=endings)
        _process_manifest(inputs, out, start, plan, device, overwrite, recursive, done, kept)
        return
    for name in ("results", "retry", "workers", "engine", "ray_address"):
        if _stored(name) is not None:
            option = name.replace("_", "-")
            raise click.UsageError(f"--{option} belongs to --manifest, which names the photos instead of {INPUT}")
    if not inputs:
        raise click.UsageError(f"Missing argument '{INPUT}', or --manifest for many photos.")
    planned = jobs() if jobs else plan_photos(inputs, out, recursive=recursive, endings=endings)
    retouch_all(planned, start().process, overwrite=overwrite, done=done, kept=kept)


def _process_manifest(
    inputs: Sequence[Path],
    out: Path,
    start: functools.partial[Work],
    plan: Plan,
    device: str,
    overwrite: bool,
    recursive: bool,
    done: str,
    kept: Sequence[Path],
) -> None:
    results: Path | None = _stored("results")
    if inputs:
        raise click.UsageError(f"--manifest and {INPUT} exclude each other; leave one out, and quote a glob")
    if results is None:
        raise click.UsageError("--manifest needs --results FILE.parquet")
    if results.suffix.lower() != ".parquet" or _is_url(results):
        raise click.UsageError(f"--results {results}: must be a file on this machine that ends in .parquet")
    if _stored("skip_existing"):
        raise click.UsageError("--skip-existing is for INPUT; with --manifest, --results knows what is done")
    from retouch_common.inference.manifest import read_manifest
    from retouch_common.inference.many import ManyOptions, run_many
    from retouch_common.inference.storage import output_folder

    folder = output_folder(out)
    if folder.url and _stored("keep_times"):
        raise click.UsageError("--keep-times is for outputs on this machine; object storage keeps times of its own")
    engine = _engine(device)
    entries = read_manifest(str(_stored("manifest")), folder.path, recursive=recursive)
    options = ManyOptions(
        out=folder,
        engine=engine,
        results=results,
        only_failed=_stored("retry") == "failed",
        overwrite=overwrite,
        suffix=f".{chosen}" if (chosen := _stored("format")) else None,
        kept=[*kept, results],
        copy_faceless=_faceless_copier(),
        keep_times=bool(_stored("keep_times")),
    )
    signal.signal(signal.SIGTERM, _stop)
    totals = run_many(entries, start, plan, options, report=lambda line: click.echo(printable(line), err=True))
    click.echo(
        f"{totals.done} of {len(entries)} photos {done}, {totals.skipped} skipped, {totals.failed} failed: {results}",
        err=True,
    )
    if totals.failed:
        raise SystemExit(1)


def _faceless_copier() -> Callable[[Job], object] | None:
    """Return what writes the output of a photo without a face; None without --faceless copy."""
    if _stored("faceless") != "copy":
        return None
    from retouch_common.inference.batch import copy_unchanged

    chosen = click.get_current_context().params
    return functools.partial(copy_unchanged, quality=chosen.get("quality"), strip=chosen.get("strip"))


def _is_url(path: Path) -> bool:
    return path.parts[0].endswith(":") and not path.is_absolute()  # s3://bucket is Path("s3:/bucket")


def _engine(device: str) -> Engine:
    """Return what processes the photos of --manifest, by --engine, --ray-address and --workers."""
    workers = _stored("workers")
    if _stored("engine") == "ray":
        from retouch_common.inference.ray_workers import require_ray, run_in_ray

        require_ray()
        return functools.partial(run_in_ray, workers=workers, address=_stored("ray_address"), gpus=device != "cpu")
    if _stored("ray_address") is not None:
        raise click.UsageError("--ray-address belongs to --engine ray")
    from retouch_common.devices import resolve_device
    from retouch_common.inference.workers import default_workers, run_in_workers

    if workers is None:
        workers = default_workers() if resolve_device(device).type == "cpu" else 1
    return functools.partial(run_in_workers, workers=workers)


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
        copy_faceless=_faceless_copier(),
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
