"""Plain portraits turned into training pairs on the fly: `faces:DIR`.

Each sample is a random crop of a cleaned portrait in another light, before another background, with blemishes
drawn on its skin (`raw`) and without them (`target`). Moles, hair, glasses and other things that look like blemishes
and are none, and everything outside skin, are the same in both.
"""

from __future__ import annotations

import copy
import logging
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from retouch_common.data.face_cache import default_cache, open_or_prepare
from retouch_common.data.face_crops import Crop, CropConfig, random_crop
from retouch_common.data.portraits import find_portraits, person_of, split_portraits
from retouch_common.errors import printable
from retouch_common.photo.colour import luminance
from retouch_common.photo.filters import dilate
from retouch_common.progress import progress_bar
from retouch_common.ranges import from_levels, to_tensor
from retouch_common.synthesis.blemishes import BlemishConfig, BlemishSynthesizer
from retouch_common.synthesis.distractors import Scenery, draw_on_skin, draw_things
from retouch_common.synthesis.jpeg import compress
from retouch_common.synthesis.photometric import NoiseBank, colour_shift, relight, resample, resharpen
from retouch_common.synthesis.preparation import PreparedFace
from retouch_common.synthesis.scenes import draw_distractors, occluder, random_background

MIN_NATURAL_WIDTH = 300.0
"""Narrower faces, in pixels of the portrait, do not show small blemishes of their own well enough to teach them."""

logger = logging.getLogger(__name__)


class FaceBlemishes(Dataset[dict[str, torch.Tensor]]):
    """Training pairs synthesised from folders of plain portraits.

    Sample i depends on `seed`, i and the portraits only. `len()` is the number of portraits; any index from 0 up is
    valid. Wide faces, and those of small folders, are drawn more often.

    Args:
        folder: A folder of portraits with its subfolders, or several joined by commas. A `.tem` template beside a
            photo, or its mesh in the folder's `landmarks.npz`, locates the face.
        size: Side of the square crops in pixels, 64 to 768.
        split: "train", "dev", "val" or "all"; see :func:`retouch_common.data.portraits.split_portraits`.
        seed: Seed of all randomness.
        cache: Folder of cleaned portraits; None for :func:`~retouch_common.data.face_cache.default_cache`.
        config: Frequencies of blemishes.
        augment: Vary light, colour, background and camera.
        natural: Probability that raw keeps the person's own blemishes, which are removed from the target.
        crop: Limits of the crops.

    Raises:
        ValueError: There are no usable portraits, or an option is wrong.
        OSError: The cache cannot be written.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        size: int = 512,
        split: str = "train",
        seed: int = 0,
        cache: str | Path | None = None,
        config: BlemishConfig | None = None,
        augment: bool = True,
        natural: float = 0.35,
        crop: CropConfig | None = None,
    ) -> None:
        if not 64 <= size <= 768:
            raise ValueError(f"size is {size}; crops of 64 to 768 pixels can be made")
        self.size, self.seed, self.augment, self.natural = size, seed, augment, natural
        paths = split_portraits(find_portraits(folder), split)
        if not paths:
            raise ValueError(f"{folder}: too few people for split {split!r}")
        self.paths, self.faces = _open_all(paths, Path(cache) if cache is not None else default_cache())
        if not self.faces:
            raise ValueError(f"{folder}: no face with enough visible skin in {len(paths)} portraits")
        self.chances = drawing_weights(self.paths, self.faces)
        self.crop = crop or CropConfig()
        self.synthesizer = BlemishSynthesizer(config)
        self.noise = NoiseBank()

    @property
    def different(self) -> int:
        """Number of different samples: every index has blemishes of its own."""
        return sys.maxsize

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Return raw and target (3, S, S), float32 in [0, 1]; outside skin they are equal to the bit."""
        if index < 0:
            raise IndexError("samples are numbered from 0")
        generator = np.random.default_rng((self.seed, index))
        face = self._face(generator)
        anywhere = bool(generator.random() < self.crop.anywhere_probability)
        natural = bool(generator.random() < self.natural) and face.box[2] >= MIN_NATURAL_WIDTH
        crop = random_crop(face, self.size, generator, config=self.crop, anywhere=anywhere, natural=natural)
        scale = crop.face_width / 600.0
        if self.augment:
            image, skin, own = self._scene(crop, scale, generator)
        else:
            image, skin, own = crop.levels / np.float32(255.0), crop.maps[..., 0], None
            if crop.natural is not None:
                own = crop.natural / np.float32(255.0) - image
        skin = np.where(skin > 0.02, skin, np.float32(0.0))
        if float(skin.mean()) < 0.01:
            skin = np.zeros_like(skin)
        raw, target = self.synthesizer(image, skin, generator=generator, scale=scale)
        if own is not None:
            raw = np.clip(raw + np.where((skin > 0)[..., None], own, np.float32(0.0)), 0.0, 1.0)
        if self.augment:
            raw, target = self._camera(raw, target, skin, generator)
        return {"raw": to_tensor(raw), "target": to_tensor(target)}

    def subset(self, positions: Sequence[int]) -> FaceBlemishes:
        """Return a copy with only the portraits at these positions of :attr:`paths`; ValueError without any."""
        if not positions:
            raise ValueError("a subset needs at least one portrait")
        part = copy.copy(self)
        part.paths, part.faces = [self.paths[p] for p in positions], [self.faces[p] for p in positions]
        part.chances = drawing_weights(part.paths, part.faces)
        return part

    def _face(self, generator: np.random.Generator) -> PreparedFace:
        return self.faces[min(int(np.searchsorted(self.chances, generator.random())), len(self.faces) - 1)]

    def _scene(
        self, crop: Crop, scale: float, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Vary light, background and foreground; return the image, its visible skin and its own blemishes, if any."""
        pool, size = self.synthesizer.noise, self.size
        if generator.random() < 0.04:  # no person at all
            image = random_background(size, size, generator, pool, self._piece)
            anywhere = np.ones((size, size), dtype=np.float32)
            draw_things(Scenery(image, anywhere, np.zeros_like(anywhere), scale, pool, self._piece), generator)
            image = draw_distractors(image, anywhere, generator, pool, scale)
            return np.clip(image, 0.0, 1.0), np.zeros_like(anywhere), None
        skin, other = crop.maps[..., 0], crop.maps[..., 1]
        again = copy.deepcopy(generator)
        brightness = _brightness(crop.levels, skin)
        image = relight(crop.levels, crop.maps[..., 3], generator, brightness=brightness)
        own = None
        if crop.natural is not None:
            own = relight(crop.natural, crop.maps[..., 3], again, brightness=brightness) - image
        if generator.random() < 0.5:
            matte = np.minimum(crop.maps[..., 2], 1.0 - np.minimum(1.0, 3.0 * skin))
            if matte.max() > 0.5:
                scene = random_background(size, size, generator, pool, self._piece)
                image += matte[..., None] * (scene - image)
        if generator.random() < 0.06:
            matte = occluder(size, size, generator)
            cover = random_background(size, size, generator, pool, self._piece)
            image += matte[..., None] * (cover - image)
            skin = skin * (matte < 0.02)
        outside = other * (skin == 0)
        covered = np.zeros_like(skin)
        if generator.random() < 0.5:
            draw_things(Scenery(image, outside, covered, scale, pool, self._piece), generator)
        if generator.random() < 0.3:
            image = draw_distractors(image, outside, generator, pool, scale)
        draw_on_skin(Scenery(image, np.ones_like(skin), covered, scale, pool), generator)
        if covered.any():
            skin = skin * (dilate(covered, 1 + round(2 * scale)) < 0.04)
        return np.clip(image, 0.0, 1.0), skin, own

    def _piece(self, generator: np.random.Generator) -> np.ndarray:
        face = self._face(generator)
        levels = random_crop(face, self.size, generator, anywhere=True, natural=False).levels
        piece = from_levels(levels[:: int(generator.choice([-1, 1]))])
        return np.clip(piece @ colour_shift(generator, 2.0), 0.0, 1.0)

    def _camera(
        self, raw: np.ndarray, target: np.ndarray, skin: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        if generator.random() < 0.08:  # black and white, or toned
            toned = np.exp(generator.normal(0.0, 0.05, 3)).astype(np.float32)
            raw, target = (np.minimum(luminance(p)[..., None] * toned, 1.0) for p in (raw, target))
        if generator.random() < 0.2:
            raw, target = _alike(resample, raw, target, generator)
        if generator.random() < 0.2:
            raw, target = _alike(resharpen, raw, target, generator)
        if generator.random() < 0.4:
            noise = self.noise(target, generator)
            raw, target = np.clip(raw + noise, 0.0, 1.0), np.clip(target + noise, 0.0, 1.0)
        if generator.random() < 0.35:
            quality = int(generator.integers(30, 98))
            subsample = bool(generator.random() < 0.7)
            raw = compress(raw, quality, subsample=subsample)
            target = compress(target, quality, subsample=subsample)
        raw = np.where((skin > 0)[..., None], raw, target)
        return raw, target


def drawing_weights(paths: Sequence[Path], faces: Sequence[PreparedFace]) -> np.ndarray:
    """Return the cumulative probabilities (N,) of drawing each portrait.

    A portrait's probability grows with the width of its face, up to 800 pixels, and that of a set with the square root
    of its size.
    """
    sets = [person_of(path)[0] for path in paths]
    sizes = Counter(sets)
    weights = np.array([min(f.box[2], 800.0) / np.sqrt(sizes[s]) for f, s in zip(faces, sets, strict=True)])
    total = np.cumsum(weights)
    return total / total[-1]


def _brightness(levels: np.ndarray, skin: np.ndarray) -> float | None:
    """Return the mean luminance of a crop's skin in [0, 1]; None where hardly any is visible."""
    shown = skin > 0.5
    return float(luminance(levels[shown] / np.float32(255.0)).mean()) if shown.sum() > 100 else None


def _alike(
    change: Callable[[np.ndarray, np.random.Generator], np.ndarray],
    raw: np.ndarray,
    target: np.ndarray,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    again = copy.deepcopy(generator)
    return change(raw, generator), change(target, again)


def _open_all(paths: Sequence[Path], cache: Path) -> tuple[list[Path], list[PreparedFace]]:
    opened = []
    with progress_bar(unit="portraits") as bar:
        for path in bar.track(paths, description="Preparing portraits"):
            face = open_or_prepare(cache, path)
            if face is None:
                logger.warning("%s: no usable face; skipped", printable(str(path)))
            else:
                opened.append((path, face))
    return [path for path, _ in opened], [face for _, face in opened]
