"""Train what a package bundles: `python .ci/weights.py packages/abpn RUNS [--portraits FACES] [NAME…]`.

The package's `weights.toml` has a table for every file that can be trained::

    [small]
    portraits = ["london_neutral", "headshots"]   # folders below FACES
    studio = ["london_neutral"]                   # the same for a first stage, {studio}; may be missing
    stages = ["abpn-train --preset small --data faces:{portraits} --out {run}"]
    megabytes = 15                                # largest size of a file, in units of 10^6 bytes
    half = true                                   # store it in half precision; may be missing
    [small.files]
    "src/abpn/weights/small.safetensors" = "{run}/weights/model.safetensors"

Stages run in their order, in the run directory RUNS/PACKAGE/NAME. Rerun the same command to resume: a finished stage,
which `stages.jsonl` in that directory lists, is skipped; an interrupted one resumes. At the end the files are bundled
(see bundle.py). The exit status is that of the first stage that fails or is stopped; no file is bundled then. Needs nox
installed, for its TOML reader.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nox.project import load_toml
from stages import run_stages


def train(package: Path, recipe: Mapping[str, Any], run: Path, portraits: Path) -> int:
    """Run the stages of a recipe that are left, and bundle its files.

    Args:
        package: Folder of the package.
        recipe: Its recipe.
        run: Run directory; created if missing.
        portraits: Folder of the sets of portraits.

    Returns:
        0, or the exit status of the stage that failed or was stopped.

    Raises:
        ValueError: A file is not fit to be bundled.
        OSError: A command or a file is missing, or cannot be written.
    """
    known = {"run": str(run)}
    for sets in ("portraits", "studio"):
        known[sets] = ",".join(str(portraits / folder) for folder in recipe.get(sets, ()))
    if status := run_stages([stage.format(**known) for stage in recipe["stages"]], run):
        return status
    from bundle import bundle  # imports torch, which takes seconds

    for bundled, trained in recipe["files"].items():
        half = recipe.get("half", False)
        bundle(Path(trained.format(**known)), package / bundled, recipe["megabytes"], half=half)
        print(f"bundled {package / bundled}", flush=True)
    return 0


def main() -> None:
    """Read the command line, train, and exit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("package", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--portraits", type=Path, default=Path("../shared/data/faces"))
    parser.add_argument("names", nargs="*")
    options = parser.parse_intermixed_args()
    recipes = load_toml(options.package / "weights.toml")
    if unknown := sorted(set(options.names) - set(recipes)):
        sys.exit(f"Error: {options.package.name} has no recipe {', '.join(unknown)}; choose from {', '.join(recipes)}")
    for name in options.names or recipes:
        run = options.runs.absolute() / options.package.name / name
        try:
            status = train(options.package, recipes[name], run, options.portraits)
        except (ValueError, OSError) as error:
            sys.exit(f"Error: {error}")
        if status:
            print(f"{name} is not finished; rerun the same command to resume", file=sys.stderr)
            sys.exit(status)


if __name__ == "__main__":
    main()
