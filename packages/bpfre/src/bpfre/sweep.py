"""Figure 6 and Table 4: quality against the share of pairs, with one training and one evaluation per share."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from retouch_common.config import load_yaml
from retouch_common.files import refuse_other_settings, write_atomically
from retouch_common.metrics.evaluation import HARD, IDENTITY, console
from retouch_common.metrics.protocols import PROTOCOLS
from retouch_common.training.fingerprint import fingerprint, refuse_output_in_data
from retouch_common.training.run_state import refuse_other_run

from bpfre.config import Config
from bpfre.evaluate import ALL, EvaluationOptions, as_json, evaluate, evaluation_key
from bpfre.train import train


def sweep(
    config: Config,
    data: str,
    out: Path,
    fractions: Sequence[float],
    options: EvaluationOptions,
    *,
    test_data: str | None = None,
    report: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Train and evaluate with every share of pairs, resuming what ``out`` already holds.

    Args:
        config: Configuration of all trainings except ``train.paired_fraction``.
        data: Training data, as for :func:`bpfre.data.open_face_pairs`.
        out: Folder for a run directory per share and ``sweep.json``.
        fractions: Shares of pairs, each in (0, 1].
        options: What to measure.
        test_data: Test data; ``data`` if None.
        report: Called with progress messages.

    Returns:
        In increasing order of share, up to a stopped training: dicts of "fraction", and "subsets" and "fid" as in
        :func:`bpfre.evaluate.as_json`.

    Raises:
        ValueError: If data or options cannot be used, ``out`` is inside the data, or it holds a sweep with other
            data or configuration.
        OSError: If ``out`` cannot be written.
    """
    points: list[dict[str, Any]] = []
    options = replace(options, task=options.task or config.train.task)
    refuse_output_in_data(out, data, test_data or data)
    settings = {"data": data, "images": [fingerprint(data), fingerprint(test_data or data)]}
    refuse_other_settings(out / "sweep.json", settings)
    if not (out / "sweep.json").is_file():
        out.mkdir(parents=True, exist_ok=True)
        _write(out, settings, [])
    for fraction in sorted(set(fractions)):
        run = out / f"pairs-{fraction:g}"
        run_config = replace(config, train=replace(config.train, paired_fraction=fraction))
        weights = _train(run_config, data, run, options, report)
        if weights is None:
            report("stopped; rerun the same command to resume")
            break
        values = _evaluate(weights, test_data or data, run / "evaluation", options, report)
        points.append({"fraction": fraction, "subsets": values["subsets"], "fid": values["fid"]})
        _write(out, settings, points)
    return points


def show_sweep(points: Sequence[Mapping[str, Any]], options: EvaluationOptions) -> None:
    """Print PSNR, and FID if measured, against the share of pairs; a table for each protocol and subset."""
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


def _train(
    config: Config, data: str, run: Path, options: EvaluationOptions, report: Callable[[str], None]
) -> Path | None:
    """Return the folder of a run's weights, or None if the training was stopped."""
    weights = run / "weights"
    if (weights / "model.safetensors").is_file():
        saved = load_yaml(run / "config.yaml")
        refuse_other_run(saved, config, run)
        if saved["train"]["steps"] == config.train.steps:
            report(f"{run}: trained already")
            return weights
    found = train(config, data, run, device=options.device, report=report)
    return weights if found == weights else None


def _evaluate(
    weights: Path, data: str, out: Path, options: EvaluationOptions, report: Callable[[str], None]
) -> dict[str, Any]:
    """Return the evaluation of a run, read from ``out`` if it is already there."""
    record = out / "evaluation.json"
    key = evaluation_key(weights / "model.safetensors", data, options)
    if record.is_file():
        values: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        if {name: values.get(name) for name in key} == key:
            report(f"{out}: measured already")
            return values
    return as_json(evaluate(weights, data, options, out=out, report=report))


def _write(out: Path, settings: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> None:
    text = json.dumps({**settings, "points": list(points)}, indent=2) + "\n"
    write_atomically(out / "sweep.json", text.encode())
