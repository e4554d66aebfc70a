"""Evidence: every figure that a package promises, measured and set beside its bar.

    evidence = Evidence("abpn")

    @evidence.figure("R-ABM inverts ABM, largest error", at_most=1e-5)
    def inversion():
        return ...

    if __name__ == "__main__":
        evidence.main()

`nox -s evidence -- abpn` measures all figures and writes docs/evidence/abpn.json; `-- abpn --only inversion` measures
one and writes nothing. A figure that cannot be measured counts as failed, by name. The file belongs to a commit: a work
tree that differs from it is refused, and with `--allow-dirty` measured without writing. `-- abpn --sheets FOLDER`
writes images for inspection instead.

A stopped run resumes with the same command: figures, and what functions decorated by `evidence.kept` return, stay in
`$RETOUCH_RUNS/evidence/abpn` (default runs/) until all are measured. What another commit, machine or version of a
library gave is measured again.
"""

from __future__ import annotations

import json
import math
import operator
import os
import pickle
import shutil
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, wraps
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from retouch_common.files import write_atomically
from retouch_common.metrics.environment import environment, work_tree_changes

if TYPE_CHECKING:
    import numpy as np

F = TypeVar("F", bound=Callable[[], Any])

STUDIO = ("london_neutral", "london_smiling", "canada")  # sets of portraits taken in two studios, under `faces/`
ANYWHERE = ("headshots", "community")  # sets of portraits taken anywhere


class NotMeasured(Exception):
    """Raised by a figure that cannot be measured here; the message says why and what would help."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One promise.

    Attributes:
        key: Name of the function that measures it; the argument of --only.
        title: What is measured.
        bar: The promised value.
        sense: ">=" if the value must reach the bar, "<=" if it must not exceed it.
        unit: Unit of value and bar.
        measure: Returns the value, or the value and a dict of JSON details.
    """

    key: str
    title: str
    bar: float
    sense: str
    unit: str
    measure: Callable[[], Any]


@dataclass(kw_only=True)
class Result:
    """Measurement of a figure; ``reason`` says why there is no value."""

    title: str
    bar: str
    unit: str
    command: str
    value: float | None = None
    holds: bool = False
    reason: str = ""
    seconds: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)


class Evidence:
    """The figures of one package."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.figures: dict[str, Figure] = {}
        self.sheet_rows: Callable[[], Iterable[Mapping[str, np.ndarray]]] | None = None
        self.folder: Path | None = None  # of a run that can be resumed

    def figure(
        self, title: str, *, at_least: float | None = None, at_most: float | None = None, unit: str = "", name: str = ""
    ) -> Callable[[F], F]:
        """Register the function that measures a figure; give exactly one bar.

        `name` replaces the function's own, the argument of --only.

        Raises:
            ValueError: No bar or two, or a second figure of the same name.
        """
        if (at_least is None) == (at_most is None):
            raise ValueError(f"figure {title!r}: give either at_least or at_most")
        bar, sense = (at_least, ">=") if at_most is None else (at_most, "<=")
        assert bar is not None

        def register(measure: F) -> F:
            key = name or measure.__name__
            if key in self.figures:
                raise ValueError(f"figure {key!r} is registered twice")
            self.figures[key] = Figure(key=key, title=title, bar=bar, sense=sense, unit=unit, measure=measure)
            return measure

        return register

    def sheets(self, rows: Callable[[], Iterable[Mapping[str, np.ndarray]]]) -> Callable[..., Any]:
        """Register the function that makes the rows of the sheets, each with images (H, W, 3) uint8 by title."""
        self.sheet_rows = rows
        return rows

    def kept(self, function: F) -> F:
        """Cache what a function returns, on the disk too while all figures are measured.

        Its arguments must be strings or whole numbers: they are part of the file's name.
        """

        @cache
        @wraps(function)
        def cached(*arguments: Any) -> Any:
            name = "-".join([function.__name__, *map(str, arguments)])
            if (file := self._kept(name)) is not None and file.is_file():
                return pickle.loads(file.read_bytes())
            result = function(*arguments)
            if file is not None:
                write_atomically(file, pickle.dumps(result))
            return result

        return cast(F, cached)

    def measure(self, key: str) -> Result:
        """Measure one figure; an exception becomes the reason why there is no value."""
        figure = self.figures[key]
        result = Result(
            title=figure.title,
            bar=f"{figure.sense} {figure.bar:g}",
            unit=figure.unit,
            command=f"nox -s evidence -- {self.package} --only {key}",
        )
        start = time.perf_counter()
        try:
            measured = figure.measure()
            value, result.details = measured if isinstance(measured, tuple) else (measured, {})
            result.value = float(value)
            if not math.isfinite(result.value):
                raise NotMeasured(f"the measurement gave {result.value}")
            result.holds = {">=": operator.ge, "<=": operator.le}[figure.sense](result.value, figure.bar)
        except NotMeasured as error:
            result.value, result.reason = None, str(error)
        except Exception as error:  # a figure that fails must not hide the others
            traceback.print_exc()
            result.value, result.reason = None, f"{type(error).__name__}: {error}"
        result.seconds = round(time.perf_counter() - start, 1)
        return result

    def main(self, arguments: Sequence[str] | None = None) -> None:
        """Run the command line of an evidence script; exit 1 if a figure falls short or was not measured."""
        import click

        from retouch_common.testing.sheets import write_sheets

        @click.command(help=f"Measure what {self.package} promises.")
        @click.option("--only", multiple=True, type=click.Choice(list(self.figures)), help="Measure only these.")
        @click.option("--allow-dirty", is_flag=True, help="Measure a work tree with changes too, and write nothing.")
        @click.option("--sheets", type=click.Path(path_type=Path, file_okay=False), help="Write images here instead.")
        def command(only: tuple[str, ...], allow_dirty: bool, sheets: Path | None) -> None:
            if sheets is not None:
                if self.sheet_rows is None:
                    raise click.UsageError(f"there are no sheets of {self.package}")
                for path in write_sheets(sheets, self.package, self.sheet_rows()):
                    click.echo(path)
                return
            reason, about, results = not_a_commit(), environment(), {}
            if reason and not (only or allow_dirty):
                raise click.UsageError(f"{reason}; or --allow-dirty, which writes nothing")
            if not (only or reason):
                about = self._begin(about)
            for key in only or self.figures:
                results[key] = self._measure_once(key)
            print_results(results)
            if self.folder is not None:
                write_results(Path("docs/evidence") / f"{self.package}.json", self.package, results, about)
                shutil.rmtree(self.folder)
            raise SystemExit(0 if all(result.holds for result in results.values()) else 1)

        command(args=arguments)

    def _begin(self, about: dict[str, Any]) -> dict[str, Any]:
        """Begin a run that can be resumed, or resume the one begun in the same environment; return its environment."""
        self.folder = Path(os.environ.get("RETOUCH_RUNS", "runs")) / "evidence" / self.package
        record = self.folder / "environment.json"
        if record.is_file():
            begun = json.loads(record.read_text(encoding="utf-8"))
            if begun | {"date": None} == about | {"date": None}:
                return begun
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(record, json.dumps(about).encode())
        return about

    def _measure_once(self, key: str) -> Result:
        """Measure a figure, or return what the run that is resumed measured; a figure without a value is repeated."""
        import click

        if (file := self._kept(f"figure-{key}")) is not None and file.is_file():
            return pickle.loads(file.read_bytes())
        click.echo(f"measuring {key}: {self.figures[key].title} ...", err=True)
        result = self.measure(key)
        if file is not None and result.value is not None:
            write_atomically(file, pickle.dumps(result))
        return result

    def _kept(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{name}.pickle"


def not_a_commit() -> str | None:
    """Return why a measurement here would belong to no commit, and what to do; None if it does."""
    changes = work_tree_changes()
    if changes is None:
        return "evidence belongs to a commit, and this is no git checkout; measure in one"
    if not changes:
        return None
    more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
    return f"evidence belongs to a commit, and these files differ from it: {', '.join(changes[:3])}{more}; commit them"


def face_sets(names: Sequence[str]) -> str:
    """Return the folders of some sets of portraits, joined by commas; NotMeasured if one is not there."""
    folders = [Path(os.environ.get("RETOUCH_DATA", "../shared/data")) / "faces" / name for name in names]
    for folder in folders:
        if not folder.is_dir():
            raise NotMeasured(
                f"needs the portraits faces/{folder.name}; set RETOUCH_DATA to the folder that holds them"
            )
    return ",".join(map(str, folders))


def bundled_weights(package: str, name: str = "small") -> Path:
    """Return a file of weights that a package bundles; NotMeasured if it is not there."""
    path = Path(str(resources.files(package))) / "weights" / f"{name}.safetensors"
    if not path.is_file():
        raise NotMeasured(f"{path} is missing")
    return path


def print_results(results: dict[str, Result]) -> None:
    """Print each figure beside its bar, and the command that gives it."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "figure", "measured", "bar", "unit", "command", box=None, pad_edge=False)
    for result in results.values():
        verdict = "holds" if result.holds else "FALLS SHORT" if result.value is not None else "NOT MEASURED"
        value = result.reason if result.value is None else f"{result.value:.4g}"
        table.add_row(verdict, result.title, value, result.bar, result.unit, result.command)
    held = sum(result.holds for result in results.values())
    console = Console(width=None if Console().is_terminal else 200)
    console.print(table)
    console.print(f"{held} of {len(results)} figures hold")


def write_results(path: Path, package: str, results: dict[str, Result], about: dict[str, Any]) -> None:
    """Write the results and the environment as it was when they began to be measured as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figures = {key: asdict(result) for key, result in results.items()}
    document = {"package": package, "environment": about, "figures": figures}
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
