"""WebMorph templates (`.tem`): manual facial landmarks and the polylines that join them.

The text file holds the number of points; one `x<TAB>y` per line (pixels, origin in the top left corner); the number of
polylines; and for each polyline three lines: closed flag (0 or 1), number of points, indices of the points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

LINES: dict[str, tuple[int, ...]] = {
    "brow_left": (16, 18),
    "brow_right": (17, 19),
    "ear_left": (26,),
    "ear_right": (27,),
    "eye_left": (4, 6),
    "eye_right": (5, 7),
    "face": (28, 25, 43, 42, 41, 24),
    "head": (29,),
    "lips": (20, 23),
    "neck": (38, 40, 39, 43, 42, 41),
    "nose": (12, 13, 14, 15),
    "nose_wing_left": (14,),
    "nose_wing_right": (15,),
}
"""Names for the useful polylines of the 189-point template; several make one outline or one group."""

PUPILS = (0, 1)
"""Indices of the two points in the middle of the pupils."""


@dataclass(frozen=True)
class Template:
    """Landmarks of one photo.

    Attributes:
        points: (N, 2) float32, x and y in pixels.
        polylines: Indices into `points`, one tuple per polyline.
    """

    points: np.ndarray
    polylines: tuple[tuple[int, ...], ...]

    def polyline(self, index: int) -> np.ndarray:
        """Return the points (n, 2) of a polyline."""
        return self.points[list(self.polylines[index])]

    def outline(self, name: str) -> np.ndarray:
        """Return the closed outline (n, 2) of a part, a key of `LINES`; polylines are reversed where that joins them.

        Raises:
            ValueError: If the template has too few polylines (it is not the 189-point kind).
        """
        chain, *others = self.lines(name)
        for line in others:
            ends = [np.hypot(*(end - line[0])) for end in (chain[-1], chain[0])]
            turned = [np.hypot(*(end - line[-1])) for end in (chain[-1], chain[0])]
            if min(ends[1], turned[1]) < min(ends[0], turned[0]):
                chain, ends, turned = chain[::-1], ends[::-1], turned[::-1]
            chain = np.concatenate([chain, line if ends[0] <= turned[0] else line[::-1]])
        return chain

    def lines(self, name: str) -> list[np.ndarray]:
        """Return the polylines of a group, a key of `LINES`, each (n, 2) float32."""
        if max(LINES[name]) >= len(self.polylines):
            raise ValueError(
                f"the template has {len(self.polylines)} polylines, {name!r} needs number {max(LINES[name])}: "
                "only the 189-point template of the Face Research Lab sets is understood"
            )
        return [self.polyline(index) for index in LINES[name]]

    def scaled(self, factor: float) -> Template:
        """Return the landmarks of the photo resized by a factor."""
        points = (self.points + 0.5) * np.float32(factor) - np.float32(0.5)  # pixel i covers i - 0.5 to i + 0.5
        return replace(self, points=points)

    @property
    def pupil_distance(self) -> float:
        """Distance between the pupils in pixels, the unit of length of the skin geometry."""
        left, right = self.points[list(PUPILS)]
        return float(np.hypot(*(right - left)))


def read_template(path: str | Path) -> Template:
    """Read a `.tem` file.

    Raises:
        ValueError: If it is malformed; the message names the file and the line.
        OSError: If it cannot be read.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file, so not a .tem template") from error
    reader = _Lines(path, lines)
    count = reader.integers("the number of points", 1)[0]
    if count < 2:
        raise ValueError(f"{path}: line 1 says {count} points; a template has at least two")
    points = np.array([reader.numbers("x and y", 2) for _ in range(count)], dtype=np.float32)
    polylines = []
    for _ in range(reader.integers("the number of polylines", 1)[0]):
        reader.integers("a closed flag", 1)
        length = reader.integers("a number of points", 1)[0]
        indices = reader.integers("point indices", length)
        if any(not 0 <= i < count for i in indices):
            raise ValueError(f"{path}: line {reader.number} names a point outside 0 … {count - 1}")
        polylines.append(tuple(indices))
    return Template(points, tuple(polylines))


class _Lines:
    """Reader of a file's numbers line by line."""

    def __init__(self, path: Path, lines: Sequence[str]) -> None:
        self.path, self.lines, self.number = path, lines, 0

    def numbers(self, what: str, count: int) -> list[float]:
        if self.number >= len(self.lines):
            raise ValueError(f"{self.path}: ends after line {self.number}, where {what} should follow")
        words = self.lines[self.number].split()
        self.number += 1
        try:
            values = [float(word) for word in words]
        except ValueError:
            values = []
        if len(values) != count or not np.isfinite(values).all():
            raise ValueError(
                f"{self.path}: line {self.number} should hold {what} ({count} of them), not {' '.join(words)[:60]!r}"
            )
        return values

    def integers(self, what: str, count: int) -> list[int]:
        values = self.numbers(what, count)
        if any(value != int(value) for value in values):
            raise ValueError(f"{self.path}: line {self.number} should hold {what} as whole numbers")
        return [int(value) for value in values]
