"""Harm and gain measured on portraits of held-out people taken anywhere.

The people are those of the sets `headshots` and `community` that no training sees (:func:`split_portraits`). *Skin* is
the oval of the face mesh without eyes (enlarged 1.7 times), brows (1.35), lips (1.2) and nostrils (1.3).

- Elsewhere: with nothing drawn, the share of the pixels outside skin that change by more than 2 of 255 levels.
- Painted over: with nothing drawn, the mean colour of some block of 24 x 24 pixels moves by more than 10 levels.
- Gain: PSNR inside drawn blemishes, over that of the identity baseline.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from retouch_common.data.face_cache import read_levels
from retouch_common.data.portraits import find_portraits, mesh_of, split_portraits
from retouch_common.faces.alignment import FaceSquare, face_square
from retouch_common.faces.face import Face
from retouch_common.faces.mesh import BROWS, EYES, NOSE, NOSE_TIP, NUM_POINTS, OUTER_LIPS, OVAL
from retouch_common.testing.portraits import psnr, visible

ELSEWHERE_LEVELS = 2
BLOCK = 24  # pixels
BLOCK_LEVELS = 10

NOSTRILS = (98, 97, 2, 326, 327, 294, 460, 439, 309, 250, 458, 20, 242, 99, 64, 240)
CHEEKS = ((50, 101, 118, 117, 123, 187, 205), (280, 330, 347, 346, 352, 411, 425))
ENLARGED = (*((part, 1.7) for part in EYES), *((part, 1.35) for part in BROWS), (OUTER_LIPS, 1.2), (NOSTRILS, 1.3))

TONES = ("dark", "medium", "light")
TONE_ANGLES = (28.0, 41.0)
"""Individual typology angles between the groups in degrees: tan, brown and dark | intermediate | light."""

Retouch = Callable[[np.ndarray], "np.ndarray | None"]
"""Maps an (H, W, 3) uint8 photograph to the result, or None if no face was found in it."""

Draw = Callable[["MeshPortrait", int], np.ndarray]
"""Maps a portrait and a seed to its photograph with something drawn on it, uint8."""


@dataclass(frozen=True, eq=False)
class MeshPortrait:
    """A photograph with the face mesh of the person in it.

    Attributes:
        path: The file.
        mesh: (468, 2) float32, x and y in pixels.
    """

    path: Path
    mesh: np.ndarray

    @property
    def name(self) -> str:
        """Set and file, without suffix."""
        return f"{self.path.parent.name}/{self.path.stem}"

    @property
    def face_width(self) -> float:
        """Width of the mesh's oval in pixels."""
        return float(np.ptp(self.mesh[list(OVAL), 0]))

    @cached_property
    def levels(self) -> np.ndarray:
        """(H, W, 3) uint8."""
        return read_levels(self.path)

    @cached_property
    def skin(self) -> np.ndarray:
        """(H, W) bool; see :func:`skin_mask`."""
        return skin_mask(self.mesh, *self.levels.shape[:2])

    @cached_property
    def tone_angle(self) -> float:
        """Individual typology angle of the cheeks in degrees; see :func:`typology_angle`."""
        cheeks = sum(filled(self.mesh[list(part)], *self.levels.shape[:2]) for part in CHEEKS) > 0
        return typology_angle(np.median(self.levels[cheeks], axis=0))

    @property
    def tone(self) -> str:
        """The group of :data:`TONES` that the cheeks belong to."""
        return TONES[int(np.searchsorted(TONE_ANGLES, self.tone_angle))]


def portraits_with_mesh(folders: str | Path) -> list[MeshPortrait]:
    """Return the portraits of held-out people with a mesh, in order; folders joined by commas."""
    meshes = ((path, mesh_of(path)) for path in split_portraits(find_portraits(folders), "val"))
    return [MeshPortrait(path, mesh) for path, mesh in meshes if mesh is not None]


def filled(points: np.ndarray, height: int, width: int, scale: float = 1.0, *, hull: bool = False) -> np.ndarray:
    """Return the mask (H, W) bool of a polygon (n, 2) x, y, enlarged by ``scale`` about the mean of its points.

    With ``hull`` it is the convex hull of the points, whatever their order.
    """
    from skimage.draw import polygon2mask

    points = points.astype(np.float64)
    if hull:
        from scipy.spatial import ConvexHull

        points = points[ConvexHull(points).vertices]
    centre = points.mean(axis=0)
    enlarged = centre + scale * (points - centre)
    return polygon2mask((height, width), enlarged[:, ::-1])


def drawn_portrait(path: Path) -> MeshPortrait:
    """Draw a frontal face, 198 pixels wide: skin with grain and dark features before a patterned wall; no file."""
    unit, centre, side = 90.0, np.array([200.0, 170.0]), 400
    points = np.tile(centre, (NUM_POINTS, 1))

    def ellipse(indices: Sequence[int], x: float, y: float, rx: float, ry: float, start: float) -> None:
        turn = np.radians(start) + np.linspace(0.0, 2.0 * np.pi, len(indices), endpoint=False)
        points[list(indices)] = centre + unit * np.stack([x + rx * np.cos(turn), y + ry * np.sin(turn)], axis=1)

    ellipse(NOSE, 0.0, 0.35, 0.18, 0.3, -90.0)
    ellipse(OVAL, 0.0, 0.5, 1.1, 1.5, -90.0)
    for eye, brow, cheek, x in zip(EYES, BROWS, CHEEKS, (-0.5, 0.5), strict=True):
        ellipse(eye, x, 0.0, 0.22, 0.09, 180.0)
        ellipse(brow, x, -0.35, 0.3, 0.05, 180.0)
        ellipse(cheek, x, 0.55, 0.2, 0.15, 0.0)
    ellipse(NOSTRILS, 0.0, 0.68, 0.2, 0.06, 0.0)
    ellipse(OUTER_LIPS, 0.0, 1.1, 0.4, 0.15, 180.0)
    points[NOSE_TIP] = centre + unit * np.array([0.0, 0.55])
    portrait = MeshPortrait(path, points.astype(np.float32))
    rows, columns = np.mgrid[:side, :side]
    picture = np.repeat((110 + 40 * np.sin(rows / 5.0) * np.sin(columns / 7.0))[..., None], 3, axis=2)
    picture[filled(portrait.mesh[list(OVAL)], side, side)] = (205, 155, 130)
    for part in (*EYES, *BROWS, OUTER_LIPS):
        picture[filled(portrait.mesh[list(part)], side, side)] = (90, 50, 50)
    picture += np.random.default_rng(0).normal(0, 3, (side, side, 1))
    portrait.__dict__["levels"] = np.rint(picture).clip(0, 255).astype(np.uint8)  # what reading the file would cache
    return portrait


def skin_mask(mesh: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the mask of facial skin, (H, W) bool: the oval without eyes, brows, lips and nostrils, each enlarged."""
    skin = filled(mesh[list(OVAL)], height, width)
    for part, scale in ENLARGED:
        skin &= ~filled(mesh[list(part)], height, width, scale, hull=part is NOSTRILS)
    return skin


def face_window(portrait: MeshPortrait, margin: float) -> tuple[slice, slice]:
    """Return the rows and columns of the oval's box, enlarged by ``margin`` face widths on all sides."""
    oval, reach = portrait.mesh[list(OVAL)], margin * portrait.face_width
    height, width = portrait.levels.shape[:2]
    left, top = (max(0, int(value)) for value in oval.min(axis=0) - reach)
    right, bottom = (int(value) + 1 for value in oval.max(axis=0) + reach)
    return slice(top, min(bottom, height)), slice(left, min(right, width))


def mesh_square(portrait: MeshPortrait) -> FaceSquare:
    """Return the square, framed as FFHQ's, of a face whose five landmarks are those of its mesh."""
    mesh = portrait.mesh
    eyes = [mesh[list(part)].mean(axis=0) for part in EYES]
    points = np.stack([*eyes, mesh[NOSE_TIP], mesh[OUTER_LIPS[0]], mesh[OUTER_LIPS[10]]]) + 0.5
    (x, y), (w, h) = mesh.min(axis=0), np.ptp(mesh, axis=0)
    return face_square(Face((float(x), float(y), float(w), float(h)), 1.0, points), *portrait.levels.shape[:2])


def typology_angle(colour: np.ndarray) -> float:
    """Return the individual typology angle of an sRGB colour (3,), arctan((L* - 50) / b*) in degrees; large is light.

    Chardon, Cretois, Hourseau, *Skin colour typology and suntanning pathways*, 1991.
    """
    from skimage.color import rgb2lab

    lightness, _, b = rgb2lab(np.asarray(colour, np.float64) / 255)
    return float(np.degrees(np.arctan2(lightness - 50, max(b, 1e-6))))


def changed_elsewhere(before: np.ndarray, after: np.ndarray, skin: np.ndarray) -> float:
    """Return the share of the pixels outside skin (H, W) of which a channel changes by more than 2 levels.

    ``before`` and ``after`` are (H, W, 3) uint8.
    """
    change = np.abs(after.astype(np.int16) - before).max(axis=-1)
    return float((change[~skin] > ELSEWHERE_LEVELS).mean())


def largest_block_shift(before: np.ndarray, after: np.ndarray, step: int = 1) -> float:
    """Return the largest shift in levels of the mean colour of a block of 24 x 24 pixels, in any channel.

    Args:
        before: (H, W, 3) uint8, at least as large as a block.
        after: The same after retouching.
        step: Pixels between blocks: 1 takes all blocks, 24 those of a grid.
    """
    sums = np.zeros((before.shape[0] + 1, before.shape[1] + 1, 3), np.int64)
    np.cumsum(np.cumsum(after.astype(np.int64) - before, axis=0), axis=1, out=sums[1:, 1:])
    total = sums[BLOCK:, BLOCK:] - sums[:-BLOCK, BLOCK:] - sums[BLOCK:, :-BLOCK] + sums[:-BLOCK, :-BLOCK]
    return float(np.abs(total[::step, ::step]).max() / BLOCK**2)


def through_files(retouch_file: Callable[[Path, Path], object]) -> Retouch:
    """Turn a function from file to file, which raises ValueError where it finds no face, into one of arrays."""
    import pyvips

    def retouch(levels: np.ndarray) -> np.ndarray | None:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "photo.tif", Path(folder) / "result.tif"
            pyvips.Image.new_from_array(levels).write_to_file(str(source))
            try:
                retouch_file(source, target)
            except ValueError as error:
                if "no face" not in str(error):
                    raise
                return None
            return pyvips.Image.new_from_file(str(target)).numpy()

    return retouch


@dataclass(frozen=True)
class Harm:
    """Effect on photographs on which nothing was drawn, by name.

    Attributes:
        elsewhere: See :func:`changed_elsewhere`.
        shift: See :func:`largest_block_shift`; any block.
        grid_shift: The same of a grid's blocks.
        not_found: Photographs in which no face was found, which count as unchanged.
    """

    elsewhere: dict[str, float] = field(default_factory=dict)
    shift: dict[str, float] = field(default_factory=dict)
    grid_shift: dict[str, float] = field(default_factory=dict)
    not_found: list[str] = field(default_factory=list)

    @property
    def painted_over(self) -> list[str]:
        """The photographs in which some block moves by more than 10 levels."""
        return [name for name, shift in self.shift.items() if shift > BLOCK_LEVELS]

    @property
    def painted_over_grid(self) -> list[str]:
        """The same by the blocks of a grid."""
        return [name for name, shift in self.grid_shift.items() if shift > BLOCK_LEVELS]


def measure_harm(portraits: Iterable[MeshPortrait], retouch: Retouch) -> Harm:
    """Retouch photographs on which nothing was drawn; those in which no face is found count as unchanged."""
    harm = Harm()
    for portrait in portraits:
        result = retouch(portrait.levels)
        if result is None:
            harm.not_found.append(portrait.name)
            result = portrait.levels
        harm.elsewhere[portrait.name] = changed_elsewhere(portrait.levels, result, portrait.skin)
        harm.shift[portrait.name] = largest_block_shift(portrait.levels, result)
        harm.grid_shift[portrait.name] = largest_block_shift(portrait.levels, result, BLOCK)
    return harm


@dataclass(frozen=True)
class Gains:
    """PSNR inside drawn blemishes, in dB, by name.

    Attributes:
        before: Of the identity baseline.
        after: Of the result.
        tones: Group of :data:`TONES` of the person.
        not_found: Photographs in which no face was found.
    """

    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    tones: dict[str, str] = field(default_factory=dict)
    not_found: list[str] = field(default_factory=list)

    def gain(self, tone: str | None = None) -> float:
        """Return the mean gain over the identity baseline, of all or of one group; NaN for an empty one."""
        found = [self.after[n] - self.before[n] for n in self.before if tone in (None, self.tones[n])]
        return statistics.mean(found) if found else float("nan")

    @property
    def worse(self) -> list[str]:
        """The photographs that become worse."""
        return [name for name in self.before if self.after[name] < self.before[name]]

    @property
    def tone_spread(self) -> float:
        """The largest difference between the groups' mean gains."""
        means = [self.gain(tone) for tone in set(self.tones.values())]
        return max(means) - min(means)

    def as_json(self) -> dict[str, Any]:
        """Return JSON values."""
        counts = {tone: list(self.tones.values()).count(tone) for tone in TONES}
        return {
            "identity": statistics.mean(self.before.values()),
            "result": statistics.mean(self.after.values()),
            "worse": self.worse,
            "no face found": self.not_found,
            "gain by skin tone": {tone: self.gain(tone) for tone, count in counts.items() if count},
            "pictures by skin tone": counts,
        }


def measure_gain(portraits: Sequence[MeshPortrait], retouch: Retouch, draw: Draw) -> Gains:
    """Draw on photographs, retouch them, and compare with the photographs inside what was drawn."""
    gains = Gains()
    for seed, portrait in enumerate(portraits):
        drawn = draw(portrait, seed)
        inside = visible(drawn, portrait.levels)
        result = retouch(drawn)
        if result is None:
            gains.not_found.append(portrait.name)
            result = drawn
        gains.before[portrait.name] = psnr(drawn, portrait.levels, inside)
        gains.after[portrait.name] = psnr(result, portrait.levels, inside)
        gains.tones[portrait.name] = portrait.tone
    return gains
