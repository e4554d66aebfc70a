"""Figure 6 and Table 4: how much is lost with fewer pairs. One training and one evaluation for every share of pairs."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from retouch_common.config import load_yaml
from retouch_common.files import refuse_other_settings, write_atomically
from retouch_common.metrics.evaluation import HARD, IDENTITY, console
from retouch_common.metrics.protocols import PROTOCOLS
from retouch_common.training.run_state import refuse_other_run

from bpfre.config import Config
from bpfre.evaluate import ALL, Options, as_json, evaluate, identity
from bpfre.train import train


def parse_fractions(text: str) -> tuple[float, ...]:
    """Read shares of pairs, "0.01,0.1,1".

    Raises:
        ValueError: It is no list of numbers above 0 and at most 1.
    """
    try:
        fractions = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is not a list of shares of pairs, e.g. 0.01,0.1,1") from None
    if not all(0 < fraction <= 1 for fraction in fractions):
        raise ValueError(f"{text!r}: every share of pairs must lie above 0 and at most at 1")
    return fractions


def sweep(
    config: Config,
    data: str,
    out: Path,
    fractions: Sequence[float],
    options: Options,
    *,
    test_data: str | None = None,
    report: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Train and measure with every share of pairs; what is finished is not done again, what was cut off goes on.

    Args:
        config: Of every training but for ``train.paired_fraction``.
        data: What :func:`bpfre.data.open_data` reads, for training.
        out: Folder with a run directory for every share and ``sweep.json``.
        fractions: Shares of pairs, each in (0, 1].
        options: How to measure.
        test_data: What is measured on; ``data`` if None.
        report: Receives lines for the user.

    Returns:
        For every share, from small to large, while the training was not stopped: "fraction", and "subsets" and "fid"
        as in :func:`bpfre.evaluate.as_json`.

    Raises:
        ValueError: Unusable data or options, or ``out`` holds a sweep over other data or with another configuration.
        OSError: ``out`` cannot be written.
    """
    points: list[dict[str, Any]] = []
    refuse_other_settings(out / "sweep.json", {"data": data})
    if not (out / "sweep.json").is_file():
        out.mkdir(parents=True, exist_ok=True)
        _write(out, data, [])
    for fraction in sorted(set(fractions)):
        run = out / f"pairs-{fraction:g}"
        weights = _trained(replace(config, train=replace(config.train, paired_fraction=fraction)), data, run, options,
                           report)  # fmt: skip
        if weights is None:
            report("stopped; the same command continues")
            break
        values = _measured(weights, test_data or data, run / "evaluation", options, report)
        points.append({"fraction": fraction, "subsets": values["subsets"], "fid": values["fid"]})
        _write(out, data, points)
    return points


def show_sweep(points: Sequence[Mapping[str, Any]], options: Options) -> None:
    """Print PSNR, and FID if there is any, against the share of pairs; a table for every protocol and subset."""
    from rich.table import Table

    screen = console()
    for protocol in options.protocols:
        for subset in (ALL, HARD):
            table = Table("pairs", title=f"PSNR dB by {protocol}, {subset}")
            rows = list(points[0]["subsets"][subset]["rows"]) if points else [IDENTITY]
            with_fid = subset == ALL and bool(points) and bool(points[0]["fid"])
            for name in (*rows, *(f"FID, {row}" for row in rows if with_fid)):
                table.add_column(name, justify="right")
            for point in points:
                means = point["subsets"][subset]["rows"]
                values = [means[row].get(PROTOCOLS[protocol].psnr) for row in rows]
                values += [point["fid"][row] for row in rows if with_fid]
                cells = ("-" if value is None else f"{value:.2f}" for value in values)
                table.add_row(f"{point['fraction']:.2%}", *cells)
            screen.print(table)


def _trained(config: Config, data: str, run: Path, options: Options, report: Callable[[str], None]) -> Path | None:
    """The folder of a run's weights, trained if they are not there yet; None if the training was stopped."""
    weights = run / "weights"
    if (weights / "model.safetensors").is_file():
        saved = load_yaml(run / "config.yaml")
        refuse_other_run(saved, config, run)
        if saved["train"]["steps"] == config.train.steps:
            report(f"{run}: trained already")
            return weights
    found = train(config, data, run, device=options.device, report=report)
    return weights if found == weights else None


def _measured(weights: Path, data: str, out: Path, options: Options, report: Callable[[str], None]) -> dict[str, Any]:
    """The evaluation of a point, read if the same one was made before."""
    record = out / "evaluation.json"
    wanted = identity(weights / "model.safetensors", data, options)
    if record.is_file():
        values: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        if {name: values.get(name) for name in wanted} == wanted:
            report(f"{out}: measured already")
            return values
    return as_json(evaluate(weights, data, options, out=out, report=report))


def _write(out: Path, data: str, points: Sequence[Mapping[str, Any]]) -> None:
    text = json.dumps({"data": data, "points": list(points)}, indent=2) + "\n"
    write_atomically(out / "sweep.json", text.encode())
