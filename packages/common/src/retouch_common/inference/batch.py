"""Inputs and outputs of a run over files and folders, and the run itself."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from retouch_common.errors import TRACEBACK_VARIABLE, error_line, printable
from retouch_common.faces.face import NoFaceFound
from retouch_common.inference.names import COMPANION_ENDINGS, sibling_path
from retouch_common.photo.formats import SUFFIXES, format_of_name, sniff
from retouch_common.photo.raw_files import RAW_SUFFIXES
from retouch_common.progress import progress_bar

if TYPE_CHECKING:
    from retouch_common.photo.outgoing import Strip

P = TypeVar("P")

PHOTOS_AT_ONCE = 2  # each needs the memory of a photo

# Images that cannot be retouched but whose absence from a folder's report a user would notice.
REPORTED_SUFFIXES = (".gif", ".bmp", ".heic", ".heif", ".jp2", ".jxl", ".psd", ".exr", *RAW_SUFFIXES)


@dataclass(frozen=True)
class Job:
    """One photo to process: input file, output file, and companions written beside the output.

    ``unnumbered`` is the output's path before it got a number, if it did.
    """

    source: Path
    target: Path
    companions: tuple[Path, ...] = ()
    unnumbered: Path | None = field(default=None, compare=False)

    @property
    def outputs(self) -> tuple[Path, ...]:
        """All output files."""
        return self.target, *self.companions


class Processed(Protocol):
    """What was done with a photo; its text is a summary."""

    @property
    def num_faces(self) -> int:
        """Number of faces that were processed."""

    @property
    def changed(self) -> float | None:
        """Share of pixels that were changed, in [0, 1]; None if it was not measured."""


@dataclass(frozen=True)
class Summary:
    """A summary of what was done with a photo; attributes as of :class:`Processed`."""

    text: str
    num_faces: int
    changed: float | None = None

    def __str__(self) -> str:
        return self.text


def plan_job(source: Path, target: Path, endings: Sequence[str] = ()) -> Job:
    """Return the job of one photo; ``endings`` are those of its companions."""
    return Job(source, target, tuple(sibling_path(target, ending) for ending in endings))


def plan_jobs(
    inputs: Sequence[Path],
    out: Path,
    *,
    recursive: bool = False,
    endings: Sequence[str] = (),
    suffix: str | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> list[Job]:
    """Pair every photo with its outputs.

    A folder stands for its images (with ``recursive`` also for those below it, whose tree is kept), except for
    companions of an earlier run, ``COMPANION_ENDINGS``. A photo whose suffix is not that of its content gets an output
    with the right one. A single file may have an output file; else all outputs go into
    the folder ``out`` under their own names. Where two would coincide, later ones are numbered: ``a.jpg``, ``a-2.jpg``.

    Args:
        inputs: Files and folders; files need not exist, which shows when they are opened.
        out: Output folder, or a file with a photo's suffix if there is one input file.
        recursive: Whether to search folders within folders.
        endings: Endings of the companions of each output.
        suffix: Suffix of outputs in a folder, such as ".jpg"; None for the format of each photo.
        report: Called with a line for each folder in which images were skipped, or that cannot be read.

    Returns:
        Jobs in the order of the inputs, those of a folder sorted by name.

    Raises:
        ValueError: If a folder holds no image, or ``out`` is not what the inputs need.
    """
    if len(inputs) == 1 and not os.path.isdir(inputs[0]) and format_of_name(out) is not None and not out.is_dir():
        return [plan_job(inputs[0], out, endings)]
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: is a file, but the output of folders or several photos is a folder")
    if not out.exists() and out.suffix.lower() in SUFFIXES + REPORTED_SUFFIXES:
        reason = "is a file name, but the output of folders or several photos is a folder"
        if out.suffix.lower() in REPORTED_SUFFIXES:
            reason = f"cannot be written; the name must end in one of {' '.join(SUFFIXES)}"
        raise ValueError(f"{out}: {reason}")
    jobs: list[Job] = []
    taken: set[str] = set()
    for given in inputs:
        for source, relative in _images(given, out, recursive, report):
            target = out / output_name(source, relative, suffix)
            plain, number = target, 1
            while not taken.isdisjoint(map(_place, (job := plan_job(source, target, endings)).outputs)):
                number += 1
                target = plain.with_name(f"{plain.stem}-{number}{plain.suffix}")
            taken.update(map(_place, job.outputs))
            jobs.append(job if number == 1 else replace(job, unnumbered=plain))
    return jobs


def _place(path: Path) -> str:
    """Return a key that two outputs share if one would replace the other, on case-insensitive file systems, too."""
    return os.path.join(os.path.realpath(path.parent), path.name).casefold()


def _images(given: Path, out: Path, recursive: bool, report: Callable[[str], None]) -> Iterator[tuple[Path, Path]]:
    """Yield the images of an input, each with its path relative to the output folder."""
    if not os.path.isdir(given):
        yield given, Path(given.name)
        return
    outside = out.resolve()
    found = False
    closed: list[str] = []
    for folder, folders, names in os.walk(given, onerror=lambda error: closed.append(str(error.filename))):
        here = Path(folder)
        folders[:] = sorted(
            name for name in folders if recursive and not name.startswith(".") and (here / name).resolve() != outside
        )
        skipped = []
        for name in sorted(names):
            if name.startswith(".") or Path(name).suffix.lower() not in SUFFIXES + REPORTED_SUFFIXES:
                continue
            if name.lower().endswith(COMPANION_ENDINGS):
                skipped.append(name)
                continue
            found = True
            yield here / name, (here / name).relative_to(given)
        if skipped:
            more = f" and {len(skipped) - 1} more" if skipped[1:] else ""
            report(f"{here}: skipping {skipped[0]}{more}, written beside outputs; name a file to take it")
    for folder in closed:
        report(f"{folder}: cannot be read; its photos are skipped")
    if not found:
        hint = "" if recursive else "; use --recursive to search the folders in it"
        raise ValueError(f"{given}: no photo in this folder{hint}")


def output_name(source: Path, relative: Path, suffix: str | None) -> Path:
    """Return the path of an output with the suffix that is asked for, or that of the photo's content."""
    named = format_of_name(relative)
    if suffix is None:
        try:
            content = sniff(source)
        except (ValueError, OSError):
            return relative  # reported when it is opened
        if named is content:
            return relative
        suffix = content.suffixes[0] if content.extra is None else ".tif"
    known = named is not None or relative.suffix.lower() in REPORTED_SUFFIXES
    return relative.with_suffix(suffix) if known else relative.with_name(relative.name + suffix)


def find_collisions(jobs: Sequence[Job], *, kept: Iterable[Path] = (), overwrite: bool = False) -> dict[int, str]:
    """Find jobs that would replace a file that must be kept, before any of them writes.

    Existing files may be replaced with ``overwrite``, a photo by its own output included; other inputs, the files
    ``kept``, outputs of the same run, and a photo by a companion never are.

    Returns:
        The reason in one line, by index of the job.
    """
    read = {key for path in (*(job.source for job in jobs), *kept) for key in file_keys(path)}
    planned: dict[str, tuple[Job, Path]] = {}
    reasons: dict[int, str] = {}
    for index, job in enumerate(jobs):
        own = file_keys(job.source)
        for path in job.outputs:
            there = os.path.lexists(path) and not os.path.isdir(path)  # a folder is refused when it is written to
            first, first_path = planned.setdefault(_place(path), (job, path))
            if path == job.target and own & file_keys(path):
                if overwrite:
                    continue
                reason = "the output is the input; choose another OUT or give --overwrite"
            elif read & file_keys(path):
                which = "the" if own & file_keys(path) else "another"
                reason = f"its output {path} is {which} input; choose another OUT"
            elif first is not job and path != first_path:
                reason = (
                    f"its output {path} differs in case only from that of {first.source}, which some disks do not tell "
                    "apart; rename one, or choose another OUT for one"
                )
            elif first is not job:
                reason = f"its output {path} is that of {first.source}, too; choose another OUT for one"
            elif there and not overwrite:
                reason = f"its output {path} already exists; choose another OUT, or --overwrite replaces it"
            else:
                continue
            reasons.setdefault(index, f"{job.source}: {reason}")
    return reasons


def find_done(jobs: Sequence[Job]) -> tuple[set[int], dict[int, str]]:
    """Find jobs of an earlier run by their outputs; one that is an input or a folder does not count.

    Returns:
        Indices of jobs whose output exists; and, by index, the reason in one line why that of another cannot be told
        from it: numbers follow the order of the photos, among which there may be new ones.
    """
    inputs = {key for job in jobs for key in file_keys(job.source)}
    done, names = set(), {}
    for index, job in enumerate(jobs):
        there = os.path.lexists(job.target) and not os.path.isdir(job.target)
        if there and inputs.isdisjoint(file_keys(job.target)):
            done.add(index)
            names[_place(job.unnumbered or job.target)] = job.target
    unclear = {
        index: f"{job.source}: its output {job.target} is numbered, and {names[name]} may be that of this or another "
        f"photo; delete {names[name]}, so that both are processed"
        for index, job in enumerate(jobs)
        if index not in done and (name := _place(job.unnumbered or job.target)) in names
    }
    return done, unclear


def refuse_collisions(job: Job, *, kept: Iterable[Path] = (), overwrite: bool = False) -> None:
    """Refuse one job as :func:`find_collisions` does.

    Raises:
        ValueError: If it would replace a file.
    """
    for reason in find_collisions([job], kept=kept, overwrite=overwrite).values():
        raise ValueError(reason)


def file_keys(path: Path) -> set[object]:
    """Return keys of a file of which two names share at least one: its path, and its inode if that can be read."""
    keys: set[object] = {os.path.join(os.path.realpath(path.parent), path.name)}
    with contextlib.suppress(OSError):
        status = path.stat()
        keys.add((status.st_dev, status.st_ino))
    return keys


def run_jobs(
    jobs: Sequence[Job],
    work: Callable[[Job], object],
    *,
    overwrite: bool,
    report: Callable[[str], None],
    kept: Iterable[Path] = (),
    copy_faceless: Callable[[Job], object] | None = None,
    keep_times: bool = False,
) -> list[str]:
    """Process many photos; a failure does not stop the others.

    Two photos are processed at once, so that decoding and encoding one overlap with the network on the other.

    Args:
        jobs: Inputs and outputs; folders of outputs are created.
        work: Processes a job and returns its summary; called from several threads.
        overwrite: See :func:`find_collisions`.
        report: Called with a line for each processed photo, in the order of ``jobs``.
        kept: See :func:`find_collisions`.
        copy_faceless: Writes the output of a photo for which ``work`` raises ``NoFaceFound``; None to let it fail.
        keep_times: Give outputs the modification times of their photos.

    Returns:
        One line for each failed photo, naming it and the reason.
    """
    failures = []
    collisions = find_collisions(jobs, kept=kept, overwrite=overwrite)

    def attempt(index: int) -> tuple[bool, str]:
        """Return whether a job succeeded, and its line: an exception would keep the photo in memory until read."""
        job = jobs[index]
        if index in collisions:
            return False, printable(collisions[index])
        try:
            done = run_job(job, work, copy_faceless=copy_faceless, keep_times=keep_times)
        except Exception as error:
            if os.environ.get(TRACEBACK_VARIABLE) == "1":
                raise
            return False, failure_line(job.source, error)
        return True, printable(f"{job.source} -> {job.target}: {done}")

    with progress_bar(disable=len(jobs) < 2) as bar, _overlapping(len(jobs)) as start:
        outcomes = start(attempt, range(len(jobs)))
        for succeeded, line in bar.track(outcomes, total=len(jobs), description="Photos"):
            if succeeded:
                report(line)
            else:
                failures.append(line)
    return failures


@contextlib.contextmanager
def _overlapping(num_jobs: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """Provide a ``map`` that runs ``PHOTOS_AT_ONCE`` calls at once, each with its share of PyTorch's threads.

    An interruption waits for the calls that run, and starts no further ones.
    """
    if num_jobs < 2:
        yield map
        return
    import torch

    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(
        PHOTOS_AT_ONCE, "photo", torch.set_num_threads, initargs=(max(1, threads // PHOTOS_AT_ONCE),)
    )
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # part of this setting is global


def copy_unchanged(job: Job, *, quality: int | None = None, strip: Strip | None = None, convert: bool = False) -> None:
    """Write the output of a job without changing pixels; arguments of :meth:`Photo.write_stripes`."""
    from retouch_common.photo.io import Photo

    Photo.open(job.source, max_pixels=None).write_unchanged(job.target, quality=quality, strip=strip, convert=convert)


def failure_line(source: Path, error: Exception) -> str:
    """Return the reason why a photo could not be processed, in one line that names the photo."""
    line = error_line(error) or printable(f"unexpected {type(error).__name__}: {' '.join(str(error).split())}")
    name = printable(str(source))
    return line if name in line else f"{name}: {line}"


def run_job(
    job: Job, work: Callable[[Job], P], *, copy_faceless: Callable[[Job], object] | None, keep_times: bool
) -> P | Summary:
    """Process one photo and return what ``work`` returns; arguments as of :func:`run_jobs`."""
    before = os.stat(job.source) if keep_times and os.path.exists(job.source) else None
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # a file of that name, or a link to nothing
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(job.target.parent)) from error
    try:
        done: P | Summary = work(job)
    except NoFaceFound:
        if copy_faceless is None:
            raise
        copy_faceless(job)
        done = Summary("copied, because no face was found", num_faces=0, changed=0.0)
    if before is not None:
        os.utime(job.target, ns=(before.st_atime_ns, before.st_mtime_ns))
    return done
