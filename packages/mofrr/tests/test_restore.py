"""Photographs in memory and as files, through ``Restorer`` and the command, with a tiny untrained network."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import pyvips
import torch
from click.testing import CliRunner
from mofrr.cli import restore
from mofrr.model import MoFRR
from mofrr.restore import CAUTION, Restorer
from pyarrow import parquet
from retouch_common.faces.alignment import align, whole_square
from retouch_common.faces.face import Face
from retouch_common.files import sha256
from retouch_common.inference import face_plan, regions
from retouch_common.inference.faces import NOISE_LEVEL
from retouch_common.photo.sources import ArraySource
from retouch_common.testing.certificates import write_certificate
from retouch_common.testing.imports import check_imports
from retouch_common.testing.photos import make_photo

BOX = (110.0, 80.0, 60.0, 80.0)
UNKNOWN = np.full((5, 2), np.nan, np.float32)
ALL = ["white", "smooth", "lift", "eye"]


@pytest.fixture(scope="module")
def restorer(weights):
    return Restorer(weights, device="cpu", precision="fp32", experts=ALL)


@pytest.fixture(autouse=True)
def no_detector(monkeypatch):
    """Faces are where a test says; by default nowhere."""
    monkeypatch.setattr(regions, "detect_faces", lambda image: [])
    monkeypatch.setattr(face_plan, "detect_faces", lambda image: [])


def photo(height=260, width=340, dtype=np.uint8):
    y, x = np.mgrid[:height, :width]
    values = 0.55 + 0.25 * np.sin(x[..., None] / 31 + y[..., None] / 47 + np.arange(3))
    values = values + np.random.default_rng(3).normal(0, 0.02, values.shape)
    return (values.clip(0, 1) * np.iinfo(dtype).max).astype(dtype)


def written(path, pixels):
    deep = pixels.dtype == np.uint16
    image = pyvips.Image.new_from_array(pixels).copy(interpretation="rgb16" if deep else "srgb")
    image.write_to_file(str(path))
    return path


def run(*arguments):
    result = CliRunner().invoke(restore, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def test_the_given_model_is_not_modified(weights):
    model = MoFRR.from_pretrained(weights).train()
    assert Restorer(model, device="cpu", precision="fp32").network.model is not model
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_only_the_faces_square_changes(restorer, dtype):
    image = photo(dtype=dtype)
    faces = [Face(BOX, 1.0, UNKNOWN)]
    result = restorer(image, faces=faces)
    assert result.dtype == dtype and result.shape == image.shape
    x, y, w, h = face_plan.squares_in(image, faces, False)[0].bounds(*image.shape[:2])
    inside = np.zeros(image.shape[:2], bool)
    inside[y : y + h, x : x + w] = True
    np.testing.assert_array_equal(result[~inside], image[~inside])
    assert (result != image).any(axis=2)[inside].mean() > 0.2
    np.testing.assert_array_equal(restorer(image, faces=faces, strength=0.0), image)


def test_an_aligned_face_is_what_the_network_says(restorer):
    image = photo(64, 64)
    found = restorer.network(torch.from_numpy(image).permute(2, 0, 1)[None] / 255, experts=ALL)
    wanted = found.result[0].permute(1, 2, 0).numpy()
    change = wanted - image / np.float32(255)
    expected = np.where(abs(change) > NOISE_LEVEL, image / 255 + change, image / 255)
    result = restorer(image, aligned=True)
    weight = whole_square(64, 64).weights(*np.meshgrid(np.arange(0.5, 64) / 64, np.arange(0.5, 64) / 64))
    full = weight == 1
    assert full.mean() > 0.5
    assert np.abs(result[full] / 255 - expected[full]).max() <= 0.5 / 255 + 1e-4


def test_an_unretouched_face_keeps_every_bit(weights):
    restorer = Restorer(weights, device="cpu", precision="fp32", experts=[])
    image = photo(dtype=np.uint16)
    np.testing.assert_array_equal(restorer(image, faces=[Face(BOX, 1.0, UNKNOWN)]), image)


def test_the_seed_decides(weights):
    image = photo(64, 64)
    results = [
        Restorer(weights, device="cpu", precision="fp32", experts=ALL, seed=seed)(image, aligned=True)
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any()


def test_what_was_found_is_told(restorer):
    image = photo()
    squares = face_plan.squares_in(image, [Face(BOX, 1.0, UNKNOWN)], False)
    (face,) = restorer.restore_faces(ArraySource(image), squares)
    assert set(face.probabilities) == set(ALL) and set(face.degrees) == set(ALL)
    assert all(1 <= degree <= 5 for degree in face.degrees.values())
    assert set(face.images) == {*ALL, "shared", "restored"}
    aligned = align(image, face.square, 64)
    assert np.abs(face.change).max() > NOISE_LEVEL
    assert np.abs(face.images["restored"] - aligned - face.change).max() <= NOISE_LEVEL + 1e-6


def test_refuses_bad_options(weights, restorer):
    for options, message in (
        ({"experts": ["nose"]}, "unknown expert nose"),
        ({"steps": 0}, "between 1 and 50"),
        ({"samples": 0}, "at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            Restorer(weights, device="cpu", **options)
    with pytest.raises(ValueError, match="no face was found"):
        restorer(photo())
    with pytest.raises(ValueError, match="between 0 and 1"):
        restorer(photo(), faces=[Face(BOX, 1.0, UNKNOWN)], strength=2)


def test_a_file_equals_the_array(tmp_path, restorer):
    image = photo(dtype=np.uint16)
    written(tmp_path / "a.tif", image)
    plan = restorer.restore_file(tmp_path / "a.tif", tmp_path / "out.tif", face_boxes=[BOX])
    expected = restorer(image, faces=[Face(BOX, 1.0, UNKNOWN)])
    np.testing.assert_array_equal(pyvips.Image.new_from_file(str(tmp_path / "out.tif")).numpy(), expected)
    assert str(plan) == "1 face, because the face box was given; undone: white, smooth, lift, eye"


def test_the_summary_says_when_nothing_was_found(tmp_path, restorer, monkeypatch):
    restore_faces = restorer.restore_faces
    monkeypatch.setattr(
        restorer, "restore_faces", lambda *given: [replace(face, degrees={}) for face in restore_faces(*given)]
    )
    plan = restorer.restore_file(written(tmp_path / "a.png", photo()), tmp_path / "out.png", face_boxes=[BOX])
    assert str(plan) == "1 face, because the face box was given; no retouching found"


def test_an_unretouched_photograph_is_copied(tmp_path, weights):
    restorer = Restorer(weights, device="cpu", precision="fp32", experts=[])
    written(tmp_path / "a.jpg", photo())
    plan = restorer.restore_file(tmp_path / "a.jpg", tmp_path / "out.jpg", face_boxes=[BOX])
    assert "no retouching found" in str(plan)
    assert (tmp_path / "out.jpg").read_bytes() == (tmp_path / "a.jpg").read_bytes()


def test_the_history_says_how_a_photograph_was_restored(tmp_path, weights):
    target = tmp_path / "out.png"
    restorer = Restorer(weights, device="cpu", precision="fp32", seed=5, samples=2, experts=["lift", "eye"])
    restorer.restore_file(written(tmp_path / "in.png", photo()), target, face_boxes=[BOX])
    history = pyvips.Image.new_from_file(str(target)).get("xmp-data")
    for setting in ("seed=5", f"steps={restorer.network.config.steps}", "samples=2", "experts=lift,eye"):
        assert setting.encode() in bytes(history), history


def test_restoring_does_not_load_what_is_slow_to_import(tmp_path):
    photo = make_photo(tmp_path / "a.png", size=(96, 96))
    check_imports("mofrr.cli", ["restore", str(photo), "-o", str(tmp_path / "b.png"), "--face-box", "20,20,40,40"])


def test_the_command_writes_what_it_says(tmp_path, weights):
    written(tmp_path / "a.png", photo())
    result = run(
        tmp_path / "a.png", "-o", tmp_path / "out.png", "--weights", weights, "--face-box", "110,80,60,80",
        "--experts", "white,eye", "--steps", "3", "--seed", "4", "--average-samples", "2", "--report", "--compare",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out.report.json").read_text())
    assert report["photo_sha256"] == sha256(tmp_path / "a.png")
    assert report["weights_sha256"] == MoFRR.from_pretrained(weights).weights_sha256
    assert report["program"].startswith("mofrr 0.")
    assert report["caution"] == CAUTION and report["steps"] == 3 and report["seed"] == 4 and report["samples"] == 2
    (face,) = report["faces"]
    assert set(face["undone"]) == {"white", "eye"} and 1 <= face["undone"]["eye"]["degree"] <= 5
    assert (tmp_path / "out.report.png").is_file() and (tmp_path / "out.compare.jpg").is_file()


def test_the_report_says_what_content_credentials_claim(tmp_path, weights, monkeypatch):
    pytest.importorskip("c2pa")
    certificate, _ = write_certificate(tmp_path)
    written(tmp_path / "a.png", photo())
    options = ["--weights", weights, "--face-box", "110,80,60,80", "--experts", "eye"]
    first = run(tmp_path / "a.png", "-o", tmp_path / "first.png", *options, "--report", "--sign", certificate)
    assert first.exit_code == 0, first.output
    assert json.loads((tmp_path / "first.report.json").read_text())["content_credentials"] is None
    second = [tmp_path / "first.png", "-o", tmp_path / "second.png", *options, "--report", "--overwrite"]
    assert run(*second).exit_code == 0
    found = json.loads((tmp_path / "second.report.json").read_text())["content_credentials"]
    assert found["signature"] == "valid" and found["problems"] == []
    (claim,) = found["manifests"]
    assert claim["signed_by"] == "Photographer" and claim["ingredients"] == ["a.png"]
    edited = claim["actions"][1]
    assert edited["action"] == "c2pa.edited" and edited["program"].startswith("mofrr ")
    square = face_plan.squares_in(photo(), [Face(BOX, 1.0, UNKNOWN)], False)[0]
    assert edited["regions"] == [list(square.bounds(260, 340))]
    monkeypatch.setitem(sys.modules, "c2pa", None)
    assert run(*second).exit_code == 0
    found = json.loads((tmp_path / "second.report.json").read_text())["content_credentials"]
    assert found == {"not read": "pip install 'retouch-common[c2pa]'"}


def test_a_folder_with_a_broken_file(tmp_path, weights):
    (tmp_path / "in").mkdir()
    written(tmp_path / "in" / "a.png", photo())
    (tmp_path / "in" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    result = run(
        tmp_path / "in", "-o", tmp_path / "out", "--weights", weights, "--face-box", "110,80,60,80", "--experts", "eye"
    )
    assert result.exit_code == 1 and "1 of 2 photos could not be restored" in result.output
    assert (tmp_path / "out" / "a.png").is_file() and not (tmp_path / "out" / "b.png").exists()


def test_bad_input_gets_one_line(tmp_path, weights):
    written(tmp_path / "a.png", photo())
    common = [tmp_path / "a.png", "-o", tmp_path / "out.png", "--weights", weights]
    for options, message in (
        (["--experts", "nose"], "Error: unknown expert nose; choose from white, smooth, lift, eye"),
        (["--aligned"], "square"),
        ([], "no face was found; give a face box"),
        (["--weights", "nowhere"], "nowhere"),
    ):
        result = run(*common, *options)
        assert result.exit_code == 1 and message in result.output and not (tmp_path / "out.png").exists()
    assert run(*common, "--aligned", "--face-box", "1,2,3,4").exit_code == 2
    assert "--experts names no operation" in run(*common, "--experts", " , ").output


@pytest.mark.parametrize("name", ["out.png", "out.report.json", "out.report.png", "out.compare.jpg"])
def test_the_command_replaces_nothing_unasked(tmp_path, weights, name):
    written(tmp_path / "a.png", photo())
    (tmp_path / name).write_bytes(b"kept")
    options = ["-o", tmp_path / "out.png", "--weights", weights, "--face-box", "110,80,60,80", "--report", "--compare"]
    result = run(tmp_path / "a.png", *options)
    assert result.exit_code == 1 and f"its output {tmp_path / name} already exists" in result.output
    assert (tmp_path / name).read_bytes() == b"kept" and len(list(tmp_path.iterdir())) == 2


def test_a_report_replaces_no_input(tmp_path, weights):
    written(tmp_path / "a.png", photo())
    written(tmp_path / "a.report.png", photo(100, 100))
    before = (tmp_path / "a.report.png").read_bytes()
    options = ["-o", tmp_path, "--weights", weights, "--face-box", "110,80,60,80", "--report", "--overwrite"]
    result = run(tmp_path / "a.png", tmp_path / "a.report.png", *options)
    assert result.exit_code == 1 and f"its output {tmp_path / 'a.report.png'} is another input" in result.output
    assert (tmp_path / "a.report.png").read_bytes() == before


def test_many_photographs_by_a_glob(tmp_path, weights):
    (tmp_path / "in").mkdir()
    written(tmp_path / "in" / "a.png", photo(128, 128))
    command = ["--manifest", tmp_path / "in" / "*.png", "--results", tmp_path / "r.parquet", "-o", tmp_path / "out"]
    command += ["--aligned", "--experts", ",".join(ALL), "--weights", weights, "--device", "cpu", "--precision", "fp32"]
    result = run(*command)
    assert result.exit_code == 0 and "1 of 1 photos restored, 0 skipped, 0 failed" in result.output
    (row,) = parquet.read_table(tmp_path / "r.parquet").to_pylist()
    before, after = (pyvips.Image.new_from_file(str(tmp_path / folder / "a.png")).numpy() for folder in ("in", "out"))
    assert row["changed"] == pytest.approx((before != after).any(axis=2).mean()) and row["changed"] > 0
    assert (row["status"], row["faces"]) == ("done", 1)


def test_weights_that_explode_are_refused(weights):
    model = MoFRR.from_pretrained(weights)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1e12
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    with pytest.raises(ValueError, match="the network's output holds NaN or infinite values"):
        Restorer(model, device="cpu", precision="fp32")(image, aligned=True)
