import numpy as np
import pytest
import pyvips
from bpfre.demo import main
from retouch_common.inference.demo import VIEW, compare

pytest.importorskip("skimage")


def test_images_maps_table_and_the_papers_side_by_side(tmp_path, busy_model, capsys):
    for paper in ("bpfre", "other"):
        main(str(tmp_path / paper), weights=busy_model())
    names = ["as_she_is", "with_drawn_blemishes"]
    endings = ["", ".attention-coarse", ".attention-refined"]
    expected = sorted(["astronaut.png", *(f"{name}{ending}.png" for name in names for ending in endings)])
    assert sorted(path.name for path in (tmp_path / "bpfre").iterdir()) == expected
    printed = capsys.readouterr().out
    assert "1 face, because the face box was given" in printed
    rows = [line.split() for line in printed.splitlines() if line.startswith(" with drawn blemishes")]
    assert [row[3] for row in rows] == ["identity", "bpfre"] * 2
    sheet = pyvips.Image.new_from_file(str(tmp_path / "bpfre" / "astronaut.png"))
    assert sheet.width == 6 * 640 + 5 * 4

    compare(tmp_path, ["bpfre", "other"])
    sheet = pyvips.Image.new_from_file(str(tmp_path / "astronaut.png"))
    assert sheet.width == 4 * 640 + 3 * 4
    shown = sheet.numpy()[22:662, 644:1284]
    result = pyvips.Image.new_from_file(str(tmp_path / "bpfre" / "as_she_is.png")).numpy()
    np.testing.assert_array_equal(shown[::4, ::4], result[VIEW])
    assert "other" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"python -m third\.demo"):
        compare(tmp_path, ["bpfre", "third"])


def test_weights_that_are_not_there_are_an_error():
    with pytest.raises(ValueError, match="nothing-like-this"):
        main(weights="nothing-like-this")
