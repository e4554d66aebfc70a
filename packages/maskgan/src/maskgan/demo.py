"""Demo: scikit-image's astronaut, parsed and rendered after edited masks with the bundled weights.

``python -m maskgan.demo [FOLDER]`` writes images to FOLDER (``outputs/demo``); no network connection is needed. Edits
have no ground truth: look at the images. The only metric is the PSNR of the reconstruction.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from retouch_common.faces.alignment import align
from retouch_common.faces.face import Face
from retouch_common.inference.demo import FACE, astronaut
from retouch_common.parsing.labels import CLASSES, coloured
from retouch_common.photo.sink import write_png
from retouch_common.ranges import from_levels, to_levels
from retouch_common.training.sheets import save_sheet

from maskgan.editor import Editor, Portrait
from maskgan.model import MaskGAN

BROWS = tuple(CLASSES.index(name) for name in ("brow_left", "brow_right"))
LIPS = tuple(CLASSES.index(name) for name in ("upper_lip", "mouth", "lower_lip"))


def main(folder: str = "outputs/demo", weights: MaskGAN | str | os.PathLike[str] = "small") -> None:
    """Edit the astronaut, write the images and print the metric.

    Args:
        folder: Output folder.
        weights: Model or weights for :class:`maskgan.editor.Editor`.

    Raises:
        ValueError: Unknown weights.
    """
    editor, out = Editor(weights), Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    photo = astronaut()
    portrait = editor.open(photo, face=Face(FACE, 1.0, np.full((5, 2), np.nan)))
    rows = []
    for title, labels in masks(portrait).items():
        edited = editor.render(portrait, labels, portrait.codes)
        result = from_levels(editor.paste(photo, portrait, edited))
        write_png(out / f"{title.replace(' ', '_')}.png", result)
        seen = align(to_levels(result), portrait.square, editor.size)
        mask = from_levels(coloured(labels))
        images = {"as she is": portrait.image, "mask": mask, "drawn": edited.image, "in the photo": seen}
        rows.append({name: torch.from_numpy(image).permute(2, 0, 1) for name, image in images.items()})
    save_sheet(out / "astronaut.png", rows, max_side=320)
    error = np.square(portrait.as_it_is - portrait.image).mean()
    print(f"reconstruction: PSNR {-10 * np.log10(error):.2f} dB, the aligned face, float RGB")
    print(f"The images are in {out}; look at astronaut.png first.")


def masks(portrait: Portrait) -> dict[str, np.ndarray]:
    """Return her own mask and edited ones by title, (S, S) uint8."""
    own = portrait.labels
    lips = np.isin(own, LIPS)
    rows = np.flatnonzero(lips.any(axis=1))
    upper = np.arange(len(own))[:, None] < (rows.mean() if len(rows) else 0)
    closed = np.where(lips, np.where(upper, LIPS[0], LIPS[-1]), own)
    without_brows = np.where(np.isin(own, BROWS), CLASSES.index("skin"), own)
    return {
        "her own mask": own,
        "without brows": without_brows.astype(np.uint8),
        "with closed lips": closed.astype(np.uint8),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
