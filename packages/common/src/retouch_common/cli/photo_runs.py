"""Runs of a command over photographs: those that INPUT names, in this process, or those of --manifest, in workers.

Everything but click is imported when a command runs.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from retouch_common.cli.photos import INPUT, RunOptions, run_options
from retouch_common.errors import printable

if TYPE_CHECKING:
    from retouch_common.inference.batch import Job
    from retouch_common.inference.many import Engine, ManyOptions, Plan
    from retouch_common.inference.photos import PhotoOptions
    from retouch_common.inference.workers import Work


def process_photos(
    inputs: Sequence[Path],
    out: Path,
    start: functools.partial[Work],
    options: PhotoOptions,
    *,
    recursive: bool,
    plan: Plan | None = None,
    jobs: Callable[[], Sequence[Job]] | None = None,
    done: str = "retouched",
) -> None:
    """Process the photos that a command names, by INPUT in this process or by --manifest in workers.

    Args:
        inputs: Files and folders.
        out: Output folder, or the file for one input.
        start: Loads the network, with all options of the command as keywords, "device" among them.
        options: Those of the files.
        recursive: Whether to search folders within folders.
        plan: Plans the job of one photo of --manifest; by default one with the companions of ``options``.
        jobs: Plans the jobs of INPUT; by default :func:`plan_photos`.
        done: Verb of the summary.

    Raises:
        click.ClickException: If options conflict, or the only photo failed.
        SystemExit: If photos failed (1), or on SIGTERM (128 + the signal).
    """
    from retouch_common.inference.batch import plan_job, refuse_collisions
    from retouch_common.photo.formats import sniff

    run = run_options()
    recipe: Path | None = start.keywords.get("recipe")
    if recipe is not None and run.manifest is not None:
        raise click.UsageError("--recipe repeats what was done with one photo; give that as INPUT, without --manifest")
    if run.manifest is not None:
        plan = plan or functools.partial(plan_job, endings=options.endings)
        many = _many_options(run, inputs, out, options.overwrite, device=start.keywords["device"])
        # Workers of a Ray cluster may have no OpenVINO; any other list counts as many, however it grows.
        start = _with_backend(start, 0 if run.engine == "ray" else None)
        _process_manifest(run.manifest, start, plan, many, options.kept, recursive=recursive, done=done)
        return
    for name in ("results", "retry", "workers", "engine", "ray_address"):
        if getattr(run, name) is not None:
            option = name.replace("_", "-")
            raise click.UsageError(f"--{option} belongs to --manifest, which names the photos instead of {INPUT}")
    if not inputs:
        raise click.UsageError(f"Missing argument '{INPUT}', or --manifest for many photos.")
    planned = jobs() if jobs else plan_photos(inputs, out, recursive=recursive, endings=options.endings)
    if recipe is not None and len(planned) > 1:
        raise click.UsageError(f"--recipe repeats what was done with one photo, and {INPUT} names {len(planned)}")
    kept = [*options.kept([job.source for job in planned]), *([recipe] if recipe is not None else ())]
    if len(planned) == 1 and not run.skip_existing:  # loading the network takes seconds
        refuse_collisions(planned[0], kept=kept, overwrite=options.overwrite)
        sniff(planned[0].source)
    start = _with_backend(start, len(planned))
    retouch_all(planned, start().process, overwrite=options.overwrite, done=done, kept=kept)


def _with_backend(start: functools.partial[Work], num_photos: int | None) -> functools.partial[Work]:
    """Choose the backend of a command that has one; without a number of photos, as for many."""
    keywords = dict(start.keywords)
    backend = keywords.pop("backend", "torch")
    if backend != "torch":
        from retouch_common.inference.openvino import choose_backend

        package = start.func.__module__.partition(".")[0]
        chosen = {option: keywords[option] for option in ("device", "precision")}
        backend = choose_backend(backend, package, num_photos=num_photos, **chosen)
    if backend != "torch":  # tables of results keep the digest of the options that they had without backends
        keywords["backend"] = backend
    return functools.partial(start.func, *start.args, **keywords)


def _many_options(run: RunOptions, inputs: Sequence[Path], out: Path, overwrite: bool, *, device: str) -> ManyOptions:
    """Return how the photos of --manifest are processed, after checking the options that go with it."""
    from retouch_common.inference.many import ManyOptions
    from retouch_common.inference.storage import output_folder

    results = run.results
    if inputs:
        raise click.UsageError(f"--manifest and {INPUT} are mutually exclusive; omit one, and quote a glob")
    if results is None:
        raise click.UsageError("--manifest needs --results FILE.parquet")
    if results.suffix.lower() != ".parquet" or _is_url(results):
        raise click.UsageError(f"--results {results}: must be a file on this machine that ends in .parquet")
    if run.skip_existing:
        raise click.UsageError("--skip-existing is for INPUT; with --manifest, --results knows what is done")
    folder = output_folder(out)
    if folder.url and run.keep_times:
        raise click.UsageError("--keep-times is for outputs on this machine; object storage keeps times of its own")
    return ManyOptions(
        out=folder,
        engine=_engine(run, device),
        results=results,
        only_failed=run.retry == "failed",
        overwrite=overwrite,
        suffix=run.suffix,
        kept=[results],
        copy_faceless=_faceless_copier(run),
        keep_times=run.keep_times,
    )


def _is_url(path: Path) -> bool:
    return path.parts[0].endswith(":") and not path.is_absolute()  # s3://bucket is Path("s3:/bucket")


def _engine(run: RunOptions, device: str) -> Engine:
    """Return what processes the photos of --manifest, by --engine, --ray-address and --workers."""
    if run.engine == "ray":
        from retouch_common.inference.ray_workers import require_ray, run_in_ray

        require_ray()
        return functools.partial(run_in_ray, workers=run.workers, address=run.ray_address, gpus=device != "cpu")
    if run.ray_address is not None:
        raise click.UsageError("--ray-address belongs to --engine ray")
    from retouch_common.devices import resolve_device
    from retouch_common.inference.workers import default_workers, run_in_workers

    workers = run.workers
    if workers is None:
        workers = default_workers() if resolve_device(device).type == "cpu" else 1
    return functools.partial(run_in_workers, workers=workers)


def _process_manifest(
    manifest: str,
    start: functools.partial[Work],
    plan: Plan,
    options: ManyOptions,
    kept: Callable[[Sequence[Path]], Sequence[Path]],
    *,
    recursive: bool,
    done: str,
) -> None:
    """Process the photos of --manifest; exit with status 1 if photos stand as failed in the table."""
    from retouch_common.inference.manifest import read_manifest
    from retouch_common.inference.many import run_many
    from retouch_common.inference.storage import path_of

    entries = read_manifest(manifest, options.out.path, recursive=recursive)
    options = replace(options, kept=[*options.kept, *kept([path_of(entry.path) for entry in entries])])
    signal.signal(signal.SIGTERM, _stop)
    totals = run_many(entries, start, plan, options, report=_report)
    counts = f"{totals.done} of {len(entries)} photos {done}, {totals.skipped} skipped, {totals.failed} failed"
    click.echo(f"{counts}: {options.results}", err=True)
    if totals.failed:
        raise SystemExit(1)


def plan_photos(
    inputs: Sequence[Path], out: Path, *, recursive: bool = False, endings: Sequence[str] = ()
) -> list[Job]:
    """Call :func:`retouch_common.inference.batch.plan_jobs`; skipped images are reported on standard error."""
    from retouch_common.inference.batch import plan_jobs
    from retouch_common.photo.formats import format_of_name

    run = run_options()
    named = None if out.is_dir() else format_of_name(out)
    if run.suffix and named is not None and named is not format_of_name(f"photo{run.suffix}"):
        raise click.UsageError(f"--format {run.format} and the file name {out} conflict; omit one")
    return plan_jobs(inputs, out, recursive=recursive, endings=endings, suffix=run.suffix, report=_report)


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
    from retouch_common.inference.batch import find_done, run_jobs

    run = run_options()
    unclear: list[str] = []
    if run.skip_existing:
        if overwrite:
            raise click.UsageError("--skip-existing and --overwrite are mutually exclusive; omit one")
        done_before, reasons = find_done(jobs)
        skipped = [job for index, job in enumerate(jobs) if index in done_before]
        if skipped:
            click.echo(f"skipping {len(skipped)} of {len(jobs)} photos, whose outputs exist", err=True)
        lacking = [job for job in skipped if not all(map(os.path.lexists, job.companions))]
        if lacking and run.faceless != "copy":  # copies have no companions
            more = f" and {len(lacking) - 1} more" if lacking[1:] else ""
            _report(
                f"{lacking[0].target}{more}: exists without what is written beside it; --overwrite instead of "
                "--skip-existing writes both"
            )
        unclear = [printable(reason) for reason in reasons.values()]
        jobs = [job for index, job in enumerate(jobs) if index not in done_before and index not in reasons]
    signal.signal(signal.SIGTERM, _stop)  # or a temporary file would be left behind
    try:
        failures = unclear + run_jobs(
            jobs,
            retouch,
            overwrite=overwrite,
            report=click.echo,
            kept=kept,
            copy_faceless=_faceless_copier(run),
            keep_times=run.keep_times,
        )
    except KeyboardInterrupt:
        if len(jobs) > 1 and not overwrite:
            click.echo("stopped; rerun with --skip-existing for the photos that are left", err=True)
        raise
    total = len(jobs) + len(unclear)
    if total == 1 and failures:
        raise click.ClickException(failures[0])
    if failures:
        click.echo(f"{len(failures)} of {total} photos could not be {done}:", err=True)
        for line in failures:
            click.echo(f"  {line}", err=True)
        raise SystemExit(1)


def _faceless_copier(run: RunOptions) -> Callable[[Job], object] | None:
    """Return what writes the output of a photo without a face; None without --faceless copy."""
    if run.faceless != "copy":
        return None
    from retouch_common.inference.batch import copy_unchanged

    chosen = click.get_current_context().params
    names = ("quality", "strip", "convert")
    return functools.partial(copy_unchanged, **{name: chosen[name] for name in names if name in chosen})


def _report(line: str) -> None:
    click.echo(printable(line), err=True)


def _stop(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)
