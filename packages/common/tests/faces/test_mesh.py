from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from retouch_common.faces import mesh
from retouch_common.faces.mesh import landmarks_from_mesh, read_mesh_file, write_mesh_file


def drawn_mesh(centre: tuple[float, float] = (100.0, 120.0), unit: float = 50.0) -> np.ndarray:
    """A frontal face of simple outlines: what lies where, not how it looks."""
    points = np.tile(np.array(centre, np.float32), (mesh.NUM_POINTS, 1))

    def ellipse(indices: tuple[int, ...], x: float, y: float, rx: float, ry: float, start: float) -> None:
        turn = np.radians(start) + np.linspace(0.0, 2.0 * np.pi, len(indices), endpoint=False)
        ring = np.stack([x + rx * np.cos(turn), y + ry * np.sin(turn)], axis=1)
        points[list(indices)] = np.array(centre) + unit * ring

    ellipse(mesh.OVAL, 0.0, 0.5, 1.1, 1.5, -90.0)
    for side, x in enumerate((-0.5, 0.5)):
        ellipse(mesh.EYES[side], x, 0.0, 0.22, 0.09, 180.0 if side == 0 else 0.0)
        ellipse(mesh.BROWS[side], x, -0.35, 0.3, 0.05, 180.0)
        ellipse(mesh.NOSTRILS[side], 0.35 * x, 0.65, 0.08, 0.04, 0.0)
    ellipse(mesh.OUTER_LIPS, 0.0, 1.1, 0.4, 0.15, 180.0)
    points[mesh.NOSE_TIP] = np.array(centre) + unit * np.array([0.0, 0.55])
    return points.astype(np.float32)


def test_parts_lie_where_the_mesh_has_them() -> None:
    face = landmarks_from_mesh(drawn_mesh())
    np.testing.assert_allclose(face.eye_centres, [(75, 120), (125, 120)], atol=0.01)
    assert face.unit == pytest.approx(50.0, abs=0.01)
    np.testing.assert_allclose(face.eye_widths, 22.0, atol=0.01)
    np.testing.assert_allclose(face.mouth, [(80, 175), (120, 175)], atol=0.01)
    np.testing.assert_allclose(face.nose[-1], (100, 147.5), atol=0.01)
    np.testing.assert_allclose(face.five_points[:, 0], [75, 125, 100, 80, 120], atol=0.01)
    # from the left ear along the chin to the right ear
    assert face.jaw[0, 0] < 60 and face.jaw[-1, 0] > 140
    assert face.jaw[:, 1].max() == pytest.approx(120 + 50 * 2.0, abs=0.1)
    assert face.outline[:, 1].min() == pytest.approx(120 - 50 * 1.0, abs=0.1)


def test_no_part_has_a_point_twice_and_all_are_points_of_the_mesh() -> None:
    parts = (mesh.OVAL, *mesh.EYES, *mesh.BROWS, mesh.OUTER_LIPS, mesh.INNER_LIPS, mesh.NOSE, *mesh.NOSTRILS)
    for part in parts:
        assert len(set(part)) == len(part) and min(part) >= 0 and max(part) < mesh.NUM_POINTS
    assert len(mesh.OVAL) == 36 and len(mesh.OUTER_LIPS) == len(mesh.INNER_LIPS) == 20
    assert not set(mesh.EYES[0]) & set(mesh.EYES[1]) and not set(mesh.BROWS[0]) & set(mesh.BROWS[1])


def test_other_numbers_of_points_are_refused() -> None:
    with pytest.raises(ValueError, match=r"468 landmarks as an array \(468, 2\), got \(478, 2\)"):
        landmarks_from_mesh(np.zeros((478, 2)))


def test_files_are_read_as_written(tmp_path: Path) -> None:
    meshes = {"b.jpg": drawn_mesh(), "ä.jpg": drawn_mesh((90.0, 80.0))}
    write_mesh_file(tmp_path / "landmarks.npz", meshes)
    again = read_mesh_file(tmp_path / "landmarks.npz")
    assert sorted(again) == ["b.jpg", "ä.jpg"]
    for name, points in meshes.items():
        np.testing.assert_array_equal(again[name], points)
    write_mesh_file(tmp_path / "landmarks.npz", {})
    assert read_mesh_file(tmp_path / "landmarks.npz") == {}


def test_files_of_another_kind_are_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "landmarks.npz"
    file.write_bytes(b"not a zip archive")
    with pytest.raises(ValueError, match=r"landmarks\.npz: not a file of landmarks"):
        read_mesh_file(file)
    np.savez(file, names=np.array(["a.jpg"]), points=np.zeros((1, 68, 2), np.float32))
    with pytest.raises(ValueError, match=r"landmarks\.npz: must hold names \(N\) and points \(N, 468, 2\)"):
        read_mesh_file(file)
    np.savez(file, names=np.array(["a.jpg"]), points=np.full((1, 468, 2), np.nan, np.float32))
    with pytest.raises(ValueError, match="not finite"):
        read_mesh_file(file)
    np.savez(file, names=np.array([{}], dtype=object), points=np.zeros((1, 468, 2)))
    with pytest.raises(ValueError, match="not a file of landmarks"):
        read_mesh_file(file)
