"""Figure 6: how much is lost with fewer pairs. One training and one evaluation for every share of pairs."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from retouch_common.files import write_atomically

from bpfre.config import Config
from bpfre.evaluate import IDENTITY, Options, evaluate
from bpfre.train import train


def sweep(
    config: Config,
    data: str,
    out: Path,
    fractions: Sequence[float],
    options: Options,
    *,
    report: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Train and measure with every share of pairs; what is finished is not done again, what was cut off goes on.

    Args:
        config: Of every training but for ``train.paired_fraction``.
        data: What :func:`bpfre.data.open_data` reads.
        out: Folder with a run directory for every share and ``sweep.json``.
        fractions: Shares of pairs, each in (0, 1].
        options: How to measure.
        report: Receives lines for the user.

    Returns:
        For every share, from small to large: "fraction", and the rows of the table over all pairs.
    """
    points = []
    for fraction in sorted(set(fractions)):
        run = out / f"pairs-{fraction:g}"
        configured = replace(config, train=replace(config.train, paired_fraction=fraction))
        weights = run / "weights"
        if (weights / "model.safetensors").is_file():
            report(f"{run}: trained already")
        else:
            weights = train(configured, data, run, device=options.device, report=report)
            if weights == run:
                report("stopped; the same command continues")
                return points
        result = evaluate(weights, data, options, out=run / "evaluation", report=report)
        points.append({"fraction": fraction, "rows": result.rows("all"), "attention": result.attention})
        write_atomically(out / "sweep.json", (json.dumps(points, indent=2) + "\n").encode())
    return points


def show_sweep(points: Sequence[dict[str, Any]]) -> None:
    """Print PSNR against the share of pairs."""
    from rich.console import Console
    from rich.table import Table

    table = Table("pairs", title="PSNR dB, all pairs of the validation split")
    rows = list(points[0]["rows"]) if points else [IDENTITY]
    for row in rows:
        table.add_column(row, justify="right")
    for point in points:
        table.add_row(f"{point['fraction']:.2%}", *(f"{point['rows'][row]['psnr']:.2f}" for row in rows))
    Console().print(table)
