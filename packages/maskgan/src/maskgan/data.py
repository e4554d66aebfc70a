"""Aligned faces with labels for training.

Samples: ``image`` (3, S, S) float32 in [-1, 1] and ``labels`` (S, S) int64.

Section 4: a face parser trained on labelled faces labels the others. Here portraits with a landmark template beside
them (see :mod:`retouch_common.parsing.templates`) or a label image have exact labels; other portraits of ``faces:DIR``
have the parser's, with the parts of the mesh where their folder has one (:mod:`retouch_common.parsing.meshes`).

Paper: the source of paired data is the target itself.
Here: in a share of the samples ("moved") it is the same portrait in another pose with some parts hidden. Edits that ask
for larger eyes, hair where there was none or teeth behind lips then have a ground truth. Such samples also have
``source`` (3, S, S) and ``source_labels`` (S, S).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from retouch_common.data.face_cache import default_cache, portrait_key, read_levels
from retouch_common.data.pair_files import Split
from retouch_common.data.portraits import find_portraits, mesh_of, split_portraits
from retouch_common.faces.alignment import FaceSquare, align, points_in_square, portrait_square
from retouch_common.faces.detection import detect_faces
from retouch_common.faces.landmarks import portrait_square_of
from retouch_common.faces.mesh import landmarks_from_mesh
from retouch_common.files import sha256
from retouch_common.parsing.augmentation import Augmenter, Framed, Pose, cut
from retouch_common.parsing.data import FACES, find_pairs
from retouch_common.parsing.labels import CLASSES, read_labels, write_labels
from retouch_common.parsing.meshes import with_mesh_parts
from retouch_common.parsing.model import BUNDLED
from retouch_common.parsing.parser import FaceParser
from retouch_common.parsing.portraits import load_portrait, prepare_portraits
from retouch_common.photo.colour import luminance
from retouch_common.photo.sink import write_png
from retouch_common.progress import progress_bar
from retouch_common.ranges import to_levels, to_signed, to_tensor
from retouch_common.synthesis.photometric import colour_shift
from retouch_common.weights import resolve_weights
from torch import Tensor
from torch.utils.data import Dataset

LABELLING = 3  # version of the cached labels; increment when they are computed differently
ROOM = 1.25  # side of a parsed crop over that of the face's square: room for augmentation
SCENES = 0.5  # share of samples with another background, where the person's outline is known
MONOCHROME = 0.04  # share of greyscale samples
HIDDEN = {"inside": 0.4, "hair": 0.5, "skin": 0.3}
"""Probabilities of hiding the inside of the mouth, some of the hair and some of the skin in moved sources."""
MOUTH, SKIN, HAIR = (CLASSES.index(name) for name in ("mouth", "skin", "hair"))


def open_faces(
    spec: str,
    *,
    size: int,
    split: Split,
    seed: int,
    augment: bool = False,
    moved: float = 0.0,
    parser: str | None = "small",
) -> "Faces":
    """Open faces with labels.

    Args:
        spec: ``faces:DIR,DIR``, portraits, or a folder with ``images/`` and ``labels/``, see
            :func:`retouch_common.parsing.data.find_pairs`.
        size: S, side in pixels.
        split: "train", "dev", "val", "test" or "all".
        seed: Random seed.
        augment: Rotate, shift, mirror and recolour slightly, and replace backgrounds.
        moved: Share of samples whose source is not the face itself; above 0, all samples have a source.
        parser: Weights of the parser for portraits without templates; None skips those.

    Raises:
        ValueError: Unusable data.
        DetectorUnavailable: The face detector is needed but not available.
        OSError: The cache folder cannot be written.
    """
    if spec.startswith(FACES):
        known, others = _portraits(spec, split)
    else:
        known, others = find_pairs(spec, "val" if split == "dev" else split), []
    if others and parser is not None:
        known += parsed_pairs(others, parser, size)
    entries = prepare_portraits(known)
    if not entries:
        raise ValueError(f"{spec}: no face in the split {split!r}")
    return Faces(entries, size=size, seed=seed, augment=augment, moved=moved)


def num_parsed(spec: str, split: Split) -> int:
    """Return the number of faces of a split whose labels are the parser's."""
    return len(_portraits(spec, split)[1]) if spec.startswith(FACES) else 0


def _portraits(spec: str, split: Split) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """Return the portraits of a split with their templates, and those without any."""
    paths = split_portraits(find_portraits(spec.removeprefix(FACES)), "val" if split == "test" else split)
    templates = {path: path.with_suffix(".tem") for path in paths}
    known = [(path, template) for path, template in templates.items() if template.is_file()]
    return known, [path for path, template in templates.items() if not template.is_file()]


class Faces(Dataset[dict[str, Tensor]]):
    """Samples as the module describes; any index from 0 on is valid, and the same index gives the same sample.

    Args:
        entries: From :func:`retouch_common.parsing.portraits.prepare_portraits`; for the others see :func:`open_faces`.
    """

    def __init__(self, entries: Sequence[Path], *, size: int, seed: int, augment: bool, moved: float = 0.0) -> None:
        self.entries, self.size, self.seed, self.moved = list(entries), size, seed, moved
        self._augmenter = Augmenter(size) if augment else None

    def __len__(self) -> int:
        """Number of faces."""
        return len(self.entries)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return sample ``index``."""
        if index < 0:
            raise IndexError("samples are numbered from 0")
        generator = np.random.default_rng((self.seed, index, 0x6A5))
        portrait = load_portrait(self.entries[index % len(self)])
        pose = _slight_pose(generator) if self._augmenter else Pose()
        framed = cut(portrait, self.size, pose)
        image, source, source_labels = framed.image, framed.image, framed.labels
        if self.moved and generator.random() < self.moved:
            other = cut(portrait, self.size, _moved(pose, generator))
            source, source_labels = other.image, _with_hidden_parts(other.labels, generator)
        if self._augmenter is not None:
            camera = _random_camera(generator)
            image, source = camera(_with_scene(framed, self._augmenter, generator)), camera(source)
        sample = {"image": to_signed(to_tensor(image)), "labels": _label_tensor(framed.labels)}
        if self.moved:
            sample |= {"source": to_signed(to_tensor(source)), "source_labels": _label_tensor(source_labels)}
        return sample


def read_aligned_pair(labels: Path, image: Path | None, size: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a label image and its photo, as they are if they have an aligned face's size, else aligned by the labels.

    Args:
        labels: The label image.
        image: The photo, if there is one; without it the labels must have that size.
        size: S.

    Returns:
        Labels (S, S) uint8, and the face (S, S, 3) uint8 or None.

    Raises:
        ValueError: A file cannot be read, the two differ in size, or labels without a photo have another size.
    """
    found = read_labels(labels)
    if found.shape == (size, size):
        levels = None if image is None else read_levels(image)
        if levels is not None and levels.shape[:2] != found.shape:
            height, width = levels.shape[:2]
            raise ValueError(f"{image}: has {width}x{height} pixels, not {size}x{size} as its labels, {labels}")
        return found, levels
    if image is None:
        shape = f"{found.shape[1]}x{found.shape[0]}"
        raise ValueError(f"{labels}: has {shape} pixels, not {size}x{size} as an aligned face, and no photo beside it")
    (entry,) = prepare_portraits([(image, labels)])
    framed = cut(load_portrait(entry), size)
    return framed.labels, to_levels(framed.image)


def parsed_pairs(paths: Sequence[Path], parser: str, size: int) -> list[tuple[Path, Path]]:
    """Label portraits with a parser, cached.

    Args:
        paths: Portraits; those without a face are skipped.
        parser: Weights of the parser.
        size: S, side of an aligned face in pixels.

    Returns:
        Images of the faces with a margin, each with its label image.

    Raises:
        ValueError: Unknown weights, or a portrait cannot be read.
    """
    weights = resolve_weights(parser, bundled=BUNDLED)
    version = sha256(weights.path)
    folder = default_cache().with_name("parsed")
    folder.mkdir(parents=True, exist_ok=True)
    names = {path: folder / portrait_key(path, version, size, ROOM, LABELLING, mesh=mesh_of(path)) for path in paths}
    missing = [path for path in paths if not names[path].with_suffix(".done").is_file()]
    network = FaceParser(weights.path) if missing else None
    with progress_bar(unit="portraits", disable=not missing) as bar:
        for path in bar.track(missing, description="Parsing"):
            assert network is not None
            _parse(path, names[path], network, size)
    pairs = [(names[path].with_suffix(".png"), names[path].with_suffix(".labels.png")) for path in paths]
    return [pair for pair in pairs if pair[1].is_file()]


def _parse(path: Path, name: Path, parser: FaceParser, size: int) -> None:
    levels, mesh = read_levels(path), mesh_of(path)
    square = _square(levels, mesh)
    if square is not None:
        wide = replace(square, side=square.side * ROOM)
        face = align(levels, wide, round(size * ROOM))
        labels = parser(face)
        if mesh is not None:
            labels = with_mesh_parts(labels, points_in_square(mesh, wide, len(face)))
        write_png(name.with_suffix(".png"), face)
        write_labels(name.with_suffix(".labels.png"), labels)
    name.with_suffix(".done").touch()


def _square(levels: np.ndarray, mesh: np.ndarray | None) -> FaceSquare | None:
    if mesh is not None:
        return portrait_square_of(landmarks_from_mesh(mesh))
    faces = detect_faces(levels)
    return portrait_square(faces[0], *levels.shape[:2]) if faces else None


def _with_scene(framed: Framed, augmenter: Augmenter, generator: np.random.Generator) -> np.ndarray:
    """Return the person in front of another background in some samples, so that none is taken for granted."""
    if generator.random() >= SCENES or framed.background.max() < 0.5:
        return framed.image
    scene = augmenter.scene(len(framed.image), generator)
    return framed.image + framed.background[..., None] * (scene - framed.image)


def _slight_pose(generator: np.random.Generator) -> Pose:
    """Return a pose within the error of alignment, a few hundredths."""
    shift = generator.normal(0.0, 0.012, 2).clip(-0.03, 0.03)
    return Pose(
        scale=float(np.exp(generator.uniform(-0.06, 0.06))),
        aspect=float(np.exp(generator.normal(0.0, 0.03))),
        angle=float(np.radians(np.clip(generator.normal(0.0, 2.5), -6, 6))),
        shift=(float(shift[0]), float(shift[1])),
        mirror=bool(generator.random() < 0.5),
    )


def _moved(pose: Pose, generator: np.random.Generator) -> Pose:
    """Return a pose as different as parts of two people are; not mirrored."""
    shift = np.array(pose.shift) + generator.normal(0.0, 0.025, 2).clip(-0.06, 0.06)
    return Pose(
        scale=pose.scale * float(np.exp(generator.uniform(-0.25, 0.25))),
        aspect=pose.aspect * float(np.exp(generator.normal(0.0, 0.06))),
        angle=pose.angle + float(np.radians(np.clip(generator.normal(0.0, 4.0), -10, 10))),
        shift=(float(shift[0]), float(shift[1])),
        mirror=pose.mirror,
    )


def _with_hidden_parts(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return labels in which parts of the face are background, so that no code encodes them."""
    hidden = np.zeros(labels.shape, bool)
    if generator.random() < HIDDEN["inside"]:
        hidden |= labels == MOUTH
    for part, share in ((HAIR, HIDDEN["hair"]), (SKIN, HIDDEN["skin"])):
        places = np.argwhere(labels == part)
        if generator.random() < share and len(places):
            row, column = places[generator.integers(len(places))]
            y, x = np.mgrid[: labels.shape[0], : labels.shape[1]]
            radius = len(labels) * generator.uniform(0.05, 0.25)
            hidden |= (labels == part) & ((y - row) ** 2 + (x - column) ** 2 < radius**2)
    return np.where(hidden, 0, labels).astype(labels.dtype)


def _random_camera(generator: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """Return a change of exposure and colours for all images of a sample."""
    gamma = np.float32(np.exp(generator.normal(0.0, 0.2)))
    matrix = colour_shift(generator, 0.5) * np.exp(generator.normal(0.0, 0.05, 3)).astype(np.float32)
    grey = generator.random() < MONOCHROME

    def seen(image: np.ndarray) -> np.ndarray:
        seen = np.clip((np.clip(image, 0, 1) ** gamma) @ matrix, 0, 1)
        return np.repeat(luminance(seen)[..., None], 3, axis=-1) if grey else seen

    return seen


def _label_tensor(labels: np.ndarray) -> Tensor:
    return torch.from_numpy(labels.astype(np.int64))
