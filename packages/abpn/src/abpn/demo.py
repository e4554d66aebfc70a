"""A first look: retouch scikit-image's astronaut with the bundled weights, without a network connection.

``python -m abpn.demo [FOLDER]`` writes pictures to FOLDER (``outputs/demo``) and prints a table. The astronaut is
retouched twice: as she is, where nobody knows the truth, and with blemishes drawn on her face, where the portrait
without them is the truth that the table compares with.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pyvips
import torch

from abpn.retouch import Retoucher

FACE = (180.0, 58.0, 91.0, 117.0)  # x, y, width, height in the astronaut's picture, as the face detector gives it
VIEW = (slice(36, 196), slice(140, 300))  # rows and columns shown in the pictures
ENLARGED = 4  # the face is small: show each pixel as 4x4
SEED = 6


def main(folder: str = "outputs/demo") -> None:
    """Retouch, write the pictures, print the table."""
    from retouch_common.training.sheets import save_sheet

    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    retoucher = Retoucher("small")
    portrait = _astronaut()
    blemished, mask = draw_blemishes(portrait)
    rows, table = [], []
    for name, photo in (("as she is", portrait), ("with drawn blemishes", blemished)):
        retouched = _retouch(retoucher, photo, out / f"{name.replace(' ', '_')}.png")
        rows.append(
            {
                "before": _view(photo),
                "after": _view(retouched),
                "without drawn blemishes": _view(portrait),
                "change, 4 times amplified": _view_change(photo, retouched),
            }
        )
        table.append((name, photo, retouched))
    save_sheet(out / "astronaut.png", rows, max_side=640)
    _print_table(table, portrait, mask)
    print(f"\nThe pictures are in {out}; look at astronaut.png first.")


def draw_blemishes(portrait: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw blemishes on the astronaut's face.

    Args:
        portrait: Her picture, (512, 512, 3) uint8.

    Returns:
        The picture with blemishes, of the same kind, and (512, 512) bool, true where it differs visibly.
    """
    from retouch_common.synthesis.blemishes import BlemishConfig, BlemishSynthesizer

    config = BlemishConfig(
        clean_probability=0.0,
        mole_probability=0.0,
        freckle_probability=0.0,
        hair_probability=0.0,
        min_count=30.0,
        spot_weights={"papule": 3.0, "pustule": 1.5, "red_spot": 3.0, "dark_spot": 2.0},
        area_probabilities={},
    )
    pair = BlemishSynthesizer(config)(
        portrait[VIEW].astype(np.float32) / 255,
        _skin(portrait.shape[:2])[VIEW],
        generator=np.random.default_rng(SEED),
        scale=1.5 * FACE[2] / 600,  # half as large again as in life, to be seen on so small a face
    )
    blemished = portrait.copy()
    blemished[VIEW] = np.rint(pair.raw * 255)
    return blemished, np.abs(blemished.astype(int) - portrait).max(axis=-1) > 5


def _astronaut() -> np.ndarray:
    try:
        from skimage.data import astronaut
    except ImportError as error:
        raise SystemExit("Error: the demo's portrait comes with scikit-image: pip install scikit-image") from error
    return astronaut()


def _skin(shape: tuple[int, int]) -> np.ndarray:
    """Her cheeks, forehead, nose and chin, (H, W) float32 in [0, 1]: an ellipse less eyes, brows and mouth."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    left, top, width, height = FACE
    u, v = (x - left) / width, (y - top) / height  # 0 to 1 across the face

    def ellipse(cu: float, cv: float, ru: float, rv: float) -> np.ndarray:
        return np.clip(4 * (1 - np.hypot((u - cu) / ru, (v - cv) / rv)), 0, 1)

    keep_off = np.maximum.reduce(
        [ellipse(0.24, 0.38, 0.24, 0.13), ellipse(0.71, 0.38, 0.24, 0.13), ellipse(0.47, 0.74, 0.32, 0.13)]
    )
    return (ellipse(0.5, 0.62, 0.48, 0.4) * (1 - np.clip(2 * keep_off, 0, 1))).astype(np.float32)


def _retouch(retoucher: Retoucher, photo: np.ndarray, path: Path) -> np.ndarray:
    """Through files, as ``abpn-retouch --face-box`` does."""
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "photo.png"
        pyvips.Image.new_from_array(photo).write_to_file(str(source))
        plan = retoucher.retouch_file(source, path, region="faces", face_boxes=[FACE])
    print(f"{path.name}: {plan}")
    return pyvips.Image.new_from_file(str(path)).numpy()


def _view(image: np.ndarray) -> torch.Tensor:
    enlarged = np.repeat(np.repeat(image[VIEW], ENLARGED, axis=0), ENLARGED, axis=1)
    return torch.from_numpy(enlarged).permute(2, 0, 1) / 255


def _view_change(before: np.ndarray, after: np.ndarray) -> torch.Tensor:
    return _view(np.clip(128 + 4 * (after.astype(int) - before), 0, 255).astype(np.uint8))


def _print_table(pictures: list[tuple[str, np.ndarray, np.ndarray]], truth: np.ndarray, mask: np.ndarray) -> None:
    """PSNR of both pictures to the portrait without drawn blemishes, inside and outside of them."""
    from rich.console import Console
    from rich.table import Table

    table = Table("picture", "output", "face", "inside the blemishes", "outside", "pixels changed", box=None)
    left, top, width, height = (int(value) for value in FACE)
    face = np.zeros_like(mask)
    face[top : top + height, left : left + width] = True
    for name, photo, retouched in pictures:
        drawn = mask if name != "as she is" else np.zeros_like(mask)
        for output, image in (("identity", photo), ("abpn small", retouched)):
            changed = (image != photo).any(axis=-1).mean()
            figures = [_psnr(image, truth, where) for where in (face, face & drawn, face & ~drawn)]
            table.add_row(name, output, *figures, f"{changed:.1%}")
    Console(width=None if Console().is_terminal else 120).print(table)
    print("PSNR in dB to the portrait without drawn blemishes, 8-bit RGB, within the face box.")


def _psnr(image: np.ndarray, truth: np.ndarray, where: np.ndarray) -> str:
    if not where.any():
        return "-"
    error = np.square(image[where].astype(float) - truth[where]).mean()
    return "equal" if error == 0 else f"{10 * np.log10(255**2 / error):.2f} dB"


if __name__ == "__main__":
    main(*sys.argv[1:])
