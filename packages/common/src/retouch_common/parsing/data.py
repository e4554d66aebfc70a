"""Faces with labels for training a parser, made from portraits on the fly or read from a folder.

Samples: ``image`` (3, S, S) float32 in [0, 1] and ``labels`` (S, S) int64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from retouch_common.data.pair_files import Split
from retouch_common.data.portraits import find_portraits, mesh_of, split_portraits
from retouch_common.faces.alignment import PORTRAIT_EYES
from retouch_common.faces.mesh import LANDMARKS_FILE
from retouch_common.parsing.augmentation import Augmenter, cut, random_pose
from retouch_common.parsing.mouths import open_mouth
from retouch_common.parsing.portraits import load_portrait, prepare_portraits
from retouch_common.ranges import to_tensor

Augmentation = Literal["strong", "paper", "none"]

FACES = "faces:"
EMPTY = 0.04  # share of samples without a face, so that the parser does not see one everywhere
OPENED = 0.15  # share of samples whose closed mouth is opened


def open_data(
    spec: str,
    *,
    size: int,
    split: Split,
    seed: int = 0,
    augmentation: Augmentation = "none",
    extra: str = "",
    teacher: str = "",
) -> ParsedFaces:
    """Open faces with labels.

    Args:
        spec: ``faces:DIR,DIR``, portraits with templates or meshes, or a folder, see :func:`find_pairs`.
        size: Side in pixels.
        split: "train", "dev", "val", "test" or "all", see :func:`find_pairs`.
        seed: Seed of all randomness.
        augmentation: "strong" for all of :mod:`retouch_common.parsing.augmentation`; "paper" for mirroring, shift,
            scale and rotation; "none" for aligned faces as photographed.
        extra: Folder with ``images/`` and ``labels/``, all of it added to the split "train".
        teacher: See :func:`retouch_common.parsing.portraits.prepare_portraits`.

    Raises:
        ValueError: Unusable data.
    """
    pairs = find_pairs(spec, split)
    if extra and split == "train":
        pairs = pairs + find_pairs(extra, "all")
    entries = prepare_portraits(pairs, teacher=teacher)
    if not entries:
        raise ValueError(f"{spec}: none of {len(pairs)} portraits of the split {split!r} can be used")
    return ParsedFaces(entries, size=size, seed=seed, augmentation=augmentation)


def find_pairs(spec: str, split: Split) -> list[tuple[Path, Path]]:
    """Return images, each with its template, `landmarks.npz` or label image.

    ``faces:DIR,DIR`` takes every photo with a `.tem` template beside it, or a mesh in the `landmarks.npz` of its
    folder. Any other folder holds ``images/`` and ``labels/`` with PNGs of the same names, or one such folder for each
    of ``train``, ``val`` and ``test`` ("dev" is then "val"). Otherwise people are split by
    :func:`retouch_common.data.portraits.split_portraits`, and "test" is "val".

    Raises:
        ValueError: There are none, or a label image is missing.
    """
    part: Split = "val" if split == "test" else split
    if spec.startswith(FACES):
        portraits = find_portraits(spec.removeprefix(FACES))
        usable = {path for path in portraits if path.with_suffix(".tem").is_file() or mesh_of(path) is not None}
        if not usable:
            raise ValueError(
                f"{spec}: none of the {len(portraits)} portraits has a .tem template or a {LANDMARKS_FILE} beside it"
            )
        # Split before the others are left out, as whoever trains on all portraits splits them.
        found = [(path, _truth(path)) for path in split_portraits(portraits, part) if path in usable]
        if not found:
            raise ValueError(f"{spec}: too few people for split {split!r}")
        return found
    folder = Path(spec)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; give faces:DIR, or a folder with images/ and labels/")
    parts = [folder / name for name in ("train", "val", "test") if (folder / name / "images").is_dir()]
    if parts:
        split = "val" if split == "dev" else split
        wanted = parts if split == "all" else [folder / split]
        if split == "val" and folder / "val" not in parts:
            wanted = [folder / "test"]
        if not set(wanted) <= set(parts):
            raise ValueError(f"{folder}: has no {split}/images; splits are {', '.join(path.name for path in parts)}")
        return [pair for path in wanted for pair in _labelled(path)]
    if not (folder / "images").is_dir() or not (folder / "labels").is_dir():
        raise ValueError(f"{folder}: needs the folders images and labels; maskgan-convert-labels writes them")
    pairs = dict(_labelled(folder))
    found = [(path, pairs[path]) for path in split_portraits(list(pairs), part)]
    if not found:
        raise ValueError(f"{folder}: too few images for split {split!r}")
    return found


def _truth(portrait: Path) -> Path:
    template = portrait.with_suffix(".tem")
    return template if template.is_file() else portrait.parent / LANDMARKS_FILE


class ParsedFaces(Dataset[dict[str, Tensor]]):
    """Samples as the module says; any index from 0 up is valid and always gives the same sample.

    Args:
        entries: What :func:`retouch_common.parsing.portraits.prepare_portraits` returns.
        size: S, side in pixels.
        seed: Seed of all randomness.
        augmentation: See :func:`open_data`.
    """

    def __init__(self, entries: Sequence[Path], *, size: int, seed: int, augmentation: Augmentation) -> None:
        self.entries, self.size, self.seed = list(entries), size, seed
        self.augment = augmentation != "none"
        self._augmenter = Augmenter(size) if augmentation == "strong" else None

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if index < 0:
            raise IndexError("samples are numbered from 0")
        generator = np.random.default_rng((self.seed, index, 0x9A5))
        portrait = load_portrait(self.entries[index % len(self)])
        if self._augmenter is None:
            framed = cut(portrait, self.size, random_pose(generator, strong=False) if self.augment else None)
            return _sample(framed.image, framed.labels)
        if generator.random() < EMPTY:
            scene = self._augmenter.camera(self._augmenter.scene(self.size, generator), generator)
            return _sample(scene, np.zeros(scene.shape[:2], np.uint8))
        if generator.random() < OPENED:
            unit = float(portrait.square.side * PORTRAIT_EYES)
            portrait = replace(portrait, planes=open_mouth(portrait.planes, unit, generator))
        return _sample(*self._augmenter(cut(portrait, self.size, random_pose(generator, strong=True)), generator))


def _labelled(folder: Path) -> list[tuple[Path, Path]]:
    found = [(path, folder / "labels" / f"{path.stem}.png") for path in find_portraits(folder / "images")]
    missing = [path for _, path in found if not path.is_file()]
    if missing:
        raise ValueError(f"{missing[0]}: missing; {len(missing)} of {len(found)} images have no labels")
    return found


def _sample(image: np.ndarray, labels: np.ndarray) -> dict[str, Tensor]:
    return {
        "image": to_tensor(image),
        "labels": torch.from_numpy(labels.astype(np.int64)),
    }
