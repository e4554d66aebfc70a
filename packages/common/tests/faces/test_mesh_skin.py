"""Where blemishes are drawn and looked for on drawn faces with a mesh, at several poses and tones."""

from __future__ import annotations

import numpy as np
import pytest
from retouch_common.faces import mesh
from retouch_common.photo.filters import dilate, fill_polygon, gaussian_blur
from retouch_common.synthesis.preparation import PreparedFace, prepare_face

HEIGHT, WIDTH = 420, 400
LIGHT, DARK = (0.8, 0.62, 0.54), (0.3, 0.2, 0.15)
SOCKETS = (
    (70, 63, 105, 66, 107, 133, 155, 154, 153, 145, 144, 163, 7, 33),
    (300, 293, 334, 296, 336, 362, 382, 381, 380, 374, 373, 390, 249, 263),
)


def ring(
    indices: tuple[int, ...], x: float, y: float, rx: float, ry: float, start: float = 0.0
) -> dict[int, list[float]]:
    """Points of an ellipse in a face from -1 to 1 across and -1.3 to 1.3 down, clockwise from an angle in degrees."""
    angle = np.deg2rad(start + np.linspace(0.0, 360.0, len(indices), endpoint=False))
    return {i: [x + rx * np.cos(a), y + ry * np.sin(a)] for i, a in zip(indices, angle, strict=True)}


def face_mesh(yaw: float) -> np.ndarray:
    """(468, 2) points of an ellipsoid turned by `yaw` degrees; what has no part of its own lies on the nose."""
    flat = {index: [0.0, 0.25] for index in range(mesh.NUM_POINTS)}
    flat |= ring(mesh.OVAL, 0.0, 0.0, 1.0, 1.3, -90.0)
    for side, eye, brow, nostril in zip((-1.0, 1.0), mesh.EYES, mesh.BROWS, mesh.NOSTRILS, strict=True):
        flat |= ring(brow, 0.42 * side, -0.5, 0.26, 0.06, 180.0)
        flat |= ring(eye, 0.42 * side, -0.25, 0.17, 0.07, 180.0)
        flat |= ring(nostril, 0.11 * side, 0.32, 0.08, 0.05)
    flat |= ring(mesh.OUTER_LIPS, 0.0, 0.65, 0.34, 0.12, 180.0) | {2: [0.0, 0.38], mesh.NOSE_TIP: [0.0, 0.25]}
    points = np.array([flat[i] for i in range(mesh.NUM_POINTS)])
    depth = np.sqrt(np.maximum(1.0 - points[:, 0] ** 2 - (points[:, 1] / 1.3) ** 2, 0.0))
    turn = np.deg2rad(yaw)
    x = points[:, 0] * np.cos(turn) + depth * np.sin(turn)
    return np.stack([WIDTH / 2 + 110.0 * x, 210.0 + 110.0 * points[:, 1]], 1).astype(np.float32)


def part(points: np.ndarray, *outlines: tuple[int, ...]) -> np.ndarray:
    return np.maximum.reduce([fill_polygon(points[list(outline)], HEIGHT, WIDTH) for outline in outlines])


def portrait(points: np.ndarray, tone: tuple[float, float, float]) -> np.ndarray:
    """(H, W, 3) in [0, 1]: a face of one tone with dark eyes, brows and nostrils before a blue wall, with noise."""
    image = np.full((HEIGHT, WIDTH, 3), (0.3, 0.4, 0.6), dtype=np.float32)
    colour = np.array(tone, dtype=np.float32)
    for mask, value in (
        (part(points, mesh.OVAL), colour),
        (part(points, *mesh.EYES, *mesh.BROWS, *mesh.NOSTRILS), 0.3 * colour),
        (part(points, mesh.OUTER_LIPS), colour * np.array([0.9, 0.5, 0.5], dtype=np.float32)),
    ):
        image += gaussian_blur(mask, 0.8)[..., None] * (value - image)
    return image + np.random.default_rng(0).normal(0.0, 0.008, image.shape).astype(np.float32)


def cheeks(points: np.ndarray) -> np.ndarray:
    """Between the eyes' outer corners, nose and mouth, on the side that is nearer."""
    features = part(points, *mesh.EYES, *mesh.BROWS, *mesh.NOSTRILS, mesh.OUTER_LIPS)
    below = np.zeros((HEIGHT, WIDTH), dtype=np.float32)
    below[205:240] = 1.0
    return dilate(part(points, mesh.OVAL), -25) * (1.0 - dilate(features, 14)) * below > 0


def prepare(image: np.ndarray, points: np.ndarray) -> PreparedFace:
    face = prepare_face((np.clip(image, 0.0, 1.0) * 255.0).round().astype(np.uint8), points)
    assert face is not None
    return face


def skin_of(face: PreparedFace) -> np.ndarray:
    return face.maps[..., 0].repeat(2, 0).repeat(2, 1) / 255.0


@pytest.mark.parametrize("yaw", [-35.0, 0.0, 35.0])
@pytest.mark.parametrize("tone", [LIGHT, DARK])
def test_features_are_left_out_at_every_pose(yaw: float, tone: tuple[float, float, float]) -> None:
    points = face_mesh(yaw)
    image = portrait(points, tone)
    cheek = cheeks(points)
    y, x = (int(v) for v in np.argwhere(cheek).mean(0))
    y, x = np.argwhere(cheek)[np.abs(np.argwhere(cheek) - (y, x - 40)).sum(1).argmin()]
    image[y - 2 : y + 3, x - 2 : x + 3] *= np.array([0.98, 0.86, 0.86], dtype=np.float32)
    face = prepare(image, points)
    skin = skin_of(face)
    for name, mask in (
        ("eyes", part(points, *mesh.EYES)),
        ("brows", part(points, *mesh.BROWS)),
        ("lips", part(points, mesh.OUTER_LIPS)),
        ("nostrils", part(points, *mesh.NOSTRILS)),
        ("wall", 1.0 - dilate(part(points, mesh.OVAL), 6)),
    ):
        assert skin[mask > 0].mean() < 0.01, name
        np.testing.assert_array_equal(face.image[mask > 0], face.natural[mask > 0])
    assert skin[cheek].mean() > 0.7
    spot = (slice(y - 1, y + 2), slice(x - 1, x + 2), 1)
    assert face.image[spot].mean() - face.natural[spot].mean() > 0.05 * 255 * tone[1]


def test_rims_and_strands_are_no_skin() -> None:
    points = face_mesh(0.0)
    image = portrait(points, LIGHT)
    sockets = part(points, *SOCKETS)
    rims = dilate(sockets, 16) - dilate(sockets, 12)
    strand = np.zeros((HEIGHT, WIDTH), dtype=np.float32)
    strand[100:150, 225:228] = 1.0
    lines = np.maximum(rims, strand)
    image[lines > 0] = 0.1
    skin = skin_of(prepare(image, points))
    assert skin[lines > 0].mean() < 0.02
    assert (
        skin[300:320, 150:250].mean() > 0.3
        and skin_of(prepare(portrait(points, LIGHT), points))[lines > 0].mean() > 0.3
    )


def test_beards_are_neither_drawn_on_nor_cleaned() -> None:
    points = face_mesh(0.0)
    image = portrait(points, LIGHT)
    beard = part(points, mesh.OVAL).copy()
    beard[:260] = 0.0
    grain = np.random.default_rng(1).random(beard.shape) < 0.3
    image[(gaussian_blur(grain.astype(np.float32), 0.6) > 0.3) & (beard > 0)] *= 0.5
    face = prepare(image, points)
    below = dilate(beard, -8) > 0
    assert skin_of(face)[below].mean() < 0.03
    np.testing.assert_array_equal(face.image[below], face.natural[below])
    assert skin_of(face)[cheeks(points)].mean() > 0.5


def test_drawings_and_masked_faces_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    points = face_mesh(0.0)
    image = portrait(points, LIGHT)
    flat = np.round(image * 8.0) / 8.0
    flat[part(points, mesh.OVAL) > 0] = LIGHT
    assert prepare_face((np.clip(flat, 0, 1) * 255).astype(np.uint8), points) is None
    assert "a drawing perhaps" in caplog.text
    masked = image.copy()
    masked[150:] = np.random.default_rng(0).normal((0.5, 0.6, 0.75), 0.01, masked[150:].shape)
    assert prepare_face((np.clip(masked, 0, 1) * 255).astype(np.uint8), points) is None
