"""Mutate photographs of every format, and check what becomes of them: `nox -s fuzz [-- --minutes N] [--seed S]`.

Each mutated file is retouched (a block in its middle is inverted) in a child process with limits on processor time,
elapsed time, address space and resident memory, and written as TIFF, PNG, JPEG, WebP and AVIF by turns. It must be
refused in one line, or the output must have the pixels outside the block that an independent decoder (tifffile, Pillow,
pillow-heif or rawpy, in another child) finds in the mutated file, or in the sound one, where that decoder refuses the
mutated one. Crashes, hangs, exceeded limits, tracebacks, wrong outputs and leftovers are failures.

A case is determined by the seed, its number and which extras are installed. Files that failed are saved;
`--seed S --only NUMBER` repeats one. `--summary docs/evidence/fuzz.json` adds the run to that file: how many files of
each kind ended how, the largest use of time and memory, the limits, the commit and the versions.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click
import fuzz_cases
import fuzz_checks
import numpy as np
import tifffile
from fuzz_cases import Case
from fuzz_checks import Ending
from retouch_common.metrics.environment import commit, environment, work_tree_changes


@dataclass
class Tally:
    """Results of a run's cases.

    Attributes:
        endings: Number of cases by ending.
        kinds: The same for each kind of file.
        failures: A line for each failure.
        seconds: Largest processor time of a case.
        resident: Largest resident memory of a case, in bytes.
    """

    endings: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    resident: int = 0

    def add(self, seed: int, case: Case, ending: Ending) -> None:
        """Count a case."""
        self.endings[ending.kind] += 1
        self.kinds.setdefault(case.kind, Counter())[ending.kind] += 1
        self.seconds, self.resident = max(self.seconds, ending.seconds), max(self.resident, ending.resident)
        if ending.kind not in fuzz_checks.RIGHT:
            self.failures.append(f"seed {seed} case {case.number} ({case.kind}): {ending.kind}: {ending.message}")


def fuzz(
    seed: int,
    numbers: Iterator[int],
    until: float,
    saved: Path | None = None,
    work: Callable[[Path, Path], None] = fuzz_checks.retouch,
) -> Tally:
    """Run cases until the monotonic time ``until``; failures are printed, and saved in a folder."""
    tally = Tally()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # outputs are flushed, which a disk makes slow
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory) as scratch:
        files = _draw_sound_files(Path(scratch))
        for number in numbers:
            if time.monotonic() > until:
                break
            folder = Path(scratch) / "case"
            folder.mkdir()
            case = fuzz_cases.make_case(files, seed, number)
            ending = fuzz_checks.run_case(case, folder, work)
            tally.add(seed, case, ending)
            shutil.rmtree(folder)
            if ending.kind not in fuzz_checks.RIGHT:
                print(tally.failures[-1], flush=True)
                if saved is not None:
                    _save_failure(saved, seed, case, ending)
    return tally


def _draw_sound_files(scratch: Path) -> dict[str, bytes]:
    """Return :func:`fuzz_cases.sound_files`, drawn in a child: libvips' threads do not survive a fork."""
    store = scratch / "sound.npz"

    def draw() -> None:
        np.savez(store, **{kind: np.frombuffer(data, np.uint8) for kind, data in fuzz_cases.sound_files().items()})

    drawn = fuzz_checks.in_child(draw, scratch / "log")
    assert drawn.kind == "done", drawn
    with np.load(store) as sound:
        return {kind: sound[kind].tobytes() for kind in sound}


def _save_failure(folder: Path, seed: int, case: Case, ending: Ending) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{seed}-{case.name}").write_bytes(case.data)
    entry = {"seed": seed, "case": case.number, "kind": case.kind, "ending": ending.kind, "message": ending.message}
    with (folder / "failures.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def write_summary(path: Path, seed: int, tally: Tally, elapsed: float) -> None:
    """Add a run to a summary, in place of an earlier one with its seed."""
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.is_file() else {}
    runs[str(seed)] = {
        "files": sum(tally.endings.values()),
        "endings": dict(sorted(tally.endings.items())),
        "failures": tally.failures,
        "kinds": {kind: dict(sorted(endings.items())) for kind, endings in sorted(tally.kinds.items())},
        "elapsed_seconds": round(elapsed),
        "largest": {"processor_seconds": round(tally.seconds, 2), "resident_mib": tally.resident >> 20},
        "limits": {
            "processor_seconds": fuzz_checks.SECONDS,
            "elapsed_seconds": fuzz_checks.ELAPSED,
            "address_space_mib": fuzz_checks.ADDRESS_SPACE >> 20,
            "resident_mib": fuzz_checks.RESIDENT >> 20,
            "pixels": fuzz_checks.MAX_PIXELS,
        },
        "environment": environment() | {"decoders": decoders()},
    }
    runs = {seed: runs[seed] for seed in sorted(runs, key=int)}
    totals = {"files": sum(run["files"] for run in runs.values())}
    totals["failures"] = sum(len(run["failures"]) for run in runs.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(totals | {"runs": runs}, indent=2) + "\n", encoding="utf-8")


def decoders() -> dict[str, str]:
    """Return the versions of the decoders."""
    import PIL
    import pyvips

    libvips = ".".join(str(pyvips.version(i)) for i in range(3))
    found = {"libvips": libvips, "pillow": PIL.__version__, "tifffile": tifffile.__version__}
    for name in ("pillow-heif", "pillow-jxl-plugin", "rawpy"):
        with contextlib.suppress(PackageNotFoundError):  # the extra is not installed
            found[name] = version(name)
    return found


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0), default=5.0, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), help="[default: drawn, and printed]")
@click.option("--only", type=click.IntRange(min=0), metavar="NUMBER", help="Repeat one case of a seed.")
@click.option("--files", type=click.IntRange(min=1), help="Stop after so many, even before the time is over.")
@click.option("--saved", type=click.Path(path_type=Path), default=Path("outputs/fuzz"), show_default=True)
@click.option("--summary", type=click.Path(path_type=Path), metavar="JSON", help="Add the run to this file.")
def main(
    minutes: float, seed: int | None, only: int | None, files: int | None, saved: Path, summary: Path | None
) -> None:
    """Mutate photographs of every format, and check what becomes of them."""
    if summary is not None and only is not None:
        raise click.UsageError("--summary is of whole runs; leave out --only")
    if summary is not None and work_tree_changes() != []:
        raise click.UsageError("--summary: a run belongs to a commit, and the work tree differs from its commit")
    seed = int.from_bytes(os.urandom(3), "big") if seed is None else seed
    numbers = iter(range(files or 10**9)) if only is None else iter([only])
    print(f"seed {seed}", flush=True)
    start, before = time.monotonic(), commit()
    tally = fuzz(seed, numbers, start + 60 * minutes, saved)
    counts = ", ".join(f"{count} {kind}" for kind, count in tally.endings.most_common())
    largest = f"at most {tally.seconds:.1f} s of processor time and {tally.resident >> 20} MiB"
    print(f"{sum(tally.endings.values())} files: {counts}; {largest}")
    if summary is not None:
        if commit() != before:
            raise click.ClickException(f"the work tree changed during the run; {summary} was not written")
        write_summary(summary, seed, tally, time.monotonic() - start)
    sys.exit(bool(tally.failures))


if __name__ == "__main__":
    main()
