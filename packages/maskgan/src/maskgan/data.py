"""Aligned faces with labels for training the networks.

Samples: ``image`` (3, S, S) float32 in [-1, 1] and ``labels`` (S, S) int64.

Section 4: a face parser is trained on faces whose labels are known and labels the others. So here: portraits with a
landmark template beside them (see :mod:`retouch_common.parsing.templates`) or a label picture have exact labels, the
other portraits of ``faces:DIR`` those that the parser finds, with the parts of the mesh where their folder has one
(:mod:`retouch_common.parsing.meshes`).

Paper: the source of paired data is the target itself.
Here: in a share of the samples ("moved") it is the same portrait held otherwise, with some of its parts hidden. What
an edit asks for, larger eyes, hair where there was none, teeth behind lips, then has a photograph to be compared with.
Such samples also have ``source`` (3, S, S) and ``source_labels`` (S, S).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from retouch_common.data.face_cache import default_cache, portrait_key, read_levels
from retouch_common.data.pair_files import Split
from retouch_common.data.portraits import find_portraits, mesh_of, split_portraits
from retouch_common.faces.alignment import FaceSquare, align, portrait_square
from retouch_common.faces.detection import detect_faces
from retouch_common.faces.landmarks import portrait_square_of
from retouch_common.faces.mesh import landmarks_from_mesh
from retouch_common.files import sha256
from retouch_common.parsing.augmentation import Augmenter, Framed, Pose, cut
from retouch_common.parsing.data import FACES, find_pairs
from retouch_common.parsing.labels import CLASSES, write_labels
from retouch_common.parsing.meshes import points_in_square, with_mesh_parts
from retouch_common.parsing.model import BUNDLED
from retouch_common.parsing.parser import FaceParser
from retouch_common.parsing.portraits import load_portrait, prepare_portraits
from retouch_common.photo.colour import luminance
from retouch_common.photo.sink import write_picture
from retouch_common.progress import progress_bar
from retouch_common.ranges import to_signed
from retouch_common.synthesis.photometric import colour_shift
from retouch_common.weights import resolve_weights
from torch import Tensor
from torch.utils.data import Dataset

LABELLING = 3  # raised when labels are found otherwise, whatever the parser's weights
ROOM = 1.25  # side of what is kept of a portrait without labels over that of its face's square: room to move and turn
SCENES = 0.5  # share of samples before another background, where it is known what is behind the person
MONOCHROME = 0.04  # share of samples without colours
HIDDEN = {"inside": 0.4, "hair": 0.5, "skin": 0.3}
"""Of moved sources: how often what is between the lips, some of the hair and some of the skin are hidden."""
MOUTH, SKIN, HAIR = (CLASSES.index(name) for name in ("mouth", "skin", "hair"))


def open_data(
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
        seed: Of everything random.
        augment: Turn, move, mirror, recolour a little, and change backgrounds.
        moved: Share of samples with another source than the face itself; above 0, all have a source.
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
        known = find_pairs(spec, "val" if split == "dev" else split)
    if others and parser is not None:
        known += parsed_pairs(others, parser, size)
    entries = prepare_portraits(known)
    if not entries:
        raise ValueError(f"{spec}: no face in the split {split!r}")
    return Faces(entries, size=size, seed=seed, augment=augment, moved=moved)


class Faces(Dataset[dict[str, Tensor]]):
    """Samples as the module says; any index from 0 up is valid, and the same index gives the same sample.

    Args:
        entries: What :func:`retouch_common.parsing.portraits.prepare_portraits` gives.
        size: S, side in pixels.
        seed: Of everything random.
        augment: See :func:`open_data`.
        moved: See :func:`open_data`.
    """

    def __init__(self, entries: Sequence[Path], *, size: int, seed: int, augment: bool, moved: float = 0.0) -> None:
        self.entries, self.size, self.seed, self.moved = list(entries), size, seed, moved
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
        pose = _slight_pose(generator) if self._augmenter else Pose()
        framed = cut(portrait, self.size, pose)
        image, source, source_labels = framed.image, framed.image, framed.labels
        if self.moved and generator.random() < self.moved:
            other = cut(portrait, self.size, _moved(pose, generator))
            source, source_labels = other.image, _with_hidden_parts(other.labels, generator)
        if self._augmenter is not None:
            look = _look(generator)
            image, source = look(_before_a_scene(framed, self._augmenter, generator)), look(source)
        sample = {"image": _picture(image), "labels": _classes(framed.labels)}
        if self.moved:
            sample |= {"source": _picture(source), "source_labels": _classes(source_labels)}
        return sample


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
        write_picture(name.with_suffix(".png"), face)
        write_labels(name.with_suffix(".labels.png"), labels)
    name.with_suffix(".done").touch()


def _square(levels: np.ndarray, mesh: np.ndarray | None) -> FaceSquare | None:
    if mesh is not None:
        return portrait_square_of(landmarks_from_mesh(mesh))
    faces = detect_faces(levels)
    return portrait_square(faces[0], *levels.shape[:2]) if faces else None


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


def _moved(pose: Pose, generator: np.random.Generator) -> Pose:
    """Return another pose, as far from this one as one person's parts may be from another's; not mirrored."""
    shift = np.array(pose.shift) + generator.normal(0.0, 0.025, 2).clip(-0.06, 0.06)
    return Pose(
        scale=pose.scale * float(np.exp(generator.uniform(-0.25, 0.25))),
        aspect=pose.aspect * float(np.exp(generator.normal(0.0, 0.06))),
        angle=pose.angle + float(np.radians(np.clip(generator.normal(0.0, 4.0), -10, 10))),
        shift=(float(shift[0]), float(shift[1])),
        mirror=pose.mirror,
    )


def _with_hidden_parts(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return labels in which some of the face is called background, so that no code tells of it."""
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


def _look(generator: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """Return a camera of another exposure and slightly other colours, for all pictures of a sample."""
    gamma = np.float32(np.exp(generator.normal(0.0, 0.2)))
    matrix = colour_shift(generator, 0.5) * np.exp(generator.normal(0.0, 0.05, 3)).astype(np.float32)
    grey = generator.random() < MONOCHROME

    def seen(image: np.ndarray) -> np.ndarray:
        seen = np.clip((np.clip(image, 0, 1) ** gamma) @ matrix, 0, 1)
        return np.repeat(luminance(seen)[..., None], 3, axis=-1) if grey else seen

    return seen


def _picture(image: np.ndarray) -> Tensor:
    """(3, S, S) in [-1, 1]."""
    return to_signed(torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)))


def _classes(labels: np.ndarray) -> Tensor:
    return torch.from_numpy(labels.astype(np.int64))
