"""Inpainting files with a tiny untrained network: what changes, what stays, and what is refused."""

import os
import shutil
import tempfile
from types import SimpleNamespace

import numpy as np
import pytest
import pyvips
import torch
from bpfre.cli import inpaint
from bpfre.inpaint_files import InpaintOptions, StrokeMask
from bpfre.retouch import Retoucher
from click.testing import CliRunner
from retouch_common.faces.alignment import whole_square
from retouch_common.inference.demo import FACE, astronaut
from retouch_common.inference.photos import edit_record
from retouch_common.photo.sources import ArraySource

SIDE = 64  # that of the network


def save(path, pixels):
    pyvips.Image.new_from_array(pixels).write_to_file(str(path))
    return path


def stored(path):
    return pyvips.Image.new_from_file(str(path)).numpy()


@pytest.fixture(scope="module")
def weights(tmp_path_factory, busy_model):
    """Untrained ones that claim to be for inpainting."""
    folder, model = tmp_path_factory.mktemp("inpainting"), busy_model()
    model.metadata = {"task": "inpainting"}
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def photo(tmp_path):
    y, x = np.mgrid[:SIDE, :SIDE]
    return save(tmp_path / "a.png", (90 + x[..., None] + np.stack([y, 0 * y, -y], axis=-1)).astype(np.uint8))


@pytest.fixture
def mask(tmp_path):
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    pixels[20:30, 5:60] = 255
    return save(tmp_path / "mask.png", pixels)


@pytest.fixture
def run(weights, tmp_path):
    def run(*arguments, status=0):
        words = ["-o", tmp_path / "out.png", "--weights", weights, "--device", "cpu", "--precision", "fp32", *arguments]
        result = CliRunner().invoke(inpaint, [str(word) for word in words])
        assert result.exit_code == status, result.output
        return tmp_path / "out.png", result.output

    return run


def network_output(weights, pixels):
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    result = Retoucher(weights, device="cpu", precision="fp32").network(image).result[0]
    return (255 * result.clamp(0, 1)).permute(1, 2, 0).numpy()


def test_what_is_damaged_becomes_what_the_network_makes_of_white(photo, mask, weights, run):
    out, _ = run(photo, "--mask", mask, "--aligned", "--damaged-out")
    before, after, damaged = stored(photo), stored(out), stored(mask) > 127
    assert np.array_equal(after[~damaged], before[~damaged])
    seen = before.copy()
    seen[damaged] = 255
    assert np.array_equal(stored(out.with_name("out.damaged.png")), seen)
    assert np.abs(after.astype(float) - network_output(weights, seen))[damaged].max() < 1
    assert (after != before)[damaged].mean() > 0.5


def test_strokes_repeat_by_seed(photo, run):
    outs = []
    for seed in (3, 3, 4):
        out, _ = run(photo, "--strokes", seed, "--aligned", "--damaged-out", "--overwrite")
        outs.append((stored(out), stored(out.with_name("out.damaged.png"))))
    before = stored(photo)
    for after, seen in outs:
        damaged = (seen == 255).all(axis=2)
        assert 0.02 < damaged.mean() < 0.9
        assert np.array_equal(after[~damaged], before[~damaged])
    assert np.array_equal(outs[0][0], outs[1][0]) and not np.array_equal(outs[0][1], outs[2][1])


def test_strokes_lie_on_the_faces_in_any_rows():
    source = ArraySource(np.zeros((SIDE, SIDE, 3), np.uint8))
    strokes = StrokeMask(source, [whole_square(SIDE, SIDE)], 0)
    whole = strokes.read_rows(0, SIDE)
    assert np.array_equal(np.concatenate([strokes.read_rows(y, y + 8) for y in range(0, SIDE, 8)]), whole)
    assert set(np.unique(whole)) == {0, 255}


def test_strokes_already_in_the_photo_are_left_to_the_network(photo, mask, weights, run, tmp_path):
    pixels = stored(photo)
    pixels[stored(mask) > 127] = 255
    out, _ = run(save(tmp_path / "painted.png", pixels), "--aligned")
    expected = Retoucher(weights, device="cpu", precision="fp32")(pixels, aligned=True, confine=False)
    assert np.array_equal(stored(out), expected) and not np.array_equal(expected, pixels)


def test_damage_outside_the_faces_stays(tmp_path, run):
    photo = save(tmp_path / "b.png", np.full((200, 260, 3), 120, np.uint8))
    pixels = np.zeros((200, 260), np.uint8)
    pixels[90:110] = 255
    mask = save(tmp_path / "wide.png", pixels)
    out, _ = run(photo, "--mask", mask, "--face-box", "100,70,50,70")
    changed = (stored(out) != 120).any(axis=2)
    assert changed.any() and not changed[pixels == 0].any()
    assert not changed[:, :60].any() and not changed[:, 200:].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mask", "MASK", "--strokes", "1"], "are mutually exclusive"),
        (["--damaged-out"], "no damaged image to write"),
        (["--mask", "BLACK"], "nothing to inpaint"),
        (["--mask", "SMALL"], "the image of what is damaged"),
    ],
)
def test_mistakes_are_one_line(photo, mask, run, tmp_path, arguments, message):
    files = {
        "MASK": mask,
        "BLACK": save(tmp_path / "black.png", np.zeros((SIDE, SIDE), np.uint8)),
        "SMALL": save(tmp_path / "small.png", np.zeros((32, 32), np.uint8)),
    }
    out, output = run(photo, "--aligned", *[files.get(word, word) for word in arguments], status=1)
    assert message in output and len(output.strip().splitlines()) == 1
    assert not out.exists() and not out.with_name("out.damaged.png").exists()


def test_one_mask_of_a_folder_does_not_serve_two_photos(photo, mask, run, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / "tree" / folder).mkdir(parents=True)
        (tmp_path / "tree" / folder / "1.png").write_bytes(photo.read_bytes())
    (tmp_path / "masks").mkdir()
    flat = mask.rename(tmp_path / "masks" / "1.png")
    arguments = [tmp_path / "tree", "--recursive", "--mask", flat.parent, "--aligned", "-o", tmp_path / "outs"]
    _, output = run(*arguments, status=1)
    assert f"{flat}: is named like" in output and output.count("\n") == 1 and not (tmp_path / "outs").exists()
    (flat.parent / "a").mkdir()
    flat.rename(flat.parent / "a" / "1.png")
    _, output = run(*arguments, status=1)
    assert "1 of 2 photos could not be retouched" in output and f"b{os.sep}1.png: in the folder" in output
    assert (stored(tmp_path / "outs" / "a" / "1.png") != stored(photo)).any()


def test_a_damaged_image_that_png_cannot_hold_is_refused_by_its_name(photo, run, tmp_path):
    cmyk = tmp_path / "cmyk.jpg"
    pyvips.Image.new_from_file(str(photo)).icc_transform("cmyk", input_profile="srgb").jpegsave(str(cmyk))
    _, output = run(cmyk, "-o", tmp_path / "out.jpg", "--strokes", 1, "--aligned", "--damaged-out", status=1)
    assert f"{tmp_path / 'out.damaged.png'}: the photo is CMYK and PNG is not" in output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "cmyk.jpg"]


def test_the_history_has_what_changes_pixels():
    settings = edit_record(InpaintOptions(strokes=3, damaged_out=True)).settings
    assert settings == {"strokes": 3, "aligned": False}


@pytest.mark.parametrize("name", ["out.png", "out.damaged.png"])
def test_the_mask_is_never_written_over(photo, mask, run, tmp_path, name):
    kept = mask.rename(tmp_path / name)
    before = kept.read_bytes()
    _, output = run(photo, "--mask", kept, "--aligned", "--damaged-out", "--overwrite", status=1)
    assert f"its output {kept} is another input" in output and kept.read_bytes() == before


@pytest.mark.parametrize("name", ["out.png", "out.damaged.png"])
def test_what_is_there_is_not_replaced(photo, run, tmp_path, name):
    (tmp_path / name).write_bytes(b"kept")
    _, output = run(photo, "--strokes", 1, "--aligned", "--damaged-out", status=1)
    assert f"{tmp_path / name} already exists" in output and (tmp_path / name).read_bytes() == b"kept"


def test_a_run_that_fails_leaves_no_damaged_image_that_would_stop_the_next(photo, run, monkeypatch):
    def fail(*arguments, **options):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("bpfre.inpaint_files.write_photo", fail)
        run(photo, "--strokes", 1, "--aligned", "--damaged-out", status=1)
    assert [path.name for path in photo.parent.iterdir()] == ["a.png"]
    run(photo, "--strokes", 1, "--aligned", "--damaged-out", "--skip-existing")
    assert sorted(path.name for path in photo.parent.iterdir()) == ["a.png", "out.damaged.png", "out.png"]


def test_a_full_temporary_folder_is_named(run, tmp_path, monkeypatch):
    resource = pytest.importorskip("resource", reason="the limit of a file's size stands in for a small disk")
    photo = save(tmp_path / "noise.png", np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    try:
        out, output = run(photo, "--strokes", 1, "--aligned", "--damaged-out", status=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"out.damaged.png: does not fit into the temporary folder {scratch}: the disk is full" in output
    assert not out.exists() and not list(scratch.iterdir())


def test_weights_for_retouching_are_refused(photo, mask, busy_model, tmp_path):
    """They would leave the strokes white."""
    model = busy_model()
    for metadata in ({"task": "retouching"}, {}):  # the first weights said nothing
        model.metadata = metadata
        model.save_pretrained(tmp_path / "weights")
        arguments = [photo, "-o", tmp_path / "out.png", "--mask", mask, "--aligned", "--weights", tmp_path / "weights"]
        result = CliRunner().invoke(inpaint, [str(word) for word in arguments])
        assert result.exit_code == 1 and result.output.count("\n") == 1
        assert "not trained for inpainting" in result.output and not (tmp_path / "out.png").exists()


def test_the_bundled_weights_are_the_default_and_fill_a_white_square(tmp_path):
    square, out = (slice(115, 135), slice(240, 260)), tmp_path / "out.png"
    mask = np.zeros(astronaut().shape[:2], np.uint8)
    mask[square] = 255
    photo, where = save(tmp_path / "photo.png", astronaut()), save(tmp_path / "mask.png", mask)
    box = ",".join(map(str, FACE))
    result = CliRunner().invoke(inpaint, [str(photo), "-o", str(out), "--mask", str(where), "--face-box", box])
    assert result.exit_code == 0, result.output
    after, before = stored(out).astype(float), astronaut().astype(float)
    assert np.array_equal(after[mask == 0], before[mask == 0])
    assert np.abs(after[square] - before[square]).mean() < 40 < np.abs(255 - before[square]).mean()
