"""Photograph files through the command and ``Retoucher.retouch_file``, with a tiny untrained network."""

import shutil
import tracemalloc

import numpy as np
import pytest
import pyvips
from bpfre.cli import retouch
from bpfre.retouch import Retoucher
from pyarrow import parquet
from retouch_common.faces.alignment import face_square
from retouch_common.faces.face import Face
from retouch_common.faces.registry import DetectorUnavailable
from retouch_common.inference import regions
from retouch_common.photo import sources
from retouch_common.testing.imports import check_imports
from retouch_common.testing.photos import make_photo, read_pixels, run_command

BOX = ["--face-box", "110,80,60,80"]
UNKNOWN = np.full((5, 2), np.nan, np.float32)


@pytest.fixture(autouse=True)
def no_detector(monkeypatch):
    """Faces are where a test says; by default nowhere."""
    monkeypatch.setattr(regions, "detect_faces", lambda image: [])


def found(monkeypatch, *boxes):
    monkeypatch.setattr(regions, "detect_faces", lambda image: [Face(box, 0.9, UNKNOWN) for box in boxes])


def run(*arguments):
    return run_command(retouch, *arguments)


def test_a_file_equals_the_array(tmp_path, retoucher):
    path = make_photo(tmp_path / "a.tif", size=(700, 500), dtype=np.uint16)
    boxes = [(110.0, 80.0, 60.0, 80.0), (250.0, 300.0, 150.0, 200.0)]
    plan = retoucher.retouch_file(path, tmp_path / "out.tif", face_boxes=boxes, strength=0.7)
    expected = retoucher(read_pixels(path), faces=[Face(box, 1.0, UNKNOWN) for box in boxes], strength=0.7)
    assert (expected != read_pixels(path)).any()
    np.testing.assert_array_equal(read_pixels(tmp_path / "out.tif"), expected)
    assert str(plan) == "2 faces, because the face box was given"


def test_photo_without_a_change_is_copied(tmp_path, retoucher):
    path, out = make_photo(tmp_path / "a.jpg", Q=70), tmp_path / "out.jpg"
    retoucher.retouch_file(path, out, face_boxes=[(110, 80, 60, 80)], strength=0)
    assert out.read_bytes() == path.read_bytes()
    white = np.full((260, 340, 3), 255, np.uint8)
    pyvips.Image.new_from_array(white).write_to_file(str(tmp_path / "white.png"))
    protect = tmp_path / "white.png"
    retoucher.retouch_file(path, out, face_boxes=[(110, 80, 60, 80)], protect=protect, confine=False, overwrite=True)
    assert out.read_bytes() == path.read_bytes()


def test_retouching_does_not_load_what_is_slow_to_import(tmp_path):
    photo = make_photo(tmp_path / "a.png", size=(96, 96))
    check_imports("bpfre.cli", ["retouch", str(photo), "-o", str(tmp_path / "b.png"), "--face-box", "20,20,40,40"])


@pytest.mark.parametrize(
    ("suffix", "bands", "dtype"), [(".png", 3, np.uint8), (".tif", 4, np.uint16), (".png", 2, np.uint8)]
)
def test_pixels_and_channels_outside_the_faces_keep_their_bits(tmp_path, retoucher, suffix, bands, dtype):
    path = make_photo(tmp_path / f"a{suffix}", bands=bands, dtype=dtype)
    out = tmp_path / f"out{suffix}"
    plan = retoucher.retouch_file(path, out, face_boxes=[(60, 60, 50, 60), (110, 70, 50, 60)])
    before, after = read_pixels(path), read_pixels(out)
    assert after.dtype == dtype and after.shape == before.shape
    inside = np.zeros(before.shape[:2], bool)
    for square in plan.squares:
        x, y, w, h = square.bounds(*before.shape[:2])
        inside[y : y + h, x : x + w] = True
    np.testing.assert_array_equal(after[~inside], before[~inside])
    colours = bands - 1 + bands % 2
    np.testing.assert_array_equal(after[..., colours:], before[..., colours:])
    assert (after != before).any(axis=2)[inside].mean() > 0.2


def test_metadata_is_carried(tmp_path, retoucher):
    path = make_photo(tmp_path / "a.jpg", Q=95)
    image = pyvips.Image.new_from_file(str(path)).copy()
    image.set_type(pyvips.GValue.gstr_type, "exif-ifd0-Artist", "Somebody")
    image.set_type(pyvips.GValue.gint_type, "orientation", 6)
    image.write_to_file(str(tmp_path / "b.jpg"), Q=95)
    retoucher.retouch_file(tmp_path / "b.jpg", tmp_path / "out.jpg", face_boxes=[(60, 60, 50, 60)])
    out = pyvips.Image.new_from_file(str(tmp_path / "out.jpg"))
    assert (out.width, out.height) == (260, 340) and "Somebody" in out.get("exif-ifd0-Artist")


def test_the_detectors_faces_and_landmarks_are_used(tmp_path, retoucher, weights, monkeypatch):
    path = make_photo(tmp_path / "a.png", size=(600, 800))
    monkeypatch.setattr(regions, "DETECTION_SIDE", 400)
    square = face_square(Face((80.0, 60.0, 53.0, 72.0), 1.0, UNKNOWN), 300, 400)
    points = np.stack(
        square.to_photo(*np.array([[0.38, 0.47], [0.62, 0.47], [0.5, 0.6], [0.4, 0.72], [0.6, 0.72]]).T), 1
    )
    monkeypatch.setattr(
        regions, "detect_faces", lambda image: [Face((80.0, 60.0, 53.0, 72.0), 0.9, points.astype(np.float32))]
    )
    plan = retoucher.retouch_file(path, tmp_path / "out.png")
    assert str(plan) == "1 face found"
    assert plan.squares[0].centre == pytest.approx((2 * square.centre[0], 2 * square.centre[1]), abs=5)
    assert plan.squares[0].side == pytest.approx(200, rel=0.06)
    found(monkeypatch, (80, 60, 50, 60), (180, 60, 50, 60))
    assert "2 faces found" in run(path, "-o", tmp_path / "o", "--weights", weights).output


def test_a_photo_without_a_face_is_an_error_that_says_what_to_do(tmp_path, weights, monkeypatch):
    path = make_photo(tmp_path / "a.jpg")
    result = run(path, "-o", tmp_path / "o", "--weights", weights)
    assert result.exit_code == 1 and result.output.count("\n") == 1
    assert result.output.startswith(f"Error: {path}: no face was found; give a face box")

    def unavailable(image):
        raise DetectorUnavailable("the face detector's weights could not be downloaded; put FILE into FOLDER")

    monkeypatch.setattr(regions, "detect_faces", unavailable)
    result = run(path, "-o", tmp_path / "o", "--weights", weights)
    assert result.exit_code == 1 and "put FILE into FOLDER; or give a face box" in result.output


def test_aligned_photos(tmp_path, retoucher, weights):
    path = make_photo(tmp_path / "a.png", size=(150, 150))
    assert run(path, "-o", tmp_path / "o", "--weights", weights, "--precision", "fp32", "--aligned").exit_code == 0
    np.testing.assert_array_equal(read_pixels(tmp_path / "o" / "a.png"), retoucher(read_pixels(path), aligned=True))
    result = run(make_photo(tmp_path / "b.png"), "-o", tmp_path / "o", "--weights", weights, "--aligned")
    assert result.exit_code == 1 and "b.png: an aligned face is a square image, not one of 340x260" in result.output


def test_stages_differ(tmp_path, weights):
    path = make_photo(tmp_path / "a.png")
    for stage in ("coarse", "refined"):
        run(path, "-o", tmp_path / stage, "--weights", weights, "--stage", stage, *BOX)
        assert (b"stage=coarse" in (tmp_path / stage / "a.png").read_bytes()) == (stage == "coarse")
    assert (read_pixels(tmp_path / "coarse" / "a.png") != read_pixels(tmp_path / "refined" / "a.png")).any()


def test_what_a_mask_protects_keeps_its_bits(tmp_path, weights):
    path = make_photo(tmp_path / "in" / "a.png", dtype=np.uint16)
    levels = np.zeros((260, 340), np.uint8)
    levels[:, 140:] = 255
    (tmp_path / "masks").mkdir()
    mask = tmp_path / "masks" / "a.jpg"
    pyvips.Image.new_from_array(levels).copy(interpretation="b-w").write_to_file(str(mask), Q=100)
    run(path, "-o", tmp_path / "free", "--weights", weights, *BOX)
    free, before = read_pixels(tmp_path / "free" / "a.png"), read_pixels(path)
    for number, given in enumerate((mask, tmp_path / "masks")):
        out = tmp_path / f"o{number}"
        assert run(path, "-o", out, "--weights", weights, "--protect", given, *BOX).exit_code == 0
        after = read_pixels(out / "a.png")
        np.testing.assert_array_equal(after[:, 140:], before[:, 140:])
        np.testing.assert_array_equal(after[:, :140], free[:, :140])
        assert (free[:, 140:] != before[:, 140:]).any()


def test_unusable_masks_are_refused(tmp_path, weights):
    path, small = make_photo(tmp_path / "a.png"), make_photo(tmp_path / "small.png", size=(64, 64), bands=1)
    (tmp_path / "masks").mkdir()
    for given, reason in [
        (small, "has 340x260 pixels and the image of what to protect"),
        (tmp_path / "masks", "no image is named like it"),
        (tmp_path / "missing.png", "no such file"),
    ]:
        result = run(path, "-o", tmp_path / "o", "--weights", weights, "--protect", given, *BOX)
        assert result.exit_code == 1 and reason in result.output and result.output.count("\n") == 1
        assert not list((tmp_path / "o").iterdir())


@pytest.mark.parametrize("listed", [False, True])
def test_one_mask_of_a_folder_does_not_protect_two_photos(tmp_path, weights, listed):
    for folder in ("a", "b"):
        make_photo(tmp_path / "in" / folder / "1.png")
    mask = make_photo(tmp_path / "masks" / "1.png", bands=1)
    given = ["--manifest", tmp_path / "in", "--results", tmp_path / "r.parquet"] if listed else [tmp_path / "in"]
    options = ["-o", tmp_path / "o", "--recursive", "--weights", weights, "--protect", mask.parent, *BOX]
    result = run(*given, *options)
    assert result.exit_code == 1 and f"{mask}: is named like" in result.output and not (tmp_path / "o").exists()


def test_no_output_replaces_a_mask(tmp_path, weights):
    path = make_photo(tmp_path / "in" / "a.png")
    out = tmp_path / "o"
    for name, options in [
        ("a.png", []),
        ("a.mask.png", ["--mask-out"]),
        ("a.attention-refined.png", ["--attention-out"]),
    ]:
        mask = make_photo(out / name, bands=1)
        before = mask.read_bytes()
        result = run(path, "-o", out, "--weights", weights, "--protect", mask, "--overwrite", *options, *BOX)
        assert result.exit_code == 1 and f"its output {mask} is another input" in result.output
        assert mask.read_bytes() == before and list(out.iterdir()) == [mask]
        assert run(path, "-o", tmp_path / "p", "--weights", weights, "--protect", mask, *options, *BOX).exit_code == 0
        shutil.rmtree(tmp_path / "p")
        mask.unlink()


def test_maps_and_comparison_lie_beside_the_output(tmp_path, retoucher, weights):
    path = make_photo(tmp_path / "a.png", size=(300, 420))
    out = tmp_path / "o"
    options = ["--weights", weights, "--precision", "fp32", *BOX]
    assert run(path, "-o", out, *options, "--no-confine", "--mask-out", "--attention-out", "--compare").exit_code == 0
    names = ("attention-coarse", "attention-refined", "mask")
    coarse, refined, mask = (read_pixels(out / f"a.{name}.png")[..., 0] for name in names)
    expected = retoucher.attention(read_pixels(path), faces=[Face((110.0, 80.0, 60.0, 80.0), 1.0, UNKNOWN)])
    np.testing.assert_array_equal(coarse, np.rint(expected.coarse * 255))
    np.testing.assert_array_equal(refined, np.rint(expected.refined * 255))
    np.testing.assert_array_equal(mask, np.maximum(coarse, refined))
    assert mask.max() > 50 and (mask[200:] == 0).all()
    side = round(60 / 0.53)
    comparison = read_pixels(out / "a.compare.jpg")
    assert abs(comparison.shape[0] - side) <= 2 and abs(comparison.shape[1] - 2 * side - 8) <= 4
    assert run(path, "-o", tmp_path / "p", *options, "--attention-out", "--stage", "coarse").exit_code == 0
    assert sorted(entry.name for entry in (tmp_path / "p").iterdir()) == ["a.attention-coarse.png", "a.png"]
    options += ["--attention-out", "--stage", "coarse", "--skip-existing"]
    result = run(path, "-o", tmp_path / "p", *options)
    assert result.exit_code == 0 and "without what is written beside it" not in result.output


def test_a_network_without_attention_has_no_maps(tmp_path, busy_model):
    path, retoucher = make_photo(tmp_path / "a.png"), Retoucher(busy_model(attention=False), device="cpu")
    for option in ("mask_out", "attention_out"):
        with pytest.raises(ValueError, match="no attention modules"):
            retoucher.retouch_file(path, tmp_path / "o.png", face_boxes=[(60, 60, 50, 60)], **{option: True})


def test_output_equal_to_input_needs_overwrite(tmp_path, weights, retoucher):
    path = make_photo(tmp_path / "a.png")
    before = path.read_bytes()
    result = run(path, "-o", tmp_path, "--weights", weights, *BOX)
    assert result.exit_code == 1 and "give --overwrite" in result.output and path.read_bytes() == before
    assert run(path, "-o", tmp_path, "--weights", weights, "--overwrite", *BOX).exit_code == 0
    assert path.read_bytes() != before


def test_wrong_options_are_usage_errors(tmp_path, weights, retoucher):
    path = make_photo(tmp_path / "a.png")
    for options, message in [
        (["--face-box", "1,2,3"], "is not four numbers"),
        (["--face-box", "1,2,3,4", "--aligned"], "are mutually exclusive"),
        (["--strength", "1.5"], "0<=x<=1"),
        (["--stage", "fine"], "fine"),
    ]:
        result = run(path, "-o", tmp_path / "o", "--weights", weights, *options)
        assert result.exit_code == 2 and message in result.output
    result = run(path, "-o", tmp_path / "o", "--weights", weights, "--face-box", "900,900,30,30")
    assert result.exit_code == 1 and f"{path}: the face box 900,900,30,30 lies outside the photo" in result.output
    for options in ({"strength": 2}, {"aligned": True, "face_boxes": [(1, 1, 9, 9)]}):
        with pytest.raises(ValueError):
            retoucher.retouch_file(path, tmp_path / "o.png", **options)
    with pytest.raises(TypeError):
        retoucher.retouch_file(path, tmp_path / "o.png", overwrit=True)


def test_failing_network_leaves_no_file(tmp_path, retoucher, monkeypatch):
    path = make_photo(tmp_path / "a.png", size=(900, 200))
    monkeypatch.setattr(retoucher, "_retouch", lambda square, face: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        retoucher.retouch_file(path, tmp_path / "out.png", face_boxes=[(60, 60, 50, 60)])
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_the_photo_is_never_in_memory_as_a_whole(tmp_path, retoucher, monkeypatch):
    """Not even where one face fills it; torch's tensors, which are not counted, are made of the same blocks."""
    monkeypatch.setattr(sources, "BLOCK_PIXELS", 20_000)
    side = 2400
    path = make_photo(tmp_path / "a.tif", size=(side, side), compression="lzw")
    box = (0.24 * side, 0.2 * side, 0.53 * side, 0.7 * side)
    tracemalloc.start()
    retoucher.retouch_file(path, tmp_path / "out.tif", face_boxes=[box], attention_out=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * side**2 / 2


@pytest.mark.parametrize("name", ["a.mask.png", "a.attention-coarse.png", "a.compare.jpg"])
def test_companions_that_are_there_are_replaced_on_request_only(tmp_path, weights, name):
    path = make_photo(tmp_path / "in" / "a.png")
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / name).write_bytes(b"kept")
    arguments = [path, "-o", tmp_path / "o", "--weights", weights, "--mask-out", "--attention-out", "--compare", *BOX]
    result = run(*arguments)
    assert result.exit_code == 1 and f"{name} already exists" in result.output and result.output.count("\n") == 1
    assert [file.read_bytes() for file in (tmp_path / "o").iterdir()] == [b"kept"]
    assert run(*arguments, "--overwrite").exit_code == 0
    assert len(list((tmp_path / "o").iterdir())) == 5 and (tmp_path / "o" / name).read_bytes() != b"kept"


def test_many_photographs_by_a_folder(tmp_path, weights):
    make_photo(tmp_path / "in" / "a.png", size=(128, 128))
    make_photo(tmp_path / "in" / "b.png", size=(128, 120))
    command = ["--manifest", tmp_path / "in", "--results", tmp_path / "r.parquet", "-o", tmp_path / "out"]
    command += ["--aligned", "--weights", weights, "--device", "cpu", "--precision", "fp32", "--workers", "1"]
    result = run(*command)
    assert result.exit_code == 1 and "1 of 2 photos retouched, 0 skipped, 1 failed" in result.output
    a, b = sorted(parquet.read_table(tmp_path / "r.parquet").to_pylist(), key=lambda row: row["path"])
    assert (a["status"], a["faces"], b["status"]) == ("done", 1, "failed")
    assert "an aligned face is a square image" in b["reason"]
    before, after = (read_pixels(tmp_path / folder / "a.png") for folder in ("in", "out"))
    assert a["changed"] == pytest.approx((before != after).any(axis=2).mean()) and a["changed"] > 0
