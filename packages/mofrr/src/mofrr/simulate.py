"""``mofrr-simulate``: a data set of retouched faces from plain portraits, laid out as RetouchingFFHQ.

    OUT/ori/SPLIT/NUMBER.png                 the aligned faces
    OUT/Whitening_60/SPLIT/NUMBER.png        one operation at 30, 60 or 90
    OUT/multi/SPLIT/K_NUMBER.png             two to four operations
    OUT/multi.txt                            their labels
    OUT/recipes.jsonl                        strengths, style and seed of every retouched image
    OUT/sheets/NUMBER.png                    overviews of some faces

A person's images are all in one split: "test" holds the people held out, "val" the "dev" people of
:func:`retouch_common.data.portraits.split_portraits`; where there are too few people, "val" holds those held out.
Everything follows from the seed and the portraits: rerun the same command to resume; existing images are kept.
"""

import json
from collections.abc import Callable, Sequence
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
from retouch_common.training.fingerprint import fingerprint, refuse_output_in_data
from retouch_common.training.sheets import save_sheet

from mofrr.portraits import open_face
from mofrr.retouching_ffhq import MAGNITUDES, NAMES

TRAINING_STYLES = tuple(style for style in STYLES if style != "foreign")  # that is a program for tests
SHEETS = 8  # number of overviews
SPREAD = 0.1  # largest distance of a strength from 0.3, 0.6 or 0.9
NAME_OF = {operation: name for name, operation in NAMES.items()}


def simulate(
    folder: str | Path,
    out: str | Path,
    *,
    size: int = 512,
    multi: int = 3,
    styles: tuple[str, ...] = TRAINING_STYLES,
    seed: int = 0,
    report: Callable[[str], None] = print,
) -> None:
    """Make the data set, or the missing part of it.

    Args:
        folder: Portraits, also in subfolders.
        out: OUT.
        size: Side of the images in pixels.
        multi: Images with two to four operations per face.
        styles: Styles to choose from.
        seed: Seed of strengths and styles.
        report: Receives messages for the user.

    Raises:
        ValueError: No portraits or no faces, an unknown style, or OUT is inside the portraits, or holds other files or
            a set of other options or portraits.
        OSError: A file cannot be written.
    """
    out = Path(out)
    refuse_output_in_data(out, folder)
    paths = find_portraits(folder)
    splits = person_splits(paths)
    config = RetouchConfig(styles=styles, spread=SPREAD, counts=(0.0, 0.0, 0.4, 0.35, 0.25))
    options = {"size": size, "multi": multi, "styles": list(styles), "seed": seed, "portraits": fingerprint(folder)}
    options["splits"] = sorted(set(splits.values()))
    refuse_other_settings(out / "options.json", options)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "options.json", json.dumps(options).encode())
    made: dict[str, RetouchRecipe] = {}
    skipped = []
    with progress_bar(unit="portraits") as bar:
        for number, path in enumerate(bar.track(paths, description="Retouching")):
            split = splits[path]
            recipes = plan(number, split, multi=multi, config=config, seed=seed)
            if _make(path, number, split, recipes, out, size):
                made |= recipes
            else:
                skipped.append(path)
    if not made:
        raise ValueError(f"{folder}: no face was found in {len(paths)} portraits")
    _write_labels(out, made)
    if skipped:
        report(f"no face found in {len(skipped)} portraits: {', '.join(p.name for p in skipped[:5])}")
    report(f"{len(made)} retouched images of {len(paths) - len(skipped)} portraits in {out}")


def person_splits(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the split of every portrait: "train", "val" or, with enough people, "test"."""
    held_out, dev = (set(split_portraits(paths, split)) for split in ("val", "dev"))
    measured = dict.fromkeys(dev, "val") | dict.fromkeys(held_out - dev, "test")
    return {path: measured.get(path, "train") for path in paths}


def plan(number: int, split: str, *, multi: int, config: RetouchConfig, seed: int) -> dict[str, RetouchRecipe]:
    """Return the images to make of a portrait, paths below OUT with their recipes; deterministic."""
    generator = np.random.default_rng((seed, number))
    recipes = {}
    for operation in OPERATIONS:
        for magnitude in MAGNITUDES:
            recipe = random_recipe(generator, config, operations=[operation])
            strength = magnitude / 100 + generator.uniform(-SPREAD, SPREAD)
            recipe = RetouchRecipe(recipe.strengths | {operation: float(strength)}, recipe.style, recipe.seed)
            recipes[f"{NAME_OF[operation]}_{magnitude}/{split}/{number:06d}.png"] = recipe
    for k in range(multi):
        recipes[f"multi/{split}/{k}_{number:06d}.png"] = random_recipe(generator, config)
    return recipes


def _make(path: Path, number: int, split: str, recipes: dict[str, RetouchRecipe], out: Path, size: int) -> bool:
    """Write the missing images of a portrait; return False if it shows no face."""
    original = out / "ori" / split / f"{number:06d}.png"
    sheet = out / "sheets" / f"{number:06d}.png"
    files = [original, *(out / file for file in recipes), *([sheet] if number < SHEETS else [])]
    if all(file.is_file() for file in files):
        return True
    face = open_face(path, size)
    if face is None:
        return False
    levels, landmarks = face
    image = from_levels(levels)
    skin = retouching_skin(image, landmarks)
    views = {"original": levels}
    for file, recipe in recipes.items():
        result = retouch_face(image, landmarks, recipe.strengths, style=recipe.style, seed=recipe.seed, skin=skin)
        retouched = to_levels(result.image)
        _save(out / file, retouched)
        kind, _, name = file.split("/")
        if kind.endswith("_90"):
            views[kind] = retouched
        elif kind == "multi":
            views[f"{kind} {name.partition('_')[0]}"] = retouched
    _save(original, levels)
    if number < SHEETS:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        save_sheet(sheet, [{name: torch.from_numpy(view).permute(2, 0, 1) / 255 for name, view in views.items()}])
    return True


def _save(path: Path, levels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, pyvips.Image.new_from_array(levels).pngsave_buffer(compression=3))


def _write_labels(out: Path, made: dict[str, RetouchRecipe]) -> None:
    """Write multi.txt and recipes.jsonl."""
    labels, recipes = [], []
    for file, recipe in made.items():
        applied = {name: value for name, value in recipe.strengths.items() if value}
        if file.startswith("multi/"):
            label = {NAME_OF[name]: MAGNITUDES[strength_label(value) - 1] for name, value in applied.items()}
            labels.append(f"{label}\t{file}")
        about = {"file": file, "strengths": applied, "style": recipe.style, "seed": recipe.seed}
        recipes.append(json.dumps(about))
    write_atomically(out / "multi.txt", ("\n".join(labels) + "\n").encode())
    write_atomically(out / "recipes.jsonl", ("\n".join(recipes) + "\n").encode())
