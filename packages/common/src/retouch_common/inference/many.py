"""A run over many photographs: what is missing or has changed, by an engine of workers, into a results table."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retouch_common.inference.batch import Job, file_keys, find_collisions, output_name
from retouch_common.inference.manifest import Entry
from retouch_common.inference.results import DONE, FAILED, STARTED, Result, ResultsTable, open_results
from retouch_common.inference.storage import OutputFolder, path_of
from retouch_common.inference.workers import Outcome, Start, Task, Work
from retouch_common.progress import progress_bar
from retouch_common.versions import package_version

Plan = Callable[[Path, Path], Job]
"""Returns the job of a photo by its path and that of its output."""

Engine = Callable[[Start, Iterable[Task]], Iterator[tuple[Task, Outcome]]]
"""Processes photographs: :func:`run_in_workers` or :func:`run_in_ray`, with their further arguments."""


@dataclass(frozen=True, kw_only=True)
class ManyOptions:
    """How to run over many photographs.

    Attributes:
        out: Folder of the outputs.
        engine: Processes the photographs.
        results: Results table, see :class:`retouch_common.inference.results.Result`.
        only_failed: Process only photographs that failed before.
        overwrite: Replace files that no earlier run into this table wrote.
        suffix: Suffix of the outputs; None for that of each photograph.
        kept: Other files that are read, never replaced.
        copy_faceless: As of :func:`retouch_common.inference.batch.run_jobs`.
        keep_times: Likewise.
    """

    out: OutputFolder
    engine: Engine
    results: Path
    only_failed: bool = False
    overwrite: bool = False
    suffix: str | None = None
    kept: Sequence[Path] = ()
    copy_faceless: Callable[[Job], object] | None = None
    keep_times: bool = False


@dataclass(frozen=True)
class Totals:
    """Numbers of photographs of a list: done now, skipped as nothing has changed, and failed, now or before."""

    done: int
    skipped: int
    failed: int


def run_many(
    entries: Sequence[Entry],
    start: functools.partial[Work],
    plan: Plan,
    options: ManyOptions,
    *,
    report: Callable[[str], None],
) -> Totals:
    """Process the photographs of a list that are missing from a results table, or have changed.

    A photograph has changed if its size or time, the options or the weights are others than in the table, or if its
    output is gone. Failures are not tried again unless one of these holds or ``only_failed`` is set.

    Args:
        entries: Photographs.
        start: Loads the network, with the options of the command; ``overwrite`` and ``measure`` are set here.
        plan: Plans a job.
        options: Options.
        report: Called with a line for each failure.

    Raises:
        OSError: If the table cannot be written.
        ValueError: If weights or options are invalid, the table is that of something else, or workers keep dying.
    """
    weights = start().weights
    with open_results(options.results) as table:
        package = start.func.__module__.partition(".")[0]
        made_with = {"version": package_version(package), "weights": weights}
        run = _Run(entries, table, plan, options, _digest(start, weights, options), made_with, report)
        prepared = functools.partial(start, overwrite=True, measure=True)  # collisions are refused before
        with progress_bar(disable=not run.due) as bar:
            progress = bar.add_task("Photos", total=len(run.due))
            for task, outcome in options.engine(prepared, run.tasks()):
                run.record(task, outcome)
                bar.update(progress, completed=run.finished)
        failed = sum(table.rows[entry.path].status == FAILED for entry in entries if entry.path in table.rows)
        return Totals(run.done, len(entries) - len(run.due), failed)


class _Run:
    """Photographs that are due, and their results.

    Attributes:
        due: Entries by path.
        finished: Number of photographs that are done or have failed.
        done: Number of photographs that are done.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        table: ResultsTable,
        plan: Plan,
        options: ManyOptions,
        digest: str,
        made_with: Mapping[str, Any],
        report: Callable[[str], None],
    ) -> None:
        self._table, self._options, self._digest, self._report = table, options, digest, report
        self._made_with = made_with
        self._out = options.out
        self.due = {entry.path: entry for entry in entries if self._is_due(entry)}
        self.finished = self.done = 0
        others = [entry.path for entry in entries if entry.path not in self.due]
        owners = {path: job for path in others if (job := self._finished_job(path))}  # first: their outputs stay
        self._jobs = owners | {path: self._job(entry, plan) for path, entry in self.due.items()}
        kept = [*options.kept, *(path_of(path) for path in others if path not in owners)]
        collisions = find_collisions(list(self._jobs.values()), kept=kept, overwrite=True)
        self._refused = {path: collisions[index] for index, path in enumerate(self._jobs) if index in collisions}

    def tasks(self) -> Iterator[Task]:
        """Yield the photographs to process, each recorded as started; record those that are refused."""
        for path, entry in self.due.items():
            job = self._jobs[path]
            reason = self._refused.get(path) or self._refusal(entry, job)
            if reason:
                row = self._table.rows.get(path)
                output, companions = (row.output, row.companions) if row else (None, None)
                self._finish(Result(path, FAILED, reason, output=output, companions=companions))
            else:
                self._table.record(Result(path, STARTED, **self._written(job)))
                yield Task(path, job, self._out, self._options.copy_faceless, self._options.keep_times)

    def record(self, task: Task, outcome: Outcome) -> None:
        """Record the outcome of a photograph."""
        status, written = (FAILED if outcome.reason else DONE), self._written(task.job)
        if outcome.reason and not self._out.url:  # what was not written must not be taken for ours by a later run
            there = [name for name in (written["output"], *written["companions"]) if os.path.lexists(name)]
            output = written["output"] if written["output"] in there else None
            written = {"output": output, "companions": [name for name in there if name != output]}
        self._finish(Result(task.path, status, *outcome, **written)._replace(**self._made_with))

    def _written(self, job: Job) -> dict[str, Any]:
        """Return the columns of a job's outputs."""
        output, *companions = map(self._out.name, job.outputs)
        return {"output": output, "companions": companions}

    def _finish(self, result: Result) -> None:
        entry = self.due[result.path]
        reason = result.reason and result.reason.encode(errors="backslashreplace").decode()
        result = result._replace(reason=reason, size=entry.size, modified=entry.modified, settings=self._digest)
        self._table.record(result)
        self.finished += 1
        self.done += result.status == DONE
        if reason:
            self._report(reason)

    def _is_due(self, entry: Entry) -> bool:
        row = self._table.rows.get(entry.path)
        if self._options.only_failed:
            return row is not None and row.status == FAILED
        if row is None or row.status == STARTED:
            return True
        same = (row.size, row.modified, row.settings) == (entry.size, entry.modified, self._digest)
        return not same or (row.status == DONE and not self._holds(str(row.output)))

    @functools.cached_property
    def _stored(self) -> frozenset[str]:
        return self._out.stored()

    def _holds(self, name: str) -> bool:
        """Return whether an output is there, by path or URL."""
        return name in self._stored if self._out.url else os.path.lexists(name)

    def _job(self, entry: Entry, plan: Plan) -> Job:
        source, relative = path_of(entry.path), Path(entry.relative)
        return plan(source, self._out.path / output_name(source, relative, self._options.suffix))

    def _finished_job(self, path: str) -> Job | None:
        """Return the job whose outputs are there, None if there are none."""
        row = self._table.rows.get(path)
        if row is None or not row.output or not self._holds(row.output):
            return None
        return Job(path_of(path), path_of(row.output), tuple(map(path_of, row.companions or ())))

    def _refusal(self, entry: Entry, job: Job) -> str | None:
        """Return why a photograph cannot be processed, before a worker tries."""
        if entry.size is None:
            return f"{entry.path}: {entry.reason or 'no such file'}"
        row = self._table.rows.get(entry.path)
        own = {row.output, *(row.companions or ())} if row else set()
        if row is not None and row.companions is None and row.output == self._out.name(job.target):
            own |= set(map(self._out.name, job.companions))  # tables did not always name them
        source = file_keys(job.source)
        for path in job.outputs:
            if not source.isdisjoint(file_keys(path)):
                return f"{entry.path}: the output is the input; choose another OUT"
            name = self._out.name(path)
            if self._holds(name) and name not in own and not self._options.overwrite:
                return (
                    f"{entry.path}: its output {name} already exists; "
                    "choose another OUT, or --retry failed --overwrite replaces it"
                )
        return None


def _digest(start: functools.partial[Work], weights: str | None, options: ManyOptions) -> str:
    """Return a digest of all that outputs depend on besides the photographs."""
    settings = sorted((name, value) for name, value in start.keywords.items() if name != "overwrite")
    out = options.out.url or str(options.out.path)
    run = out, options.suffix, options.copy_faceless is not None, options.keep_times
    name = f"{start.func.__module__}.{start.func.__qualname__}"
    return hashlib.sha256(repr((name, start.args, settings, weights, run)).encode()).hexdigest()[:16]
