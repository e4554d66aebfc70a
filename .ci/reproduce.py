"""Repeat a paper's comparison: `python .ci/reproduce.py packages/abpn RUNS [--portraits FACES] [--smoke] [TABLE…]`.

The package's `reproduction.toml` has a table for each of the paper's::

    [table2]
    title = "ABPN, Table 2: what each part contributes"
    paper = "CRHD-3K, PSNR in dB"                 # data and metric of the paper's column
    expected = "..."                              # what should differ from the paper and why, written before the run
    portraits = ["london_neutral", "headshots"]   # folders below FACES
    seeds = [0, 1]
    full = { steps = 6000 }                       # values of {steps} and the like below ...
    smoke = { steps = 2 }                         # ... and those of --smoke
    prepare = []                                  # commands that all arms share, run first; {runs} is their directory
    stages = ["abpn-train --steps {steps} {options} --set train.seed={seed} --data faces:{portraits} --out {run}"]
    result = "{run}/evaluation.json"              # or stages.jsonl, by default, as a list
    reference = "full"                            # the arm that others are compared with
    paper_identity = 30.1                         # the paper's value for doing nothing, if it has one
    [table2.columns]                              # JSON pointers into the result; * stands for every entry of a list,
                                                  # without those that lack the value; a list of pointers is averaged
    "PSNR inside, dB" = "/images/*/ABPN/psnr"
    [table2.identity]                             # the same for doing nothing, if the result has it
    "PSNR inside, dB" = "/images/*/identity/psnr"
    [[table2.arms]]
    name = "full"
    options = ""                                  # {options}; likewise any other text; an arm may have own `stages`
    paper = 37.35                                 # the paper's value

Commands, `result` and pointers may name {runs}, {run}, {seed}, {portraits}, the values of `full` and the texts of the
arm, such as its {name}. Every arm and seed is a run directory {run}, RUNS/PACKAGE/TABLE/ARM-SEED; an arm may refer to
one before it as {runs}/ARM-{seed}. Rerun the same command to resume. At the end
docs/reproduction/ gets PACKAGE-TABLE.json, .md and .png. Intervals are 95 % bootstrap intervals over seeds and test
images or, where a result has one value, the range over the seeds. `--smoke` runs the first two arms with one seed on
scikit-image's astronaut and writes no document.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nox.project import load_toml
from stages import FINISHED, finished_stages, run_stages

DOCUMENTS = Path("docs/reproduction")
IDENTITY = "doing nothing"
RESAMPLES = 5000


@dataclass(frozen=True)
class Estimate:
    """A mean with the limits of its interval; equal where there is a single value."""

    mean: float
    low: float
    high: float


def resolve(document: Any, pointer: str) -> list[float]:
    """Return the numbers that a JSON pointer (RFC 6901) names, where * stands for every entry of a list.

    Raises:
        ValueError: Nothing is there.
    """
    found = [document]
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        try:
            if key == "*":
                found = [entry for values in found for entry in values]
            else:  # a metric may be undefined for some images: nothing differs inside an empty mask
                having = [values for values in found if isinstance(values, list) or key in values] or found
                found = [values[int(key)] if isinstance(values, list) else values[key] for values in having]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"the result has no {pointer}") from error
    if not found:
        raise ValueError(f"the result has no values at {pointer}")
    return [float(value) for value in found]


def estimate(samples: np.ndarray, *, seed: int = 0) -> Estimate:
    """Return the mean of (seeds, images) with its interval, of means over resampled seeds and resampled images.

    With one image, as where a result has one value, the interval is the range over the seeds.
    """
    seeds, images = samples.shape
    mean = float(samples.mean())
    if images == 1:
        return Estimate(mean, float(samples.min()), float(samples.max()))
    generator = np.random.default_rng(seed)
    chosen = (
        generator.integers(seeds, size=(RESAMPLES, seeds, 1)),
        generator.integers(images, size=(RESAMPLES, 1, images)),
    )
    low, high = np.quantile(samples[chosen].mean(axis=(1, 2)), [0.025, 0.975])
    return Estimate(mean, float(low), float(high))


class Table:
    """One of the paper's tables.

    Args:
        package: Name of the package.
        name: Name of the table in `reproduction.toml`.
        recipe: Its content.
        runs: Folder of the table's run directories.
        portraits: Folder of the sets of portraits.
        smoke: Run two arms with one seed.
    """

    def __init__(
        self, package: str, name: str, recipe: Mapping[str, Any], runs: Path, portraits: Path, *, smoke: bool = False
    ) -> None:
        self.package, self.name, self.recipe, self.runs, self.portraits = package, name, recipe, runs, portraits
        self.arms = recipe["arms"][:2] if smoke else recipe["arms"]
        self.seeds = recipe["seeds"][:1] if smoke else recipe["seeds"]
        self.values = dict(recipe["smoke" if smoke else "full"])
        sets = [str(portraits)] if smoke else [str(portraits / folder) for folder in recipe["portraits"]]
        self.values |= {"portraits": ",".join(sets), "runs": str(runs)}

    def train(self) -> int:
        """Run what is left of all arms; return 0, or the exit status of the command that failed or was stopped."""
        for run, commands in self.runs_of():
            if status := run_stages(commands, run):
                return status
        return 0

    def runs_of(self) -> Iterator[tuple[Path, list[str]]]:
        """Yield run directories with their commands in order, that of what all arms share first."""
        yield self.runs / "shared", [command.format(**self.values) for command in self.recipe.get("prepare", [])]
        for seed in self.seeds:
            for arm in self.arms:
                stages = arm.get("stages", self.recipe.get("stages", []))
                yield self._run(arm, seed), [stage.format(**self._known(arm, seed)) for stage in stages]

    def measure(self) -> dict[str, Any]:
        """Return the table: for every row and column an :class:`Estimate`, the samples, and the paper's values.

        Raises:
            ValueError: A result lacks a value.
            OSError: A result is missing.
        """
        columns = self.recipe["columns"]
        samples: dict[str, dict[str, np.ndarray]] = {}
        for arm in self.arms:
            samples[arm["name"]] = self._samples(arm, self.seeds, columns)
            if IDENTITY not in samples and self.recipe.get("identity"):
                samples[IDENTITY] = self._samples(arm, self.seeds[:1], self.recipe["identity"])
        reference = samples[self.recipe["reference"]] if self.recipe.get("reference") in samples else None
        rows = {}
        for name, values in samples.items():
            row: dict[str, Any] = {column: vars(estimate(value)) for column, value in values.items()}
            if reference is not None and name not in (IDENTITY, self.recipe["reference"]):
                row["difference"] = {
                    column: vars(estimate(value - reference[column])) for column, value in values.items()
                }
            rows[name] = row
        paper = {arm["name"]: arm["paper"] for arm in self.arms if "paper" in arm}
        if IDENTITY in samples and "paper_identity" in self.recipe:
            paper[IDENTITY] = self.recipe["paper_identity"]
        return {
            "package": self.package,
            "table": self.name,
            "title": self.recipe["title"],
            "expected": self.recipe["expected"],
            "seeds": self.seeds,
            "settings": {key: value for key, value in self.values.items() if key not in ("portraits", "runs")},
            "portraits": self.recipe["portraits"],
            "arms": {arm["name"]: self._commands(arm) for arm in self.arms},
            "commits": self._commits(),
            "rows": rows,
            "paper": {"column": self.recipe["paper"], "values": paper},
            "samples": {name: {c: v.tolist() for c, v in values.items()} for name, values in samples.items()},
        }

    def _commands(self, arm: Mapping[str, Any]) -> list[str]:
        """Return the commands of an arm, without the names of this machine's folders."""
        known = self._known(arm, self.seeds[0])
        known |= {name: f"{{{name}}}" for name in ("run", "runs", "portraits", "seed")}
        return [stage.format(**known) for stage in arm.get("stages", self.recipe.get("stages", []))]

    def _commits(self) -> list[str]:
        """Return the commits at which the commands of the table ended."""
        stages = [stage for run, _ in self.runs_of() for stage in finished_stages(run)]
        return sorted({str(stage.get("commit")) for stage in stages})

    def _run(self, arm: Mapping[str, Any], seed: int) -> Path:
        return self.runs / f"{re.sub('[^a-z0-9]+', '-', arm['name'].lower()).strip('-')}-{seed}"

    def _known(self, arm: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """Return what commands and pointers may name in braces."""
        texts = {key: value for key, value in arm.items() if isinstance(value, str)}
        return {"options": "", **self.values, **texts, "seed": seed, "run": str(self._run(arm, seed))}

    def _samples(
        self, arm: Mapping[str, Any], seeds: Sequence[int], columns: Mapping[str, str | list[str]]
    ) -> dict[str, np.ndarray]:
        """Return for every column the values (seeds, images)."""
        found: dict[str, list[list[float]]] = {column: [] for column in columns}
        for seed in seeds:
            known, result = self._known(arm, seed), self._result(arm, seed)
            for column, pointers in columns.items():
                pointers = [pointers] if isinstance(pointers, str) else pointers
                values = np.array([resolve(result, pointer.format(**known)) for pointer in pointers])
                found[column].append(values.mean(axis=0).tolist())
        return {column: np.array(values) for column, values in found.items()}

    def _result(self, arm: Mapping[str, Any], seed: int) -> Any:
        stages = finished_stages(self._run(arm, seed))
        if "result" not in self.recipe:
            return stages
        file = Path(self.recipe["result"].format(**self._known(arm, seed)))
        return json.loads(file.read_text(encoding="utf-8")) | {FINISHED.removesuffix(".jsonl"): stages}


def as_markdown(table: Mapping[str, Any]) -> str:
    """Return the table as Markdown, the paper's values in a column of their own."""
    columns = list(next(iter(table["rows"].values())))
    columns = [column for column in columns if column != "difference"]
    compared = any("difference" in row for row in table["rows"].values())
    heads = ["", *columns, *([f"against the reference: {columns[0]}"] if compared else []), "the paper"]
    lines = [f"# {table['title']}", "", table["expected"].strip(), "", _line(heads), _line(["---"] * len(heads))]
    for name, row in table["rows"].items():
        cells = [name, *(_cell(row[column]) for column in columns)]
        if compared:
            cells.append(_cell(row["difference"][columns[0]], sign=True) if "difference" in row else "")
        lines.append(_line([*cells, str(table["paper"]["values"].get(name, ""))]))
    lines += ["", f"The paper: {table['paper']['column']}. In brackets: 95 % intervals.", ""]
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: Mapping[str, float], *, sign: bool = False) -> str:
    form = "+.3g" if sign else ".4g"
    mean, low, high = (format(value[key], form) for key in ("mean", "low", "high"))
    return mean if low == high else f"{mean} [{low}, {high}]"


def draw(table: Mapping[str, Any], file: Path) -> None:
    """Draw the first column with its intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(table["rows"])
    column = next(iter(table["rows"][names[0]]))
    values = [table["rows"][name][column] for name in names]
    mean = np.array([value["mean"] for value in values])
    reach = np.abs(np.array([[value["low"], value["high"]] for value in values]).T - mean)
    figure, axes = pyplot.subplots(figsize=(7, 0.6 + 0.4 * len(names)), layout="constrained")
    axes.errorbar(mean, np.arange(len(names)), xerr=reach, fmt="o", capsize=3)
    axes.set_yticks(np.arange(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(column)
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def draw_smoke_portraits(folder: Path) -> None:
    """Write 51 crops of scikit-image's astronaut, six of which :func:`split_portraits` holds out.

    The others are four different ones, since what is equal is prepared once.
    """
    import pyvips
    from skimage import data

    astronaut = data.astronaut()
    for index in range(51):
        top = index if index % 10 == 0 else 1 + index % 4
        crop = np.ascontiguousarray(astronaut[top : 380 + top, 60:440][:, :: 1 - 2 * (top % 2)])
        pyvips.Image.new_from_array(crop).write_to_file(str(folder / f"{index:02}.png"))


def main() -> None:
    """Read the command line, train, measure, and exit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("package", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--portraits", type=Path, default=Path("../shared/data/faces"))
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("names", nargs="*")
    options = parser.parse_intermixed_args()
    tables = load_toml(options.package / "reproduction.toml")
    if unknown := sorted(set(options.names) - set(tables)):
        sys.exit(f"Error: {options.package.name} has no table {', '.join(unknown)}; choose from {', '.join(tables)}")
    package = options.package.name
    if not options.smoke:
        from retouch_common.testing.evidence import not_a_commit

        if reason := not_a_commit():
            sys.exit(f"Error: {reason}")
    for name in options.names or tables:
        with tempfile.TemporaryDirectory() as folder:
            runs, portraits = options.runs.absolute() / package / name, options.portraits
            if options.smoke:
                runs, portraits = Path(folder) / "runs", Path(folder) / "portraits"
                portraits.mkdir()
                draw_smoke_portraits(portraits)
            table = Table(package, name, tables[name], runs, portraits, smoke=options.smoke)
            if status := table.train():
                print(f"{name} is not finished; rerun the same command to resume", file=sys.stderr)
                sys.exit(status)
            try:
                measured = table.measure()
            except (ValueError, OSError) as error:
                sys.exit(f"Error: {package} {name}: {error}")
        text = as_markdown(measured)
        print(text)
        if not options.smoke:
            from retouch_common.metrics.environment import environment

            DOCUMENTS.mkdir(parents=True, exist_ok=True)
            stem = DOCUMENTS / f"{package}-{name}"
            document = json.dumps({**measured, "environment": environment()}, indent=2) + "\n"
            stem.with_suffix(".json").write_text(document, encoding="utf-8")
            stem.with_suffix(".md").write_text(text, encoding="utf-8")
            draw(measured, stem.with_suffix(".png"))


if __name__ == "__main__":
    main()
