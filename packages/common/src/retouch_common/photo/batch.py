"""From the files and folders a user names to pairs of input and output, and through all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from retouch_common.cli import TRACEBACK_VARIABLE, error_line, progress_bar

from .formats import SUFFIXES, format_of_name, sniff

# Pictures that cannot be retouched but that a user would miss if a folder's report left them out.
_REPORTED = (".gif", ".bmp", ".heic", ".heif", ".jp2", ".jxl", ".psd", ".exr", ".dng", ".cr2", ".nef", ".arw")


@dataclass(frozen=True)
class Job:
    """One photo to work on.

    Attributes:
        source: The input file.
        target: The output file.
    """

    source: Path
    target: Path


def plan_jobs(inputs: Sequence[Path], out: Path, *, recursive: bool = False) -> list[Job]:
    """Pair every photo with its output.

    A folder stands for the pictures in it (with ``recursive`` also below it, the tree kept in the output).
    One file may be given an output file; everything else goes into the folder ``out`` under its own name.
    Where two inputs have the same name, later ones are numbered: ``a.jpg``, ``a-2.jpg``.

    Args:
        inputs: Files and folders; files need not exist, which shows when they are opened.
        out: Output file (one input file, and a name that ends like a photo's) or folder.
        recursive: Whether folders within folders are searched.

    Returns:
        Jobs in the order of the inputs, those of a folder sorted by name.

    Raises:
        ValueError: If a folder holds no picture, or ``out`` cannot be what the inputs need.
    """
    if len(inputs) == 1 and not inputs[0].is_dir() and format_of_name(out) is not None and not out.is_dir():
        return [Job(inputs[0], out)]
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: is a file, but the output of folders or several photos is a folder")
    if not out.exists() and out.suffix.lower() in SUFFIXES + _REPORTED:
        reason = "is a file name, but the output of folders or several photos is a folder"
        if out.suffix.lower() in _REPORTED:
            reason = f"cannot be written; the name must end in one of {' '.join(SUFFIXES)}"
        raise ValueError(f"{out}: {reason}")
    jobs: list[Job] = []
    taken: set[str] = set()
    for given in inputs:
        for source, relative in _pictures(given, out, recursive):
            target = out / _named_like_its_format(source, relative)
            plain, number = target, 1
            while str(target).casefold() in taken:
                number += 1
                target = plain.with_name(f"{plain.stem}-{number}{plain.suffix}")
            taken.add(str(target).casefold())
            jobs.append(Job(source, target))
    return jobs


def _pictures(given: Path, out: Path, recursive: bool) -> Iterator[tuple[Path, Path]]:
    """The pictures an argument stands for, each with its path below the output folder."""
    if not given.is_dir():
        yield given, Path(given.name)
        return
    outside = out.resolve()
    found = False
    for folder, folders, names in os.walk(given):
        here = Path(folder)
        folders[:] = sorted(
            name for name in folders if recursive and not name.startswith(".") and (here / name).resolve() != outside
        )
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES + _REPORTED:
                found = True
                yield here / name, (here / name).relative_to(given)
    if not found:
        hint = "" if recursive else "; use --recursive to search the folders in it"
        raise ValueError(f"{given}: no photo in this folder{hint}")


def _named_like_its_format(source: Path, relative: Path) -> Path:
    """Give a photo without a telling name the ending of its format; others keep theirs."""
    if format_of_name(relative) is not None:
        return relative
    try:
        suffix = sniff(source).suffixes[0]
    except (ValueError, OSError):
        return relative  # reported when it is opened
    return relative.with_name(relative.name + suffix)


def check_target(job: Job, sources: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse to write over an input, unless it is the job's own and that was asked for.

    Args:
        job: The job.
        sources: All inputs.
        overwrite: Whether a photo may be replaced by its retouched version.

    Raises:
        ValueError: If the output is an input.
    """
    if not job.target.exists():
        return
    for source in sources:
        if source.exists() and os.path.samefile(source, job.target):
            own = source.exists() and job.source.exists() and os.path.samefile(source, job.source)
            if not own:
                raise ValueError(f"{job.source}: its output {job.target} is another input; choose another OUT")
            if not overwrite:
                raise ValueError(f"{job.source}: the output is the input; choose another OUT or give --overwrite")


def run_jobs(
    jobs: Sequence[Job], work: Callable[[Job], object], *, overwrite: bool, report: Callable[[str], None]
) -> list[str]:
    """Work on many photos; a broken one does not stop the others.

    Args:
        jobs: Inputs and outputs; folders of outputs are made.
        work: Works on one; what it returns says in its own words what was done.
        overwrite: Whether an output may be its own input.
        report: Called with one line for each photo that was worked on.

    Returns:
        One line for each photo that was not, naming it and the reason.
    """
    failures = []
    sources = [job.source for job in jobs]
    with progress_bar(disable=len(jobs) < 2) as bar:
        for job in bar.track(jobs, description="Photos"):
            try:
                check_target(job, sources, overwrite=overwrite)
                job.target.parent.mkdir(parents=True, exist_ok=True)
                done = work(job)
            except Exception as error:
                line = error_line(error)
                if os.environ.get(TRACEBACK_VARIABLE) == "1":
                    raise
                line = line or f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"
                failures.append(line if str(job.source) in line else f"{job.source}: {line}")
            else:
                report(f"{job.source} -> {job.target}: {done}")
    return failures
