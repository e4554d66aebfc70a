"""Demo of a paper's bundled weights on scikit-image's astronaut, without a network connection.

The portrait is retouched twice: unchanged, where the ground truth is unknown, and with drawn blemishes, where the
original is the ground truth of a table. Every paper's ``python -m PAPER.demo`` runs this; ``python -m
retouch_common.inference.demo FOLDER PAPER...`` then compares their results in FOLDER/PAPER.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyvips
import torch

from retouch_common.losses.region import CHANGED_LEVELS
from retouch_common.metrics.evaluation import console
from retouch_common.ranges import from_levels
from retouch_common.training.sheets import save_sheet

FACE = (180.0, 58.0, 91.0, 117.0)  # x, y, width, height of the face detector, in the astronaut image
VIEW = (slice(36, 196), slice(140, 300))  # rows and columns shown
ENLARGED = 4  # the face is small: show each pixel as 4x4
SEED = 6

AS_SHE_IS, DRAWN = "as she is", "with drawn blemishes"


def retouch_astronaut(
    name: str,
    retouch: Callable[[Path, Path], object],
    folder: str | Path,
    *,
    companions: Mapping[str, str] | None = None,
) -> None:
    """Retouch the portrait, write a sheet of images, print the table.

    Args:
        name: Name of the weights, for the table.
        retouch: Retouches a photo's file into another and returns a summary.
        folder: Output folder; created if necessary.
        companions: Endings, by title, of images that ``retouch`` writes beside its output, to show as well.
    """
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    portrait = astronaut()
    blemished, _ = draw_blemishes(portrait)
    rows, outputs = [], {}
    for title, photo in ((AS_SHE_IS, portrait), (DRAWN, blemished)):
        path = _file(out, title)
        with tempfile.TemporaryDirectory() as temporary:
            source = Path(temporary) / "photo.png"
            pyvips.Image.new_from_array(photo).write_to_file(str(source))
            print(f"{path.name}: {retouch(source, path)}")
        outputs[title] = retouched = _read(path)
        row = {"before": _view(photo), "after": _view(retouched), "without drawn blemishes": _view(portrait)}
        amplified = np.clip(128 + 4 * (retouched.astype(int) - photo), 0, 255).astype(np.uint8)
        row["change, 4 times amplified"] = _view(amplified)
        for shown, ending in (companions or {}).items():
            row[shown] = _view(_read(path.with_suffix(ending)))
        rows.append(row)
    save_sheet(out / "astronaut.png", rows, max_side=640)
    _print_table({name: outputs})
    print(f"\nImages are in {out}; look at astronaut.png first.")


def compare(folder: str | Path, papers: Sequence[str]) -> None:
    """Compare the results of several papers' demos, in folders named by paper, in a sheet and a table.

    Raises:
        ValueError: If a demo has not been run.
    """
    out = Path(folder)
    outputs: dict[str, dict[str, np.ndarray]] = {}
    for paper in papers:
        files = {title: _file(out / paper, title) for title in (AS_SHE_IS, DRAWN)}
        if missing := [str(file) for file in files.values() if not file.is_file()]:
            raise ValueError(f"{missing[0]} is missing; run python -m {paper}.demo {out / paper} first")
        outputs[paper] = {title: _read(file) for title, file in files.items()}
    portrait = astronaut()
    rows = []
    for title, photo in ((AS_SHE_IS, portrait), (DRAWN, draw_blemishes(portrait)[0])):
        row = {"before": _view(photo)}
        row |= {paper: _view(outputs[paper][title]) for paper in papers}
        rows.append(row | {"without drawn blemishes": _view(portrait)})
    save_sheet(out / "astronaut.png", rows, max_side=640)
    _print_table(outputs)
    print(f"\nThe papers side by side: {out / 'astronaut.png'}")


def draw_blemishes(portrait: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw blemishes on the portrait (512, 512, 3) uint8; also return the mask (512, 512) bool, that of the metrics."""
    from retouch_common.synthesis.blemishes import NOTHING_KEPT, BlemishConfig, BlemishSynthesizer

    config = BlemishConfig(
        clean_probability=0.0,
        **NOTHING_KEPT,
        min_count=30.0,
        max_count=160.0,
        spot_weights={"papule": 3.0, "pustule": 1.5, "red_spot": 3.0, "dark_spot": 2.0},
        area_probabilities={},
        red_variety=0.0,
    )
    raw, _ = BlemishSynthesizer(config)(
        from_levels(portrait[VIEW]),
        _skin(portrait.shape[:2])[VIEW],
        generator=np.random.default_rng(SEED),
        scale=1.5 * FACE[2] / 600,  # half as large again as in life, to be seen on so small a face
    )
    blemished = portrait.copy()
    blemished[VIEW] = np.rint(raw * 255)
    return blemished, np.abs(blemished.astype(int) - portrait).max(axis=-1) > CHANGED_LEVELS


def astronaut() -> np.ndarray:
    """Return scikit-image's portrait, (512, 512, 3) uint8."""
    try:
        from skimage.data import astronaut as portrait
    except ImportError as error:
        raise SystemExit("Error: the demo's portrait comes with scikit-image: pip install scikit-image") from error
    return portrait()


def _skin(shape: tuple[int, ...]) -> np.ndarray:
    """Return a mask (H, W) float32 of cheeks, forehead, nose and chin: an ellipse without eyes, brows and mouth."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    left, top, width, height = FACE
    u, v = (x - left) / width, (y - top) / height  # 0 to 1 across the face

    def ellipse(cu: float, cv: float, ru: float, rv: float) -> np.ndarray:
        return np.clip(4 * (1 - np.hypot((u - cu) / ru, (v - cv) / rv)), 0, 1)

    keep_off = np.maximum.reduce(
        [ellipse(0.24, 0.38, 0.24, 0.13), ellipse(0.71, 0.38, 0.24, 0.13), ellipse(0.47, 0.74, 0.32, 0.13)]
    )
    return (ellipse(0.5, 0.62, 0.48, 0.4) * (1 - np.clip(2 * keep_off, 0, 1))).astype(np.float32)


def _file(folder: Path, title: str) -> Path:
    return folder / f"{title.replace(' ', '_')}.png"


def _read(path: Path) -> np.ndarray:
    image = pyvips.Image.new_from_file(str(path))
    return image.numpy().reshape(image.height, image.width, image.bands)


def _view(image: np.ndarray) -> torch.Tensor:
    enlarged = np.repeat(np.repeat(image[VIEW], ENLARGED, axis=0), ENLARGED, axis=1)
    return torch.from_numpy(enlarged).permute(2, 0, 1) / 255


def _print_table(outputs: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Print PSNR to the original portrait, inside and outside the blemishes, of the identity and all outputs."""
    from rich.table import Table

    truth = astronaut()
    blemished, mask = draw_blemishes(truth)
    table = Table("picture", "output", "face", "inside the blemishes", "outside", "pixels changed", box=None)
    left, top, width, height = (int(value) for value in FACE)
    face = np.zeros_like(mask)
    face[top : top + height, left : left + width] = True
    for title, photo, drawn in ((AS_SHE_IS, truth, np.zeros_like(mask)), (DRAWN, blemished, mask)):
        for name, image in {"identity": photo, **{name: pictures[title] for name, pictures in outputs.items()}}.items():
            changed = (image != photo).any(axis=-1).mean()
            figures = [psnr_text(image[where], truth[where]) for where in (face, face & drawn, face & ~drawn)]
            table.add_row(title, name, *figures, f"{changed:.1%}")
    console().print(table)
    print("PSNR in dB to the portrait without drawn blemishes, 8-bit RGB, within the face box.")


def psnr_text(image: np.ndarray, truth: np.ndarray) -> str:
    """Return the PSNR of uint8 pixels in dB, as text: "equal" without an error, "-" without pixels."""
    if not image.size:
        return "-"
    error = np.square(image.astype(float) - truth).mean()
    return "equal" if error == 0 else f"{10 * np.log10(255**2 / error):.2f} dB"


if __name__ == "__main__":
    compare(sys.argv[1], sys.argv[2:])
