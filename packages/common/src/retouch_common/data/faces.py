"""Plain portraits turned into training pairs on the fly: `faces:DIR`.

Each sample is a random crop of a cleaned portrait in another light, before another background, with blemishes
drawn on its skin (`raw`) and without them (`target`). Moles, freckles and everything outside skin are the same
in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset

from retouch_common.data.face_cache import PreparedFace, default_cache, open_or_prepare
from retouch_common.synthesis.blemishes import BlemishConfig, BlemishSynthesizer
from retouch_common.synthesis.photometric import (
    NoiseBank,
    colour_shift,
    jpeg,
    light_field,
    resharpen,
    tone_table,
)
from retouch_common.synthesis.scenes import draw_distractors, random_background

__all__ = ["FaceBlemishes", "find_portraits", "identity", "split_portraits"]

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".avif"})
MELANIN_TONE = np.array([0.55, 0.85, 1.1], dtype=np.float32)


def find_portraits(folder: str | Path) -> list[Path]:
    """All pictures in a folder and its subfolders, sorted.

    Raises:
        ValueError: If the folder does not exist or holds no picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: not a folder of portraits")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise ValueError(f"{folder}: no portraits in it (looked for {', '.join(sorted(SUFFIXES))})")
    return paths


def identity(path: Path) -> tuple[str, str]:
    """Who is in a picture, by name: (set, id).

    The set is the name of the picture's folder up to the first underscore, the id its name without suffix, so
    `london_neutral/001.jpg` and `london_smiling/001.jpg` are one person and `canada/001.jpg` another.
    """
    return path.parent.name.split("_")[0], path.stem


def split_portraits(paths: Sequence[Path], split: str) -> list[Path]:
    """Divide pictures by identity.

    Args:
        paths: Pictures.
        split: "val" takes, within each set, the ids whose sorted position is a multiple of 10; "train" takes the
            others; "all" takes everything.

    Raises:
        ValueError: If the split has another name.
    """
    if split not in ("train", "val", "all"):
        raise ValueError(f"split is {split!r}; it must be 'train', 'val' or 'all'")
    if split == "all":
        return list(paths)
    ids: dict[str, set[str]] = {}
    for group, name in map(identity, paths):
        ids.setdefault(group, set()).add(name)
    held_out = {(group, name) for group, names in ids.items() for name in sorted(names)[::10]}
    return [path for path in paths if (identity(path) in held_out) == (split == "val")]


class FaceBlemishes(Dataset[dict[str, torch.Tensor]]):
    """An endless stream of training pairs from a folder of plain portraits.

    Sample i depends on `seed`, i and the folder's pictures only. `len()` is the number of portraits; any index
    from 0 up is valid.

    Args:
        folder: Portraits, in subfolders too; a `.tem` template beside a picture of the same name is used.
        size: Side of the square crops in pixels.
        split: "train", "val" (each tenth person) or "all".
        seed: Of all randomness.
        cache: Folder for cleaned portraits; None for `face_cache.default_cache()`.
        config: What is drawn how often.
        natural: Share of samples whose raw picture keeps the person's own blemishes, so that a network learns
            to remove those as well as drawn ones.
        augment: Whether light, colour, background and camera are varied (blemishes always are).

    Raises:
        ValueError: If there are no portraits, none is usable, or an option is wrong.
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
    ) -> None:
        if not 64 <= size <= 768:
            raise ValueError(f"size is {size}; crops of 64 to 768 pixels can be made")
        self.size, self.seed, self.augment, self.natural = size, seed, augment, natural
        paths = split_portraits(find_portraits(folder), split)
        if not paths:
            raise ValueError(f"{folder}: too few people for split {split!r}")
        self.faces, self.paths = _prepare_all(paths, Path(cache) if cache is not None else default_cache())
        if not self.faces:
            raise ValueError(f"{folder}: no face with enough visible skin in {len(paths)} pictures")
        self.synthesizer = BlemishSynthesizer(config)
        self.noise = NoiseBank()

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Sample `index` >= 0: raw, target (3, size, size) in [0, 1] and mask (1, size, size) of 0 and 1, float32."""
        if index < 0:
            raise IndexError("samples are numbered from 0")
        generator = np.random.default_rng((self.seed, index))
        face = self.faces[int(generator.integers(len(self.faces)))]
        away = generator.random() < 0.07
        levels, natural, maps, face_width = _crop(face, self.size, generator, away=away)
        skin = maps[..., 0] * (maps[..., 0] > 0.02)
        image, real = self._lit(levels, natural, maps[..., 3], generator)
        scale = face_width / 600.0
        pool = self.synthesizer.noise
        if self.augment and generator.random() < 0.55:
            matte = np.minimum(maps[..., 2], 1.0 - np.minimum(1.0, 3.0 * skin))
            if matte.max() > 0.5:
                scene = random_background(self.size, self.size, generator, pool, self._piece)
                image = image + matte[..., None] * (scene - image)
        if self.augment and generator.random() < 0.4:
            where = maps[..., 1] * (skin == 0)
            image = draw_distractors(image, where, generator, pool, scale)
        image = np.clip(image, 0.0, 1.0)
        drawn = skin if float(skin.mean()) > 0.01 else np.zeros_like(skin)
        pair = self.synthesizer(image, drawn, generator=generator, scale=scale)
        raw, target = pair.raw, pair.target
        if generator.random() < self.natural:
            raw = np.clip(raw + np.where((drawn > 0)[..., None], real, 0.0), 0.0, 1.0)
        if self.augment:
            raw, target = self._camera(raw, target, drawn, generator)
        mask = self.synthesizer.mask(raw, target)
        return {"raw": _tensor(raw), "target": _tensor(target), "mask": _tensor(mask[..., None])}

    def _lit(
        self, levels: np.ndarray, natural: np.ndarray, tone: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The cleaned portrait in new light, and what its natural blemishes add to it in the same light."""
        if not self.augment:
            image = levels.astype(np.float32) / 255.0
            return image, natural.astype(np.float32) / 255.0 - image
        state = generator.bit_generator.state
        image = self._relight(levels, tone, generator)
        twin = np.random.default_rng()
        twin.bit_generator.state = state
        return image, self._relight(natural, tone, twin) - image

    def _relight(self, levels: np.ndarray, tone: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        strength = float(generator.choice([0.0, 0.6, 1.0, 1.6], p=[0.1, 0.3, 0.4, 0.2]))
        table = tone_table(generator, strength)
        image = np.empty(levels.shape, dtype=np.float32)
        for c in range(3):
            image[..., c] = table[:, c][levels[..., c]]
        if generator.random() < 0.7:
            image = image @ colour_shift(generator, max(strength, 0.3))
        if generator.random() < 0.4:
            amount = float(np.clip(generator.normal(0.05, 0.3), -0.25, 0.7))
            image *= np.exp(tone[..., None] * (MELANIN_TONE * np.float32(-amount)))
        if generator.random() < 0.6:
            image = image * light_field(self.size, self.size, generator, max(strength, 0.3))
        image = np.clip(image, 0.0, 1.0)
        return resharpen(image, generator) if generator.random() < 0.3 else image

    def _piece(self, generator: np.random.Generator) -> np.ndarray:
        """A piece of any portrait, anywhere, upside down perhaps, as a background."""
        face = self.faces[int(generator.integers(len(self.faces)))]
        levels, _natural, _maps, _ = _crop(face, self.size, generator, away=True)
        piece = levels[:: int(generator.choice([-1, 1]))].astype(np.float32) / 255.0
        return np.clip(piece @ colour_shift(generator, 2.0), 0.0, 1.0)

    def _camera(
        self, raw: np.ndarray, target: np.ndarray, skin: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same noise and the same compression for both; equal pixels stay equal."""
        if generator.random() < 0.45:
            field = self.noise(target, generator)
            raw, target = np.clip(raw + field, 0.0, 1.0), np.clip(target + field, 0.0, 1.0)
        if generator.random() < 0.35:
            quality = int(generator.integers(35, 98))
            raw, target = jpeg(raw, quality), jpeg(target, quality)
            raw = np.where((skin > 0)[..., None], raw, target)
        return raw, target


def _prepare_all(paths: Sequence[Path], cache: Path) -> tuple[list[PreparedFace], list[Path]]:
    from rich.progress import track

    faces, used = [], []
    for path in track(paths, description="portraits", transient=True):
        template = path.with_suffix(".tem")
        face = open_or_prepare(cache, path, template if template.is_file() else None)
        if face is not None:
            faces.append(face)
            used.append(path)
    return faces, used


def _crop(
    face: PreparedFace, size: int, generator: np.random.Generator, *, away: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """A scaled, turned, mirrored crop.

    Returns:
        Cleaned and natural image (size, size, 3) uint8, maps (size, size, 4) float32 in [0, 1], width of the face in pixels.
    """
    height, width = face.image.shape[:2]
    x, y, box_width, box_height = face.box
    low, high = 250.0, min(900.0, 1.3 * box_width)
    face_width = float(np.exp(generator.uniform(np.log(min(low, high)), np.log(high))))
    turned = generator.random() < 0.35
    window = size * box_width / face_width
    window = min(window, float(min(height, width)))
    face_width = size * box_width / window
    if away:
        cx, cy = generator.uniform(0.0, width), generator.uniform(0.0, height)
    else:
        cx = x + box_width * (0.5 + generator.uniform(-0.55, 0.55))
        cy = y + box_height * (0.5 + generator.uniform(-0.55, 0.6))
    side = max(8, round(window))
    x0 = int(np.clip(round(cx - side / 2), 0, width - side))
    y0 = int(np.clip(round(cy - side / 2), 0, height - side))
    part = (slice(y0, y0 + side), slice(x0, x0 + side))
    flip = bool(generator.random() < 0.5)
    angle = float(np.clip(generator.normal(0.0, 10.0), -30.0, 30.0)) if turned else 0.0
    image = _resample(np.asarray(face.image[part]), size, flip, angle)
    maps = _resample(np.asarray(face.maps[part]), size, flip, angle)
    natural = _resample(np.asarray(face.natural[part]), size, flip, angle)
    return image, natural, maps.astype(np.float32) / 255.0, face_width


def _resample(levels: np.ndarray, size: int, flip: bool, angle: float) -> np.ndarray:
    tensor = torch.from_numpy((levels[:, ::-1] if flip else levels).copy(order="C")).permute(2, 0, 1)[None]
    if tensor.shape[-1] != size:
        tensor = F.interpolate(tensor, (size, size), mode="bilinear", align_corners=False, antialias=True)
    if angle:
        theta = np.deg2rad(angle)
        turn = torch.tensor([[np.cos(theta), -np.sin(theta), 0.0], [np.sin(theta), np.cos(theta), 0.0]])
        grid = F.affine_grid(turn[None].float(), [1, 3, size, size], align_corners=False)
        turned = F.grid_sample(
            tensor.float(), grid, "bicubic", padding_mode="reflection", align_corners=False
        )
        tensor = turned.clamp_(0.0, 255.0).round_().to(torch.uint8)
    return tensor[0].permute(1, 2, 0).contiguous().numpy()


def _tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32))
