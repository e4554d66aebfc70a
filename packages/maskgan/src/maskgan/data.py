"""Aligned faces with labels for training the networks.

Samples: ``image`` (3, S, S) float32 in [-1, 1] and ``labels`` (S, S) int64.

Section 4: a face parser is trained on faces whose labels are known and labels the others. So here: portraits with a
landmark template beside them (see :mod:`retouch_common.parsing.templates`) or a label picture have exact labels, the
other portraits of ``faces:DIR`` those that the parser finds.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from retouch_common.cli import progress_bar
from retouch_common.data.face_cache import default_cache, read_levels
from retouch_common.data.pairs import Split
from retouch_common.data.portraits import find_portraits, split_portraits
from retouch_common.parsing.augmentation import Augmenter, Framed, Pose, cut
from retouch_common.parsing.data import FACES, find_pairs
from retouch_common.parsing.labels import write_labels
from retouch_common.parsing.model import BUNDLED
from retouch_common.parsing.parser import FaceParser
from retouch_common.parsing.portraits import load_portrait, prepare_portraits
from retouch_common.photo.alignment import align, portrait_square
from retouch_common.photo.faces import detect_faces
from retouch_common.synthesis.photometric import colour_shift
from retouch_common.weights import resolve_weights, sha256
from torch import Tensor
from torch.utils.data import Dataset

from maskgan.edit_files import write_picture

LABELLING = 2  # raised when FaceParser labels otherwise, whatever its weights
ROOM = 1.25  # side of what is kept of a portrait without labels over that of its face's square: room to move and turn
SCENES = 0.5  # share of samples before another background, where it is known what is behind the person


def open_data(
    spec: str, *, size: int, split: Split, seed: int, augment: bool = False, parser: str | None = "small"
) -> "Faces":
    """Open faces with labels.

    Args:
        spec: ``faces:DIR``, portraits, or a folder with ``images/`` and ``labels/``, see
            :func:`retouch_common.parsing.data.find_pairs`.
        size: S, side in pixels.
        split: "train", "val", "test" or "all".
        seed: Of everything random.
        augment: Turn, move, mirror, recolour a little, and change backgrounds.
        parser: Weights of the parser for portraits without templates; None leaves those out.

    Raises:
        ValueError: Unusable data.
        DetectorUnavailable: The face detector is needed and cannot be had.
        OSError: Nothing can be kept in the cache folder.
    """
    known: list[tuple[Path, Path]]
    others: list[Path] = []
    if spec.startswith(FACES):
        paths = split_portraits(find_portraits(spec.removeprefix(FACES)), "val" if split == "test" else split)
        known = [(path, path.with_suffix(".tem")) for path in paths if path.with_suffix(".tem").is_file()]
        others = [path for path in paths if not path.with_suffix(".tem").is_file()]
    else:
        known = find_pairs(spec, split)
    if others and parser is not None:
        known += parsed_pairs(others, parser, size)
    entries = prepare_portraits(known)
    if not entries:
        raise ValueError(f"{spec}: no face in the split {split!r}")
    return Faces(entries, size=size, seed=seed, augment=augment)


class Faces(Dataset[dict[str, Tensor]]):
    """Samples as the module says; any index from 0 up is valid, and the same index gives the same sample.

    Args:
        entries: What :func:`retouch_common.parsing.portraits.prepare_portraits` gives.
        size: S, side in pixels.
        seed: Of everything random.
        augment: See :func:`open_data`.
    """

    def __init__(self, entries: Sequence[Path], *, size: int, seed: int, augment: bool) -> None:
        self.entries, self.size, self.seed = list(entries), size, seed
        self._augmenter = Augmenter(size) if augment else None

    def __len__(self) -> int:
        """Number of faces."""
        return len(self.entries)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One sample."""
        if index < 0:
            raise IndexError("samples are numbered from 0")
        generator = np.random.default_rng((self.seed, index, 0x6A5))
        portrait = load_portrait(self.entries[index % len(self)])
        framed = cut(portrait, self.size, _slight_pose(generator) if self._augmenter else None)
        image = framed.image
        if self._augmenter is not None:
            image = _recoloured(_before_a_scene(framed, self._augmenter, generator), generator)
        picture = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)
        return {
            "image": 2 * torch.from_numpy(picture) - 1,
            "labels": torch.from_numpy(framed.labels.astype(np.int64)),
        }


def parsed_pairs(paths: Sequence[Path], parser: str, size: int) -> list[tuple[Path, Path]]:
    """Let a parser label portraits; what it finds is kept in the cache folder.

    Args:
        paths: Portraits; those without a face are left out.
        parser: Weights of the parser.
        size: S, side of an aligned face in pixels.

    Returns:
        Pictures of the faces with some room around, each with its label picture.

    Raises:
        ValueError: There are no such weights, or a portrait cannot be read.
    """
    weights = resolve_weights(parser, bundled=BUNDLED)
    version = sha256(weights.path)
    folder = default_cache().with_name("parsed")
    folder.mkdir(parents=True, exist_ok=True)
    names = {path: folder / _key(path, version, size) for path in paths}
    missing = [path for path in paths if not names[path].with_suffix(".done").is_file()]
    network = FaceParser(weights.path) if missing else None
    with progress_bar(unit="portraits", disable=not missing) as bar:
        for path in bar.track(missing, description="Parsing"):
            assert network is not None
            _parse(path, names[path], network, size)
    pairs = [(names[path].with_suffix(".png"), names[path].with_suffix(".labels.png")) for path in paths]
    return [pair for pair in pairs if pair[1].is_file()]


def _parse(path: Path, name: Path, parser: FaceParser, size: int) -> None:
    levels = read_levels(path)
    faces = detect_faces(levels)
    if faces:
        square = portrait_square(faces[0], *levels.shape[:2])
        wide = replace(square, side=square.side * ROOM)
        face = align(levels, wide, round(size * ROOM))
        write_picture(name.with_suffix(".png"), face)
        write_labels(name.with_suffix(".labels.png"), parser(face))
    name.with_suffix(".done").touch()


def _before_a_scene(framed: Framed, augmenter: Augmenter, generator: np.random.Generator) -> np.ndarray:
    """The person somewhere else, often enough that no plain wall is taken for granted."""
    if generator.random() >= SCENES or framed.background.max() < 0.5:
        return framed.image
    scene = augmenter.scene(len(framed.image), generator)
    return framed.image + framed.background[..., None] * (scene - framed.image)


def _slight_pose(generator: np.random.Generator) -> Pose:
    """As far from the template as alignment may be: a few hundredths."""
    shift = generator.normal(0.0, 0.012, 2).clip(-0.03, 0.03)
    return Pose(
        scale=float(np.exp(generator.uniform(-0.06, 0.06))),
        aspect=float(np.exp(generator.normal(0.0, 0.03))),
        angle=float(np.radians(np.clip(generator.normal(0.0, 2.5), -6, 6))),
        shift=(float(shift[0]), float(shift[1])),
        mirror=bool(generator.random() < 0.5),
    )


def _recoloured(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Another exposure and slightly other colours."""
    gamma = np.float32(np.exp(generator.normal(0.0, 0.15)))
    light = np.exp(generator.normal(0.0, 0.04, 3)).astype(np.float32)
    return np.clip((np.clip(image, 0, 1) ** gamma) @ colour_shift(generator, 0.5) * light, 0, 1)


def _key(path: Path, version: str, size: int) -> str:
    about = path.stat()
    text = f"{path.resolve()}\n{about.st_size}\n{about.st_mtime_ns}\n{version}\n{size}\n{ROOM}\n{LABELLING}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]
