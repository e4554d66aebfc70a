"""A data set of retouched faces from plain portraits, laid out as RetouchingFFHQ: what ``mofrr-simulate`` does.

    OUT/ori/SPLIT/NUMBER.png                 the aligned faces
    OUT/Whitening_60/SPLIT/NUMBER.png        one operation at 30, 60 or 90
    OUT/multi/SPLIT/K_NUMBER.png             two to four operations
    OUT/multi.txt                            their labels
    OUT/recipes.jsonl                        strengths, style and seed of every retouched picture
    OUT/sheets/NUMBER.png                    some faces at a glance

A person's pictures are all in one split. Everything follows from the seed and the portraits: a run that was killed goes
on with the same command, and pictures that are there are kept.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyvips
import torch
from retouch_common.data.portraits import find_portraits, split_portraits
from retouch_common.files import refuse_other_settings, write_atomically
from retouch_common.progress import progress_bar
from retouch_common.ranges import from_levels, to_levels
from retouch_common.synthesis.retouching import (
    OPERATIONS,
    STYLES,
    RetouchConfig,
    RetouchRecipe,
    random_recipe,
    retouch_face,
    strength_label,
)
from retouch_common.synthesis.retouching_skin import retouching_skin
from retouch_common.training.sheets import save_sheet

from mofrr.portraits import open_face
from mofrr.retouching_ffhq import MAGNITUDES, NAMES

SHEETS = 8
SPREAD = 0.1  # strengths lie within this of 0.3, 0.6 or 0.9
NAME_OF = {operation: name for name, operation in NAMES.items()}


@dataclass(frozen=True)
class Task:
    """One retouched picture to make.

    Attributes:
        file: Below OUT.
        recipe: How.
    """

    file: str
    recipe: RetouchRecipe


def simulate(
    folder: str | Path,
    out: str | Path,
    *,
    size: int = 512,
    multi: int = 3,
    styles: tuple[str, ...] = tuple(STYLES),
    seed: int = 0,
    report: Callable[[str], None] = print,
) -> None:
    """Make the data set, or what is missing of it.

    Args:
        folder: Portraits, in subfolders too.
        out: OUT.
        size: Side of the pictures in pixels.
        multi: Pictures with two to four operations of every face.
        styles: Names of the styles to choose from.
        seed: Of strengths, styles and their variations.
        report: Receives lines for the user.

    Raises:
        ValueError: No portraits, no faces in them, an unknown style, or OUT holds other files or a set made with other
            options.
        OSError: A file cannot be written.
    """
    out = Path(out)
    paths = find_portraits(folder)
    held_out = set(split_portraits(paths, "val"))
    config = RetouchConfig(styles=styles, spread=SPREAD, counts=(0.0, 0.0, 0.4, 0.35, 0.25))
    options = {"size": size, "multi": multi, "styles": list(styles), "seed": seed, "portraits": len(paths)}
    refuse_other_settings(out / "options.json", options)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "options.json", json.dumps(options).encode())
    made, alone = [], []
    with progress_bar(unit="portraits") as bar:
        for number, path in enumerate(bar.track(paths, description="Retouching")):
            split = "val" if path in held_out else "train"
            tasks = plan(number, split, multi=multi, config=config, seed=seed)
            if _make(path, number, split, tasks, out, size):
                made += tasks
            else:
                alone.append(path)
    if not made:
        raise ValueError(f"{folder}: no face was found in {len(paths)} portraits")
    _write_labels(out, made)
    if alone:
        report(f"{len(alone)} portraits show no face that could be found: {', '.join(p.name for p in alone[:5])}")
    report(f"{len(made)} retouched pictures of {len(paths) - len(alone)} portraits in {out}")


def plan(number: int, split: str, *, multi: int, config: RetouchConfig, seed: int) -> list[Task]:
    """What is made of one portrait; the same for the same arguments.

    Args:
        number: Of the portrait.
        split: "train" or "val".
        multi: Pictures with several operations.
        config: Styles, and how many operations at once.
        seed: Of the set.
    """
    generator = np.random.default_rng((seed, number))
    tasks = []
    for operation in OPERATIONS:
        for magnitude in MAGNITUDES:
            recipe = random_recipe(generator, config, operations=[operation])
            strength = magnitude / 100 + generator.uniform(-SPREAD, SPREAD)
            recipe = RetouchRecipe(recipe.strengths | {operation: float(strength)}, recipe.style, recipe.seed)
            tasks.append(Task(f"{NAME_OF[operation]}_{magnitude}/{split}/{number:06d}.png", recipe))
    for k in range(multi):
        tasks.append(Task(f"multi/{split}/{k}_{number:06d}.png", random_recipe(generator, config)))
    return tasks


def _make(path: Path, number: int, split: str, tasks: list[Task], out: Path, size: int) -> bool:
    """Write the pictures of one portrait that are missing; False if it shows no face."""
    original = out / "ori" / split / f"{number:06d}.png"
    sheet = out / "sheets" / f"{number:06d}.png"
    wanted = [original, *(out / task.file for task in tasks), *([sheet] if number < SHEETS else [])]
    if all(file.is_file() for file in wanted):
        return True
    face = open_face(path, size)
    if face is None:
        return False
    levels, landmarks = face
    image = from_levels(levels)
    skin = retouching_skin(image, landmarks)
    shown = {"original": levels}
    for task in tasks:
        recipe = task.recipe
        result = retouch_face(image, landmarks, recipe.strengths, style=recipe.style, seed=recipe.seed, skin=skin)
        retouched = to_levels(result.image)
        _save(out / task.file, retouched)
        kind, _, name = task.file.split("/")
        if kind.endswith("_90"):
            shown[kind] = retouched
        elif kind == "multi":
            shown[f"{kind} {name.partition('_')[0]}"] = retouched
    _save(original, levels)
    if number < SHEETS:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        save_sheet(sheet, [{name: torch.from_numpy(view).permute(2, 0, 1) / 255 for name, view in shown.items()}])
    return True


def _save(path: Path, levels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, pyvips.Image.new_from_array(levels).pngsave_buffer(compression=3))


def _write_labels(out: Path, tasks: list[Task]) -> None:
    """multi.txt and recipes.jsonl."""
    labels, recipes = [], []
    for task in tasks:
        applied = {name: value for name, value in task.recipe.strengths.items() if value}
        if task.file.startswith("multi/"):
            label = {NAME_OF[name]: MAGNITUDES[strength_label(value) - 1] for name, value in applied.items()}
            labels.append(f"{label}\t{task.file}")
        recipe = {"file": task.file, "strengths": applied, "style": task.recipe.style, "seed": task.recipe.seed}
        recipes.append(json.dumps(recipe))
    write_atomically(out / "multi.txt", ("\n".join(labels) + "\n").encode())
    write_atomically(out / "recipes.jsonl", ("\n".join(recipes) + "\n").encode())
