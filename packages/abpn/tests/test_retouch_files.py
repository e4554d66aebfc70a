"""Photograph files through the command and ``Retoucher.retouch_file``, with a tiny untrained network."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import pyvips
from abpn.cli import retouch
from abpn.model import ABPN
from abpn.retouch import Retoucher
from pyarrow import parquet
from retouch_common.faces.face import Face
from retouch_common.faces.registry import DetectorUnavailable
from retouch_common.inference import regions
from retouch_common.photo.io import Photo
from retouch_common.testing.imports import check_imports
from retouch_common.testing.photos import make_photo, read_pixels, run_command


@pytest.fixture(autouse=True)
def no_detector(monkeypatch):
    """Faces are where a test says; by default nowhere."""
    monkeypatch.setattr(regions, "detect_faces", lambda image: [])


def found(monkeypatch, *boxes):
    points = np.full((5, 2), np.nan, np.float32)
    monkeypatch.setattr(regions, "detect_faces", lambda image: [Face(box, 0.9, points) for box in boxes])


def run(*arguments):
    return run_command(retouch, *arguments)


def test_whole_photo_equals_the_array(tmp_path, retoucher):
    path = make_photo(tmp_path / "a.png", size=(700, 500))
    plan = retoucher.retouch_file(path, tmp_path / "out.png", region="photo")
    expected = retoucher(read_pixels(path))
    assert np.abs(expected.astype(int) - read_pixels(path)).max() > 2
    np.testing.assert_array_equal(read_pixels(tmp_path / "out.png"), expected)
    assert str(plan) == "the whole photo, because the region 'photo' was asked for"


@pytest.mark.parametrize(
    ("suffix", "bands", "dtype"), [(".png", 3, np.uint8), (".tif", 4, np.uint16), (".png", 2, np.uint8)]
)
def test_faces_change_inside_their_crops_only(tmp_path, retoucher, suffix, bands, dtype):
    path = make_photo(tmp_path / f"a{suffix}", bands=bands, dtype=dtype)
    out = tmp_path / f"out{suffix}"
    plan = retoucher.retouch_file(path, out, face_boxes=[(60, 60, 50, 60), (110, 70, 50, 60)], confine=False)
    before, after = read_pixels(path), read_pixels(out)
    assert after.dtype == dtype and after.shape == before.shape
    inside = np.zeros(before.shape[:2], bool)
    for x, y, w, h in plan.crops:
        inside[y : y + h, x : x + w] = True
    np.testing.assert_array_equal(after[~inside], before[~inside])
    colours = bands - 1 + bands % 2
    np.testing.assert_array_equal(after[..., colours:], before[..., colours:])
    assert (after != before).any(axis=2)[inside].mean() > 0.2


def test_one_face_is_the_feathered_difference_of_its_own_crop(tmp_path, retoucher):
    path = make_photo(tmp_path / "a.png")
    plan = retoucher.retouch_file(path, tmp_path / "out.png", face_boxes=[(120, 90, 60, 70)], confine=False)
    ((x, y, w, h),) = plan.crops
    before = read_pixels(path).astype(np.float64)
    crop = np.ascontiguousarray(read_pixels(path)[y : y + h, x : x + w])
    change = retoucher(crop).astype(np.float64) - crop
    after = read_pixels(tmp_path / "out.png")[y : y + h, x : x + w] - before[y : y + h, x : x + w]
    middle = slice(h // 4, -h // 4), slice(w // 4, -w // 4)
    np.testing.assert_array_equal(after[middle], change[middle])
    assert (after[0] == 0).all() and (after[:, 0] == 0).all()


def test_streamed_faces_equal_faces_in_memory(tmp_path, retoucher, monkeypatch):
    path = make_photo(tmp_path / "a.png", size=(900, 700))
    boxes = [(100, 100, 150, 150), (300, 200, 200, 260), (100, 600, 90, 90)]
    retoucher.retouch_file(path, tmp_path / "memory.png", face_boxes=boxes)
    monkeypatch.setattr(regions, "IN_MEMORY_PIXELS", 0)
    retoucher.retouch_file(path, tmp_path / "stream.png", face_boxes=boxes)
    np.testing.assert_array_equal(read_pixels(tmp_path / "stream.png"), read_pixels(tmp_path / "memory.png"))
    assert (read_pixels(tmp_path / "stream.png") != read_pixels(path)).any()


def test_strength_zero_changes_nothing(tmp_path, retoucher):
    path = make_photo(tmp_path / "a.tif", dtype=np.uint16)
    for region, boxes in (("photo", ()), ("faces", [(100, 100, 60, 60)])):
        out = tmp_path / f"{region}.tif"
        retoucher.retouch_file(path, out, strength=0, region=region, face_boxes=boxes)
        np.testing.assert_array_equal(read_pixels(out), read_pixels(path))


@pytest.mark.parametrize("in_memory", [True, False])
def test_photo_without_a_change_is_copied(tmp_path, retoucher, monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr(regions, "IN_MEMORY_PIXELS", 0)
    path = make_photo(tmp_path / "a.jpg", Q=70)
    for region, boxes in (("photo", ()), ("faces", [(100, 100, 60, 60)])):
        out = tmp_path / f"{region}.jpg"
        retoucher.retouch_file(path, out, strength=0, region=region, face_boxes=boxes)
        assert out.read_bytes() == path.read_bytes()
        retoucher.retouch_file(path, out, region=region, face_boxes=boxes, confine=False, overwrite=True)
        assert b"compositeWithTrainedAlgorithmicMedia" in out.read_bytes()


def test_auto_says_which_region_and_why(tmp_path, weights, monkeypatch):
    path = make_photo(tmp_path / "a.jpg")
    output = run(path, "-o", tmp_path / "o", "--weights", weights).output
    assert "unchanged, because no face was found; the region 'photo' retouches the whole frame" in output
    assert (tmp_path / "o" / "a.jpg").read_bytes() == path.read_bytes()
    converted = run(path, "-o", tmp_path / "o.png", "--weights", weights, "--mask-out")
    assert converted.exit_code == 0 and (read_pixels(tmp_path / "o.png") == read_pixels(path)).all()
    assert not read_pixels(tmp_path / "o.mask.png").any()
    found(monkeypatch, (100, 100, 50, 60), (180, 100, 50, 60))
    assert "2 faces found" in run(path, "-o", tmp_path / "p", "--weights", weights).output

    def unavailable(image):
        raise DetectorUnavailable("the face detector's weights could not be downloaded; put FILE into FOLDER")

    monkeypatch.setattr(regions, "detect_faces", unavailable)
    for region in ("auto", "faces"):
        result = run(path, "-o", tmp_path / region, "--weights", weights, "--region", region)
        assert result.exit_code == 1 and "put FILE into FOLDER; or give a face box" in result.output


def test_faces_without_a_face_is_an_error(tmp_path, weights):
    path = make_photo(tmp_path / "a.jpg")
    result = run(path, "-o", tmp_path / "o", "--weights", weights, "--region", "faces")
    assert result.exit_code == 1
    remedy = "give a face box (--face-box), or use the region 'photo' (--region photo)"
    assert result.output == f"Error: {path}: no face was found; {remedy}\n"


def test_detected_faces_are_scaled_back_to_the_photo(tmp_path, monkeypatch):
    monkeypatch.setattr(regions, "DETECTION_SIDE", 85)
    found(monkeypatch, (20, 20, 10, 10))
    plan = regions.plan_region(Photo.open(make_photo(tmp_path / "a.png", size=(260, 340))))
    assert plan.crops == ((66, 66, 68, 68),)


def test_folder_goes_on_after_broken_files_and_lists_them(tmp_path, weights):
    folder = tmp_path / "in"
    for name in ("good.jpg", "deep.png", "sub/nested.webp"):
        make_photo(folder / name, dtype=np.uint16 if name == "deep.png" else np.uint8)
    cut = make_photo(folder / "cut.png", size=(500, 500))
    cut.write_bytes(cut.read_bytes()[:90_000])
    make_photo(folder / "dot.png", size=(1, 1))
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("no photo")
    make_photo(folder / "wrong.png").rename(folder / "wrong.jpg")
    make_photo(folder / "film.gif", size=(64, 64))
    (folder / "notes.txt").write_text("not looked at")
    out = tmp_path / "out"
    result = run(folder, "-o", out, "--weights", weights, "--recursive")
    assert result.exit_code == 1
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == [
        "deep.png",
        "good.jpg",
        os.path.join("sub", "nested.webp"),
        "wrong.png",
    ]
    assert read_pixels(out / "deep.png").dtype == np.uint16
    report = result.output[result.output.index("5 of 9 photos could not be retouched:") :].splitlines()
    for line, name, reason in zip(
        report[1:],
        ["cut.png", "dot.png", "empty.jpg", "film.gif", "text.jpg"],
        ["cut off", "1x1 pixels", "is empty", "is a GIF", "is not a photo"],
        strict=True,
    ):
        assert name in line and reason in line


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jpg", b"", "is empty"),
        ("text.png", b"hello", "is not a photo"),
        ("missing.jpg", None, "no such file"),
    ],
)
def test_one_bad_file_is_one_line(tmp_path, weights, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = run(tmp_path / name, "-o", tmp_path / "o", "--weights", weights)
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {tmp_path / name}: ") and reason in result.output
    assert result.output.count("\n") == 1
    assert not list(tmp_path.glob("o/*"))


def test_output_equal_to_input_needs_overwrite(tmp_path, weights):
    path = make_photo(tmp_path / "a.png")
    before = path.read_bytes()
    for out in (tmp_path, path, tmp_path / "x" / ".." / "a.png"):
        (tmp_path / "x").mkdir(exist_ok=True)
        result = run(path, "-o", out, "--weights", weights)
        assert result.exit_code == 1 and "give --overwrite" in result.output
        assert path.read_bytes() == before
    assert run(path, "-o", tmp_path, "--weights", weights, "--overwrite", "--region", "photo").exit_code == 0
    assert path.read_bytes() != before


def test_another_input_is_never_written_over(tmp_path, weights):
    first, second = make_photo(tmp_path / "one" / "a.png"), make_photo(tmp_path / "two" / "a.png", bands=1)
    before = second.read_bytes()
    result = run(first, second, "-o", tmp_path / "two", "--weights", weights, "--overwrite")
    assert result.exit_code == 1 and "is another input" in result.output
    assert second.read_bytes() == before


def test_equal_names_are_numbered(tmp_path, weights):
    first, second = make_photo(tmp_path / "one" / "a.png"), make_photo(tmp_path / "two" / "a.png", bands=1)
    assert run(first, second, "-o", tmp_path / "out", "--weights", weights).exit_code == 0
    assert read_pixels(tmp_path / "out" / "a.png").shape[2] == 3
    assert read_pixels(tmp_path / "out" / "a-2.png").shape[2] == 1


def test_unwritable_outputs(tmp_path, weights):
    path = make_photo(tmp_path / "a.png")
    (tmp_path / "file").write_text("")
    result = run(path, "-o", tmp_path / "file" / "sub", "--weights", weights)
    assert result.exit_code == 1 and result.output.count("\n") == 1
    assert "Not a directory" in result.output or "not a directory" in result.output
    result = run(path, "-o", tmp_path / "b.xyz" / "c.jpg" / "d", "--weights", weights)
    assert result.exit_code == 0  # a folder of that name
    assert (tmp_path / "b.xyz" / "c.jpg" / "d" / "a.png").exists()


def test_wrong_options_are_usage_errors(tmp_path, weights):
    path = make_photo(tmp_path / "a.png")
    for options, message in [
        (["--face-box", "1,2,3"], "is not four numbers"),
        (["--face-box", "1,2,0,9"], "has no area"),
        (["--face-box", "1,2,3,4", "--region", "photo"], "are mutually exclusive"),
        (["--strength", "1.5"], "0<=x<=1"),
        (["--device", "tpu"], "tpu"),
    ]:
        result = run(path, "-o", tmp_path / "o", "--weights", weights, *options)
        assert result.exit_code == 2 and message in result.output
    for options, message in [
        (
            ["--face-box", "900,900,30,30"],
            "the face box 900,900,30,30 lies outside the photo of 340x260 pixels",
        ),
        (["--weights", "nothing-like-this"], "nothing-like-this"),
    ]:
        result = run(path, "-o", tmp_path / "o", "--weights", weights, *options)
        assert result.exit_code == 1 and message in result.output
    assert run(tmp_path / "o", "-o", tmp_path / "p", "--weights", weights).exit_code == 1


def test_mask_and_comparison_lie_beside_the_output(tmp_path, weights):
    path = make_photo(tmp_path / "a.png", size=(300, 420))
    out = tmp_path / "o"
    assert run(path, "-o", out, "--weights", weights, "--mask-out", "--compare", "--region", "photo").exit_code == 0
    mask = read_pixels(out / "a.mask.png")
    assert mask.shape == (300, 420, 1) and mask.dtype == np.uint8 and mask.max() > 0
    comparison = read_pixels(out / "a.compare.jpg").astype(int)
    assert comparison.shape == (300, 2 * 420 + 8, 3)
    assert np.abs(comparison[:, :420] - read_pixels(path)).mean() < 4
    assert np.abs(comparison[:, 428:] - read_pixels(out / "a.png")).mean() < 4
    box = ["--face-box", "50,60,60,80", "--overwrite"]
    assert run(path, "-o", out, "--weights", weights, "--mask-out", "--compare", *box).exit_code == 0
    mask = read_pixels(out / "a.mask.png")[..., 0]
    assert mask.shape == (300, 420) and mask[20:180, :160].max() > 0
    assert mask[190:].max() == 0 and mask[:, 170:].max() == 0


def test_mask_beside_the_output_is_the_one_that_was_used(tmp_path, retoucher):
    """M follows from the thumbnail, whose size depends on the photo's."""
    path = make_photo(tmp_path / "a.png", size=(1500, 1500))
    retoucher.retouch_file(path, tmp_path / "o.png", region="photo", mask_out=True)
    used = retoucher.mask(read_pixels(path))
    written = read_pixels(tmp_path / "o.mask.png")[..., 0] / 255
    assert used.max() > 0 and np.abs(written - used).mean() < 0.02 * used.mean() + 1 / 255


def test_photo_is_written_over_itself_from_python(tmp_path, retoucher):
    path = make_photo(tmp_path / "a.png")
    expected = retoucher(read_pixels(path))
    with pytest.raises(ValueError, match="give --overwrite"):
        retoucher.retouch_file(path, path)
    retoucher.retouch_file(path, path, overwrite=True, region="photo")
    np.testing.assert_array_equal(read_pixels(path), expected)
    with pytest.raises(TypeError):
        retoucher.retouch_file(path, path, overwrit=True)
    with pytest.raises(ValueError, match="strength"):
        retoucher.retouch_file(path, tmp_path / "o.png", strength=2)


def test_failing_network_leaves_no_file(tmp_path, retoucher, monkeypatch):
    path = make_photo(tmp_path / "a.png", size=(900, 200))

    def failing(source, *, strength):
        yield source.read_rows(0, 512)
        raise MemoryError

    monkeypatch.setattr(retoucher, "stripes", failing)
    with pytest.raises(MemoryError):
        retoucher.retouch_file(path, tmp_path / "out.png", region="photo")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_terminated_command_leaves_no_temporary_file(tmp_path, weights, monkeypatch):
    path = make_photo(tmp_path / "a.png", size=(900, 200))

    def terminated(self, source, *, strength):
        yield source.read_rows(0, 512)
        assert [entry.suffix for entry in (tmp_path / "o").iterdir()] == [".png"]
        os.kill(os.getpid(), signal.SIGTERM)
        yield source.read_rows(512, 900)

    monkeypatch.setattr(Retoucher, "stripes", terminated)
    before = signal.getsignal(signal.SIGTERM)
    try:
        result = run(path, "-o", tmp_path / "o", "--weights", weights, "--region", "photo")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert result.exit_code == 128 + signal.SIGTERM
    assert list((tmp_path / "o").iterdir()) == []


@pytest.mark.parametrize("name", ["a.png", "a.mask.png", "a.compare.jpg"])
def test_what_is_there_is_replaced_on_request_only(tmp_path, weights, name):
    path = make_photo(tmp_path / "in" / "a.png")
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / name).write_bytes(b"kept")
    arguments = [path, "-o", tmp_path / "o", "--weights", weights, "--mask-out", "--compare"]
    result = run(*arguments)
    assert result.exit_code == 1 and f"{tmp_path / 'o' / name} already exists" in result.output
    assert result.output.count("\n") == 1
    assert [file.read_bytes() for file in (tmp_path / "o").iterdir()] == [b"kept"]
    assert run(*arguments, "--overwrite").exit_code == 0
    assert len(list((tmp_path / "o").iterdir())) == 3 and (tmp_path / "o" / name).read_bytes() != b"kept"


def test_companions_replace_no_input(tmp_path, weights):
    first = make_photo(tmp_path / "a.png")
    second = make_photo(tmp_path / "a.compare.jpg")
    before = second.read_bytes()
    result = run(first, second, "-o", tmp_path, "--weights", weights, "--compare", "--overwrite")
    assert result.exit_code == 1 and f"{first}: its output {second} is another input" in result.output
    assert second.read_bytes() == before
    assert (tmp_path / "a.compare-2.jpg").exists()  # of the second


def test_a_second_run_over_a_folder_passes_over_its_companions(tmp_path, weights):
    make_photo(tmp_path / "in" / "a.png")
    arguments = [tmp_path / "in", "-o", tmp_path / "in" / "o", "--weights", weights, "--mask-out", "--compare"]
    assert run(*arguments).exit_code == 0
    result = run(tmp_path / "in" / "o", "-o", tmp_path / "again", "--weights", weights)
    assert result.exit_code == 0 and "skipping a.compare.jpg and 1 more" in result.output
    assert [file.name for file in (tmp_path / "again").iterdir()] == ["a.png"]


def test_confined_changes_lie_on_skin_and_the_option_switches_that_off(tmp_path, retoucher):
    data = pytest.importorskip("skimage.data", reason="scikit-image brings the portrait")
    path = tmp_path / "a.png"
    pyvips.Image.new_from_array(data.astronaut()).pngsave(str(path))
    box = (170, 60, 100, 130)
    changed = {}
    for confine in (True, False):
        plan = retoucher.retouch_file(path, tmp_path / f"{confine}.png", face_boxes=[box], confine=confine)
        changed[confine] = (read_pixels(tmp_path / f"{confine}.png") != read_pixels(path)).any(axis=2)
    mask = retoucher.skin.locate(Photo.open(path), plan.faces[0]).weights(0, 0, 512, 512)
    assert changed[True].any() and not changed[True][mask == 0].any()
    assert changed[False][mask == 0].any()


def test_retouching_does_not_load_what_is_slow_to_import(tmp_path):
    photo = make_photo(tmp_path / "a.png", size=(96, 96))
    check_imports("abpn.cli", ["retouch", str(photo), "-o", str(tmp_path / "b.png"), "--face-box", "20,20,40,40"])


@pytest.mark.parametrize("region", ["photo", "faces"])
@pytest.mark.parametrize("kind", ["white", "strokes", "ones", "grey16"])
def test_what_a_mask_protects_keeps_its_bits(tmp_path, weights, monkeypatch, region, kind):
    """White on black, opaque black strokes on a transparent white layer, a mask of 0 and 1, and one of 16 bits."""
    found(monkeypatch, (120, 80, 60, 60))
    path = make_photo(tmp_path / "a.png")
    selected = np.zeros((260, 340), bool)
    selected[100:130, 100:200] = True
    mask = {
        "white": 255 * selected.astype(np.uint8),
        "strokes": np.where(selected[..., None], [0, 0, 0, 255], [255, 255, 255, 0]).astype(np.uint8),
        "ones": selected.astype(np.uint8),
        "grey16": 65535 * selected.astype(np.uint16),
    }[kind]
    space = {"white": "b-w", "strokes": "srgb", "ones": "b-w", "grey16": "grey16"}[kind]
    pyvips.Image.new_from_array(mask).copy(interpretation=space).write_to_file(str(tmp_path / "mask.png"))
    options = ["--weights", weights, "--region", region, "--no-confine"]
    assert run(path, "-o", tmp_path / "free.png", *options).exit_code == 0
    assert run(path, "-o", tmp_path / "kept.png", *options, "--protect", tmp_path / "mask.png").exit_code == 0
    before, free, kept = (read_pixels(tmp_path / name) for name in ("a.png", "free.png", "kept.png"))
    assert (free != before)[selected].any()
    np.testing.assert_array_equal(kept, np.where(selected[..., None], before, free))


@pytest.mark.slow
def test_many_photographs_by_a_list_with_a_worker_killed(tmp_path, weights):
    """Sixty, one of them damaged, and a worker that is killed on the way."""
    photo = make_photo(tmp_path / "photo.png", size=(64, 72)).read_bytes()
    names = [f"{number:02}.png" for number in range(60)]
    (tmp_path / "in").mkdir()
    for name in names:
        (tmp_path / "in" / name).write_bytes(photo)
    (tmp_path / "in" / "30.png").write_bytes(photo[: len(photo) // 2])
    (tmp_path / "list.txt").write_text("\n".join(f"in/{name}" for name in names))
    command = [sys.executable, "-c", "from abpn.cli import retouch; retouch()"]
    command += ["--manifest", tmp_path / "list.txt", "--results", tmp_path / "r.parquet", "-o", tmp_path / "out"]
    command += ["--weights", weights, "--device", "cpu", "--region", "photo", "--workers", "2"]
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)
    while len(list((tmp_path / "out" / "in").glob("[0-9]*"))) < 10:
        assert process.poll() is None
        time.sleep(0.05)
    workers = [p for p in psutil.Process(process.pid).children() if "spawn_main" in " ".join(p.cmdline())]
    workers[0].kill()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"59 of 60 photos retouched, 0 skipped, 1 failed: {tmp_path / 'r.parquet'}" in errors
    rows = parquet.read_table(tmp_path / "r.parquet").to_pylist()
    assert len(rows) == 60
    (failed,) = (row for row in rows if row["status"] == "failed")
    assert failed["path"].endswith("30.png") and "30.png" in failed["reason"]
    done = [row for row in rows if row["status"] == "done"]
    assert {row["weights"] for row in done} == {ABPN.from_pretrained(weights).weights_sha256}
    alone = tmp_path / "alone.png"
    assert run(tmp_path / "photo.png", "-o", alone, "--weights", weights, "--region", "photo").exit_code == 0
    share = (read_pixels(alone) != read_pixels(tmp_path / "photo.png")).any(axis=2).mean()
    assert share > 0 and {round(row["changed"], 6) for row in done} == {round(share, 6)}
    for name in ("00.png", "59.png"):
        np.testing.assert_array_equal(read_pixels(tmp_path / "out" / "in" / name), read_pixels(alone))
