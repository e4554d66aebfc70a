"""Find faces with a parser, where a face detector's weights are not available.

The parser is fully convolutional and sees a photo at several scales. Where a left eye, a right eye and a mouth are
arranged as in a face, the face is aligned and parsed once more, which decides whether it is one and locates its parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from retouch_common.faces.alignment import PORTRAIT_EYES, PORTRAIT_TEMPLATE, align, fit_portrait
from retouch_common.faces.boxes import nms
from retouch_common.faces.face import Face
from retouch_common.parsing.labels import CLASSES
from retouch_common.parsing.parser import FaceParser

FINDING_SIDE = 1280  # photos are downsampled to this longer side, so that faces of 1/20 of it are found
_STEP = 2**0.5  # ratio of successive scales
_SMALLEST = 96  # longer side at the smallest scale
_PEAKS = 24  # eyes and mouths considered at every scale
_CHECKED = 24  # candidates that are parsed once more
_EYES = [CLASSES.index(name) for name in ("eye_left", "eye_right")]
_LIPS = [CLASSES.index(name) for name in ("upper_lip", "mouth", "lower_lip")]
_AREAS = {"eye_left": 0.0022, "eye_right": 0.0022, "nose": 0.016, "mouth": 0.009}  # shares of the square, small faces'
# Largest distances of a part's pixels from its median, across and down, as shares of the square.
_REACH = {"eye_left": (0.08, 0.05), "eye_right": (0.08, 0.05), "nose": (0.12, 0.16), "mouth": (0.18, 0.1)}
_BOX, _DROP = (2.07, 2.81), 0.33  # size of a detector's box and its centre below the eyes, in eye distances


@dataclass(frozen=True)
class _Candidate:
    """Two eyes and a mouth, x and y in pixels of the photo."""

    eyes: np.ndarray
    mouth: np.ndarray
    score: float


def find_faces(image: np.ndarray, parser: FaceParser, *, score_threshold: float = 0.6) -> list[Face]:
    """Find the faces of a photo (H, W, 3) uint8, largest first, as :mod:`retouch_common.faces.detection` does."""
    candidates = sorted(_candidates(image, parser), key=lambda candidate: -candidate.score)
    faces: list[Face] = []
    checked = 0
    for candidate in candidates:
        if checked == _CHECKED:
            break
        middle, unit = candidate.eyes.mean(axis=0), float(np.hypot(*(candidate.eyes[1] - candidate.eyes[0])))
        if any(_holds(face, middle, unit) for face in faces):
            continue
        checked += 1
        face = _checked(image, parser, candidate)
        if face is not None and face.score >= score_threshold:
            faces.append(face)
    return sorted(_without_duplicates(faces), key=lambda face: -face.size)


def find_landmarks(likely: np.ndarray) -> np.ndarray | None:
    """Return the five landmarks of an aligned face, (5, 2) x, y as shares of the square, in the order of ``Face``.

    ``likely`` is (11, S, S) from :meth:`FaceParser.probabilities`. Returns None if a part is missing or misplaced.
    """
    parts = _parts(likely)
    return None if parts is None else parts[0]


@torch.inference_mode()
def _candidates(image: np.ndarray, parser: FaceParser) -> list[_Candidate]:
    level = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].to(parser.device).float() / 255
    longer = max(image.shape[:2])
    scale = min(1.0, FINDING_SIDE / longer)
    found: list[_Candidate] = []
    while True:
        size = [max(8, round(side * scale)) for side in image.shape[:2]]
        if size != list(level.shape[2:]):
            level = F.interpolate(level, size, mode="bilinear", antialias=True)
        found += _detect_at_scale(level, parser, (image.shape[1] / size[1], image.shape[0] / size[0]))
        if longer * scale <= _SMALLEST:
            return found
        scale /= _STEP


def _detect_at_scale(level: torch.Tensor, parser: FaceParser, scale: tuple[float, float]) -> list[_Candidate]:
    """Return the candidates at one scale; ``scale`` is the photo's (x, y) over those of the level."""
    edge = 32  # so that faces cut by the photo's border are found
    padded = F.pad(level, (edge, edge, edge, edge), mode="replicate" if min(level.shape[2:]) <= edge else "reflect")
    with torch.autocast(parser.device.type, parser.dtype, enabled=parser.dtype != torch.float32):
        logits = parser.model(padded)
    likely = logits.float().softmax(1)[..., edge:-edge, edge:-edge]
    left, right = (_peaks(likely[:, [eye]], (9, 21)) for eye in _EYES)
    mouths = _peaks(likely[:, _LIPS].sum(1, keepdim=True), (17, 41))
    found = []
    for eye_left, score_left in left:
        for eye_right, score_right in right:
            across = eye_right - eye_left
            unit = float(np.hypot(*across))
            if not 18 <= unit <= 140 or across[0] < 0.7 * unit:
                continue
            down = np.array([-across[1], across[0]])
            for mouth, score_mouth in mouths:
                offset = mouth - (eye_left + eye_right) / 2
                below, aside = offset @ down / unit**2, offset @ across / unit**2
                if not 0.65 < below < 1.6 or abs(aside) > 0.4:
                    continue
                trained = PORTRAIT_EYES * parser.size
                usual = float(np.exp(-0.5 * (np.log2(unit / trained) / 0.8) ** 2))
                score = usual * (score_left * score_right * score_mouth) ** (1 / 3) * (1 - abs(aside))
                eyes = np.stack([eye_left, eye_right]) * scale
                found.append(_Candidate(eyes, mouth * scale, score))
    return found


def _peaks(plane: torch.Tensor, size: tuple[int, int]) -> list[tuple[np.ndarray, float]]:
    """Return the likely places of a part, (x, y) in pixels of the level, with their probabilities, at most ``_PEAKS``.

    Args:
        plane: (1, 1, h, w) in [0, 1].
        size: Height and width of the part; both odd.
    """
    half = (size[0] // 2, size[1] // 2)
    dense = F.avg_pool2d(plane, size, 1, half, count_include_pad=False)
    highest = F.max_pool2d(dense, size, 1, half)
    rows, columns = torch.nonzero((dense == highest)[0, 0] & (dense[0, 0] > 0.08), as_tuple=True)
    order = dense[0, 0, rows, columns].argsort(descending=True)[: 20 * _PEAKS]
    field = plane[0, 0].cpu().numpy()
    found: list[tuple[np.ndarray, float]] = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if len(found) == _PEAKS:
            break
        top, left = max(0, row - size[0]), max(0, column - half[1])
        window = field[top : row + size[0] + 1, left : column + half[1] + 1]
        weights = np.where(window > 0.3, window, 0)
        if not weights.any():
            continue
        y, x = np.mgrid[: window.shape[0], : window.shape[1]]
        centre = np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum() + (left + 0.5, top + 0.5)
        if all(np.abs(centre - other).max() > 0.25 * size[1] for other, _ in found):  # a plateau has many peaks
            found.append((centre, float(weights.max())))
    return found


def _checked(image: np.ndarray, parser: FaceParser, candidate: _Candidate) -> Face | None:
    """Align a candidate, parse it, and locate its parts; twice, since the first alignment is rough."""
    eyes, mouth = candidate.eyes, candidate.mouth
    for _ in range(2):
        try:
            square = fit_portrait(eyes, mouth)
            likely = parser.probabilities(align(image, square, parser.size))
        except ValueError:  # one point, or outside the photo
            return None
        parts = _parts(likely)
        if parts is None:
            return None
        landmarks, middle, score = parts
        shares = np.vstack([landmarks, middle])
        points = np.stack(square.to_photo(shares[:, 0], shares[:, 1]), axis=1)
        eyes, mouth = points[:2], points[5]
    unit = float(np.hypot(*(eyes[1] - eyes[0])))
    across = (eyes[1] - eyes[0]) / unit
    centre = eyes.mean(axis=0) + _DROP * unit * np.array([-across[1], across[0]])
    width, height = (side * unit for side in _BOX)
    box = (float(centre[0] - width / 2), float(centre[1] - height / 2), width, height)
    return Face(box, score, points[:5].astype(np.float32))


def _parts(likely: np.ndarray) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Locate the parts in (11, S, S) probabilities; None if one is missing or not where a face has it.

    Returns:
        The five landmarks (5, 2) and the middle of the mouth (2,), x, y as shares of the square, and a score in [0, 1].
    """
    size = likely.shape[1]
    best = likely.argmax(axis=0)
    found, scores = {}, []
    for name, area in _AREAS.items():
        classes = _LIPS if name == "mouth" else [CLASSES.index(name)]
        rows, columns = np.nonzero(np.isin(best, classes))
        if len(rows) < 0.15 * area * size**2:
            return None
        sure = float(likely[classes].sum(axis=0)[rows, columns].mean())
        scores.append(sure * min(1.0, len(rows) / (area * size**2)))
        points = (np.stack([columns, rows], axis=1) + 0.5) / size
        points = points[(np.abs(points - np.median(points, axis=0)) < _REACH[name]).all(axis=1)]  # without outliers
        if not len(points):
            return None
        found[name] = points
    eyes = np.stack([_middle(found["eye_left"]), _middle(found["eye_right"])])
    mouth = _middle(found["mouth"])
    away = float(np.abs(np.vstack([eyes, mouth]) - PORTRAIT_TEMPLATE).max())
    unit = (np.arange(size) + 0.5) / size
    oval = ((unit[None] - 0.5) / 0.17) ** 2 + ((unit[:, None] - 0.54) / 0.22) ** 2 < 1
    covered = float(((best > 0) & (best < CLASSES.index("hair")))[oval].mean())
    if away > 0.12 or not covered:
        return None
    x, nose = found["mouth"][:, 0], found["nose"]
    tip = np.array([nose[:, 0].mean(), np.quantile(nose[:, 1], 0.8)])
    corners = [found["mouth"][edge].mean(0) for edge in (x <= np.quantile(x, 0.01), x >= np.quantile(x, 0.99))]
    score = float(np.prod([*scores, covered]) ** (1 / (len(scores) + 1)))
    return np.vstack([eyes, tip, *corners]), mouth, score


def _middle(points: np.ndarray) -> np.ndarray:
    return np.quantile(points, (0.03, 0.97), axis=0).mean(axis=0)


def _holds(face: Face, middle: np.ndarray, unit: float) -> bool:
    """Return whether the eyes of a candidate are those of a face that was found."""
    eyes = face.landmarks[:2].astype(np.float64)
    own = float(np.hypot(*(eyes[1] - eyes[0])))
    return bool(np.hypot(*(eyes.mean(axis=0) - middle)) < 0.5 * own and 0.6 < unit / own < 1.6)


def _without_duplicates(faces: list[Face]) -> list[Face]:
    boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in (face.box for face in faces)]).reshape(-1, 4)
    kept = nms(boxes, torch.tensor([face.score for face in faces]), 0.3)
    return [faces[index] for index in kept.tolist()]
