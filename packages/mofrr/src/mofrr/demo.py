"""Demo: scikit-image's astronaut, retouched by the simulator and restored with the bundled weights.

``python -m mofrr.demo [FOLDER]`` writes images to FOLDER (``outputs/demo``) and prints a table, without a network
connection.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pyvips
import torch
from retouch_common.faces.alignment import FaceSquare, align, face_square
from retouch_common.faces.landmarks import canonical_landmarks
from retouch_common.inference.demo import FACE, astronaut, psnr_text
from retouch_common.inference.faces import changed_image
from retouch_common.inference.regions import faces_from_boxes
from retouch_common.metrics.evaluation import console
from retouch_common.photo.sources import ArraySource
from retouch_common.ranges import to_levels
from retouch_common.synthesis.retouching import OPERATIONS, retouch_face
from retouch_common.training.sheets import save_sheet

from mofrr.model import MoFRR
from mofrr.restore import Restorer

STRENGTH, STYLE = 0.6, "studio"
CASES: dict[str, tuple[str, ...]] = {**{name: (name,) for name in OPERATIONS}, "all four": OPERATIONS}


def main(folder: str = "outputs/demo", weights: MoFRR | str | os.PathLike[str] = "small") -> None:
    """Retouch and restore the astronaut; write images and print the table.

    Args:
        folder: Output folder.
        weights: See :class:`mofrr.restore.Restorer`.

    Raises:
        ValueError: No such weights.
    """
    restorer, out = Restorer(weights), Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    portrait, (face,) = astronaut(), faces_from_boxes([FACE])
    square = whole_pixels(face_square(face, *portrait.shape[:2]))
    rows, table = [], []
    for title, operations in CASES.items():
        retouched = retouch(portrait, square, operations)
        (found,) = restorer.restore_faces(ArraySource(retouched), [square])
        restored = changed_image(retouched, [found])
        view = _view(square)
        images = {"original": portrait, "retouched": retouched, "restored": restored}
        rows.append({name: torch.from_numpy(image[view]).permute(2, 0, 1) / 255 for name, image in images.items()})
        for name in ("retouched", "restored"):
            pyvips.Image.new_from_array(images[name]).write_to_file(str(out / f"{title.replace(' ', '_')}_{name}.png"))
        undone = ", ".join(found.degrees) or "nothing"
        table.append(
            (title, *(psnr_text(images[name][view], portrait[view]) for name in ("retouched", "restored")), undone)
        )
    save_sheet(out / "astronaut.png", rows, max_side=480)
    _print_table(table)
    print(f"\nThe images are in {out}; look at astronaut.png first. An estimate, not evidence.")


def retouch(portrait: np.ndarray, square: FaceSquare, operations: tuple[str, ...]) -> np.ndarray:
    """Return a retouched portrait, by operations of medium strength at an average face's landmarks.

    Args:
        portrait: (H, W, 3) uint8.
        square: The face's square, aligned to pixels.
        operations: Names of :data:`OPERATIONS`.
    """
    side = round(square.side)
    face = align(portrait, square, side)
    result = retouch_face(face, canonical_landmarks(side), dict.fromkeys(operations, STRENGTH), style=STYLE)
    retouched = portrait.copy()
    retouched[_view(square)] = to_levels(result.image)
    return retouched


def whole_pixels(square: FaceSquare) -> FaceSquare:
    """Return the nearest upright square that is aligned to pixels."""
    side = 2 * round(square.side / 2)
    return FaceSquare((float(round(square.centre[0])), float(round(square.centre[1]))), float(side))


def _view(square: FaceSquare) -> tuple[slice, slice]:
    half = round(square.side / 2)
    x, y = (round(centre) for centre in square.centre)
    return slice(y - half, y + half), slice(x - half, x + half)


def _print_table(rows: list[tuple[str, ...]]) -> None:
    from rich.table import Table

    table = Table("applied", "retouched", "restored", "found and undone", box=None)
    for row in rows:
        table.add_row(*row)
    console().print(table)
    print("PSNR in dB to the original, 8-bit RGB, within the square of her face; retouched is doing nothing.")


if __name__ == "__main__":
    main(*sys.argv[1:])
