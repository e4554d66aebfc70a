from pathlib import Path

import numpy as np
import pytest
from retouch_common.faces.webmorph import LINES, Template, read_template


def write(path: Path, points: int = 4, lines: tuple[tuple[int, tuple[int, ...]], ...] = ((0, (0, 1)),)) -> Path:
    rows = [str(points)] + [f"{10.5 * i}\t{3.25 * i}" for i in range(points)] + [str(len(lines))]
    for closed, indices in lines:
        rows += [str(closed), str(len(indices)), " ".join(map(str, indices))]
    path.write_text("\n".join(rows) + "\n")
    return path


def test_points_and_polylines_are_read(tmp_path: Path) -> None:
    template = read_template(write(tmp_path / "a.tem", lines=((0, (0, 1)), (1, (3, 2, 1, 3)))))
    np.testing.assert_allclose(template.points[2], (21.0, 6.5))
    assert template.polylines == ((0, 1), (3, 2, 1, 3))
    np.testing.assert_allclose(template.polyline(1)[1], (21.0, 6.5))
    assert template.pupil_distance == pytest.approx(np.hypot(10.5, 3.25))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ends after line 0"),
        ("three\n", "line 1 should hold the number of points"),
        ("2\n1 2\n", "ends after line 2"),
        ("2\n1 2\n3\n", "line 3 should hold x and y"),
        ("2\n1 2\n3 nan\n0\n", "line 3 should hold x and y"),
        ("1\n1 2\n0\n", "at least two"),
        ("2\n1 2\n3 4\n1\n0\n2\n0 7\n", "outside 0 … 1"),
        ("2\n1 2\n3 4\n1\n0\n3\n0 1\n", "line 7 should hold point indices"),
        ("2\n1 2\n3 4\n1\n0\n2\n0 0.5\n", "whole numbers"),
    ],
)
def test_malformed_templates_are_named_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.tem"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_template(path)
    assert str(path) in str(error.value)


def test_binary_files_are_no_templates(tmp_path: Path) -> None:
    path = tmp_path / "photo.tem"
    path.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    with pytest.raises(ValueError, match="not a text file"):
        read_template(path)


def test_outlines_join_polylines_end_to_end() -> None:
    points = np.array([[0, 0], [4, 0], [4, 3], [0, 3]], dtype=np.float32)
    polylines = [(0, 1)] * 44
    upper, lower = LINES["eye_left"]
    polylines[upper], polylines[lower] = (0, 1, 2), (0, 3, 2)
    outline = Template(points, tuple(polylines)).outline("eye_left")
    np.testing.assert_array_equal(outline, points[[0, 1, 2, 2, 3, 0]])


def test_other_templates_are_refused_for_outlines() -> None:
    template = Template(np.zeros((2, 2), dtype=np.float32), ((0, 1),))
    with pytest.raises(ValueError, match="189-point"):
        template.outline("lips")
