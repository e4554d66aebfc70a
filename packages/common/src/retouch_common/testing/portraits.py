"""Portraits of people that bundled weights were not trained on: the data of every paper's evidence."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retouch_common.data.face_cache import landmarks_of, read_levels
from retouch_common.data.portraits import find_portraits, split_portraits
from retouch_common.faces.face import Face, face_crop
from retouch_common.photo.filters import resize
from retouch_common.ranges import to_levels
from retouch_common.synthesis.blemishes import NOTHING_KEPT, BlemishConfig, BlemishSynthesizer
from retouch_common.synthesis.preparation import prepare_face

SIDE = 1024
VISIBLE = 5  # 8-bit levels: a pixel whose channels differ by more belongs to the mask of evidence, in all its figures
MIN_SHARE = 0.005  # of the pixels of an image with drawn blemishes differ visibly
MARGIN = 2.0  # longer sides of the face


@dataclass(frozen=True)
class Portrait:
    """A square face crop.

    Attributes:
        name: Name of the photograph.
        clean: (S, S, 3) uint8, natural blemishes removed.
        natural: (S, S, 3) uint8, as photographed.
        skin: (S, S) float32 in [0, 1].
        scale: Width of the face in pixels / 600.
    """

    name: str
    clean: np.ndarray
    natural: np.ndarray
    skin: np.ndarray
    scale: float


def held_out(folders: str | Path, *, side: int = SIDE, margin: float = MARGIN) -> Iterator[Portrait]:
    """Yield a square crop, ``margin`` times the longer side of the face, of every portrait of the validation people."""
    for path in split_portraits(find_portraits(folders), "val"):
        # Certain skin only, so that test images stay the same when training draws elsewhere.
        face = prepare_face(read_levels(path), landmarks_of(path), near_features=False)
        if face is None:
            continue
        height, width = face.image.shape[:2]
        x, y, w, h = face_crop(Face(face.box, 1.0, np.zeros((5, 2))), height, width, margin)
        crop = (slice(y, y + h), slice(x, x + w))
        maps = np.repeat(np.repeat(face.maps[..., 0], 2, axis=0), 2, axis=1)
        yield Portrait(
            name=f"{path.parent.name}/{path.stem}",
            clean=_resized(face.image[crop], side),
            natural=_resized(face.natural[crop], side),
            skin=_resized(maps[crop][..., None], side)[..., 0].astype(np.float32) / 255,
            scale=face.box[2] * side / max(w, h) / 600,
        )


SPOT_WEIGHTS = {
    "papule": 3.0, "pustule": 1.5, "comedone": 1.2, "dark_spot": 2.2, "red_spot": 2.8, "pale_spot": 1.4, "scar": 1.3,
    "solid_spot": 2.8, "tinted_spot": 2.2, "disc": 1.6, "smear": 0.8, "scratch": 1.4,
}  # fmt: skip
"""Of the test images, which stay the same when the weights of training change."""


def with_blemishes(portrait: Portrait, seed: int) -> np.ndarray:
    """Return the clean portrait with drawn blemishes, uint8, visible on at least ``MIN_SHARE`` of its pixels."""
    synthesizer = BlemishSynthesizer(
        BlemishConfig(
            clean_probability=0.0,
            **NOTHING_KEPT,
            min_count=3.0,
            max_count=160.0,
            spot_weights=SPOT_WEIGHTS,
            area_probabilities={"patch": 0.4, "flat": 0.5, "rough": 0.1},
            red_variety=0.0,
        )
    )
    generator = np.random.default_rng(seed)
    clean = portrait.clean.astype(np.float32) / 255
    while True:
        raw = to_levels(synthesizer(clean, portrait.skin, generator=generator, scale=portrait.scale)[0])
        if visible(raw, portrait.clean).mean() >= MIN_SHARE:
            return raw


def psnr(image: np.ndarray, truth: np.ndarray, where: np.ndarray | None = None) -> float:
    """Return the PSNR in dB of uint8 RGB images, over all pixels or those of a mask; 100 for equal images."""
    error = np.square(image.astype(np.float64) - truth)
    error = error if where is None else error[where]
    return float(10 * np.log10(255**2 / max(error.mean(), 255**2 / 1e10)))


def visible(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return where two uint8 images differ by more than ``VISIBLE`` levels in a channel, (H, W) bool."""
    return np.abs(image.astype(np.int16) - truth).max(axis=-1) > VISIBLE


def gains(
    retouch: Callable[[np.ndarray], np.ndarray], pairs: Iterable[tuple[np.ndarray, np.ndarray]]
) -> dict[str, float]:
    """Return mean PSNR of results beside the identity baseline, in dB, over pairs of images with blemishes and without.

    Pairs that do not differ visibly are skipped. "gain_whole" and "gain_inside" (where the pair differs visibly) stand
    beside the values they are differences of, and the number of "pictures".
    """
    rows = []
    for raw, truth in pairs:
        result, mask = retouch(raw), visible(raw, truth)
        if mask.any():
            regions = (None, mask, ~mask)
            rows.append([psnr(image, truth, where) for image in (raw, result) for where in regions])
    identity_whole, identity_inside, identity_outside, whole, inside, outside = np.mean(rows, axis=0)
    return {
        "gain_whole": whole - identity_whole,
        "gain_inside": inside - identity_inside,
        "identity_whole": identity_whole,
        "identity_inside": identity_inside,
        "identity_outside": identity_outside,
        "outside": outside,
        "pictures": len(rows),
    }


def _resized(levels: np.ndarray, side: int) -> np.ndarray:
    return np.rint(resize(levels.astype(np.float32), side, side, antialias=True)).clip(0, 255).astype(np.uint8)
