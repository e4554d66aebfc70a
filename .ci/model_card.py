"""Write the tables of a package's model card: `python .ci/model_card.py packages/abpn [--runs RUNS] [NAME…]`.

MODEL_CARD.md has sections that this script replaces, and nothing else in it::

    <!-- training: small -->     the command, stages, steps, hours and validation figures of the recipe `small`
    <!-- end -->
    <!-- evidence -->            every figure of docs/evidence/PACKAGE.json beside its bar, and gains by skin tone
    <!-- end -->

Training figures come from the files `metrics.jsonl` below RUNS/PACKAGE/NAME, of all recipes or those named. Without
`--runs` only the evidence is written. In `weights.toml` a recipe may name its card (`card`, default MODEL_CARD.md), the
training figures to show (`curve`, default: the first six) and the figures of the evidence that are of its weights
(`evidence`, wildcards, default: all). Needs nox installed, for its TOML reader.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from nox.project import load_toml
from safetensors import safe_open

ROOT = Path(__file__).parent.parent
ROWS = 8  # of a curve, at most
FIGURES = 6
GROUPS = {"people anywhere": "People anywhere", "studio people": "Studio people"}
OTHERS = "Everything else"
BY_TONE = "gain by skin tone"


def replace_section(text: str, name: str, content: str) -> str:
    """Replace what stands between `<!-- NAME -->` and the next `<!-- end -->`; without that section, change nothing."""
    section = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    return section.sub(lambda found: f"{found[1]}\n{content.strip()}\n\n{found[2]}", text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics.jsonl."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def seconds_of(metrics: Iterable[Mapping[str, Any]]) -> float:
    """Return how long a run took; `seconds` counts from the start of each of its processes."""
    total = last = 0.0
    for line in metrics:
        now = line.get("seconds")
        if now is not None:
            total += now - last if now >= last else now
            last = now
    return total


def describe_file(file: Path) -> str:
    """Return the name of a file of weights, its number of parameters and its size."""
    with safe_open(file, framework="np") as weights:
        parameters = sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return f"`{file.name}`: {parameters / 1e6:.1f} M parameters, {file.stat().st_size / 1e6:.1f} MB."


def training_section(package: Path, name: str, recipe: Mapping[str, Any], run: Path) -> str:
    """Describe how a recipe's weights were trained.

    Args:
        package: Folder of the package.
        name: Of the recipe.
        recipe: From weights.toml.
        run: Run directory.

    Raises:
        ValueError: Nothing was trained there.
    """
    files = sorted(run.rglob("metrics.jsonl"), key=lambda file: (file.stat().st_mtime, file))
    if not files:
        raise ValueError(f"{run}: no metrics.jsonl; nothing was trained here")
    commands = "\n".join(stage.format(portraits="FOLDERS", studio="STUDIO", run="RUN") for stage in recipe["stages"])
    portraits, studio = (
        ", ".join(f"`{folder}`" for folder in recipe.get(sets, ())) for sets in ("portraits", "studio")
    )
    first = f"; STUDIO are {studio}" if studio else ""
    parts = [
        f"`nox -s weights -- {package.name} {name}` trains these weights. FOLDERS are {portraits}{first}:",
        f"```sh\n{commands}\n```",
    ]
    rows, curves = [], []
    for file in files:
        metrics = read_metrics(file)
        stage = file.parent.relative_to(run).as_posix()
        hours = f"{seconds_of(metrics) / 3600:.1f}"
        rows.append((name if stage == "." else stage, f"{metrics[-1]['step']:,}", hours))
        curve = _curve(metrics, recipe.get("curve", ()))
        if curve:
            curves.append(curve if stage == "." else f"`{stage}`:\n\n{curve}")
    parts.append(table(("stage", "steps", "hours"), rows))
    parts += [describe_file(package / file) for file in recipe["files"] if (package / file).is_file()]
    if curves:
        parts += ["On people who were not trained on, while training:", *curves]
    return "\n\n".join(parts)


def _curve(metrics: Iterable[Mapping[str, Any]], wanted: Sequence[str]) -> str:
    """Return a table of validation figures over steps; "" if there are none."""
    lines = [line for line in metrics if any(key.startswith("val_") for key in line)]
    if not lines:
        return ""
    names = [name for name in wanted if name in lines[-1]] or [key for key in lines[-1] if key != "step"][:FIGURES]
    count = min(ROWS, len(lines))
    chosen = [lines[round(index * (len(lines) - 1) / max(1, count - 1))] for index in range(count)]
    head = ("step", *(name.removeprefix("val_").replace("_", " ") for name in names))
    return table(head, [(f"{line['step']:,}", *(number(line.get(name)) for name in names)) for line in chosen])


def evidence_section(evidence: Mapping[str, Any], chosen: Sequence[str] = ("*",)) -> str:
    """Set every figure of an evidence file beside its bar, people of both test sets apart, and gains by skin tone.

    Args:
        evidence: Contents of docs/evidence/PACKAGE.json.
        chosen: Wildcards for the names of the figures to show.
    """
    groups: dict[str, list[tuple[str, ...]]] = {}
    tones: list[tuple[str, ...]] = []
    for name, figure in evidence["figures"].items():
        if not any(fnmatch(name, pattern) for pattern in chosen):
            continue
        group = next((title for words, title in GROUPS.items() if words in figure["title"]), OTHERS)
        value = "not measured" if figure["value"] is None else f"{number(figure['value'])} {figure['unit']}".strip()
        verdict = "" if figure["holds"] else "missed"
        groups.setdefault(group, []).append(
            (figure["title"], value, f"{figure['bar']} {figure['unit']}".strip(), verdict)
        )
        for tone, gain in figure["details"].get(BY_TONE, {}).items():
            count = figure["details"].get("pictures by skin tone", {}).get(tone, "")
            tones.append((figure["title"], tone, str(count), f"{number(gain)} {figure['unit']}".strip()))
    where = evidence["environment"]
    parts = [f"`nox -s evidence -- {evidence['package']}`, commit {where['commit']}, {where['date'][:10]}."]
    for title in (*GROUPS.values(), OTHERS):
        if title in groups:
            parts.append(f"**{title}**\n\n" + table(("figure", "value", "bar", ""), groups[title]))
    if tones:
        parts.append("**By skin tone**\n\n" + table(("figure", "skin tone", "pictures", "gain"), tones))
    return "\n\n".join(parts)


def number(value: Any) -> str:
    """Return a figure with as many digits as it deserves."""
    if not isinstance(value, (int, float)):
        return "" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def write_card(package: Path, runs: Path | None, names: Sequence[str] = (), *, root: Path = ROOT) -> list[Path]:
    """Write the sections of a package's cards anew.

    Args:
        package: Folder of the package.
        runs: Where its recipes were trained; None leaves what cards say about training.
        names: Of the recipes; all if none is named.
        root: Of the workspace, for docs/evidence/.

    Returns:
        The cards.

    Raises:
        ValueError: Nothing was trained in a run directory.
        OSError: A file cannot be read or written.
    """
    recipes = load_toml(package / "weights.toml")
    evidence = root / "docs" / "evidence" / f"{package.name}.json"
    cards = {
        package / recipe.get("card", "MODEL_CARD.md"): recipe.get("evidence", ["*"]) for recipe in recipes.values()
    }
    for card, chosen in cards.items():
        text = card.read_text(encoding="utf-8")
        for name, recipe in recipes.items():
            if runs is not None and name in (names or recipes) and f"<!-- training: {name} -->" in text:
                section = training_section(package, name, recipe, runs / package.name / name)
                text = replace_section(text, f"training: {name}", section)
        if evidence.is_file():
            section = evidence_section(json.loads(evidence.read_text(encoding="utf-8")), chosen)
            text = replace_section(text, "evidence", section)
        card.write_text(text, encoding="utf-8")
    return sorted(cards)


def main() -> None:
    """Read the command line and write the cards."""
    parser = argparse.ArgumentParser()
    parser.add_argument("package", type=Path)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("names", nargs="*")
    options = parser.parse_intermixed_args()
    try:
        for card in write_card(options.package, options.runs, options.names):
            print(f"wrote {card}")
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
