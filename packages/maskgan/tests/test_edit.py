"""Photographs in memory and as files, through ``Editor`` and the commands, with tiny untrained networks."""

import os
from dataclasses import replace

import maskgan.editor as editor_module
import numpy as np
import pytest
import pyvips
import torch
from click.testing import CliRunner
from maskgan.cli import edit, parse, swap
from maskgan.edit_files import EditOptions, _in_face, _in_photo, edit_file, open_reference, swap_file
from maskgan.editor import Editor
from maskgan.model import Codes, MaskGAN
from pyarrow import parquet
from retouch_common.faces.face import Face
from retouch_common.inference import face_plan, regions
from retouch_common.parsing.labels import CLASSES, read_labels, write_labels
from retouch_common.parsing.parser import FaceParser
from retouch_common.photo.io import Photo
from retouch_common.testing.imports import check_imports

BOX = (110.0, 80.0, 60.0, 80.0)
FACE = Face(BOX, 1.0, np.full((5, 2), np.nan, np.float32))
HAIR = CLASSES.index("hair")
BOXED = ("--face-box", "110,80,60,80", "--device", "cpu")


@pytest.fixture(scope="module")
def editor(weights, parser_weights):
    return Editor(weights, parser=parser_weights, device="cpu", precision="fp32")


@pytest.fixture(autouse=True)
def no_detector(monkeypatch):
    """Faces are where a test says; by default nowhere."""
    monkeypatch.setattr(regions, "detect_faces", lambda image: [])
    monkeypatch.setattr(face_plan, "detect_faces", lambda image: [])


@pytest.fixture
def labels(drawn_labels):
    return drawn_labels(1)[0].numpy().astype(np.uint8)


def photo(height=260, width=340, dtype=np.uint8, phase=0):
    y, x = np.mgrid[:height, :width]
    values = 0.55 + 0.25 * np.sin(x[..., None] / 31 + y[..., None] / 47 + phase + np.arange(3))
    values = values + np.random.default_rng(3).normal(0, 0.02, values.shape)
    return (values.clip(0, 1) * np.iinfo(dtype).max).astype(dtype)


def written(path, pixels):
    deep = pixels.dtype == np.uint16
    pyvips.Image.new_from_array(pixels).copy(interpretation="rgb16" if deep else "srgb").write_to_file(str(path))
    return path


def read(path):
    return pyvips.Image.new_from_file(str(path)).numpy()


def run(command, *arguments):
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def test_the_given_model_is_not_modified(weights, parser_weights):
    model = MaskGAN.from_pretrained(weights).train()
    before = {name: value.stride() for name, value in model.named_parameters()}
    Editor(model, parser=parser_weights, device="cpu", precision="fp32")
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())
    assert {name: value.stride() for name, value in model.named_parameters()} == before


def test_strokes_decode_the_codes_and_find_the_hair_once(editor, parser_weights, labels, monkeypatch):
    image = photo()
    portrait = editor.open(image, face=FACE, labels=labels)
    strokes = [np.where(np.indices(labels.shape)[0] < rows, HAIR, labels).astype(np.uint8) for rows in (20, 30)]
    expected = []
    for stroke in strokes:
        fresh = Editor(editor.model, parser=parser_weights, device="cpu", precision="fp32")
        opened = fresh.open(image, face=FACE, labels=labels)
        expected.append(fresh.render(opened, stroke, opened.codes).finished)
    calls = []
    matte, decode = editor_module.hair_matte, MaskGAN.decode
    monkeypatch.setattr(editor_module, "hair_matte", lambda *given: calls.append("hair") or matte(*given))
    monkeypatch.setattr(MaskGAN, "decode", lambda *given: calls.append("codes") or decode(*given))
    opened = replace(portrait, codes=Codes(portrait.codes.values, portrait.codes.present))
    for stroke, result in zip(strokes, expected, strict=True):
        np.testing.assert_array_equal(editor.render(opened, stroke, opened.codes).finished, result)
    assert sorted(calls) == ["codes", "hair"]
    assert (expected[0] != expected[1]).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_without_an_edit_no_bit_changes(editor, labels, dtype):
    image = photo(dtype=dtype)
    portrait = editor.open(image, face=FACE, labels=labels)
    edited = editor.render(portrait, labels, portrait.codes)
    assert not edited.region.any()
    np.testing.assert_array_equal(editor.paste(image, portrait, edited), image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_painted_mask_changes_the_face_and_nothing_around_it(editor, labels, dtype):
    image = photo(dtype=dtype)
    portrait = editor.open(image, face=FACE, labels=labels)
    painted = labels.copy()
    painted[painted == HAIR] = 1
    edited = editor.render(portrait, painted, portrait.codes)
    result = editor.paste(image, portrait, edited)
    assert result.dtype == dtype and result.shape == image.shape
    x, y, w, h = portrait.square.bounds(*image.shape[:2])
    inside = np.zeros(image.shape[:2], bool)
    inside[y : y + h, x : x + w] = True
    np.testing.assert_array_equal(result[~inside], image[~inside])
    assert (result != image).any(axis=2)[inside].mean() > 0.1


def test_what_an_edit_uncovers_is_continued_from_behind(editor, labels):
    """Hair that becomes background leaves no hair in what the network sees as background."""
    image = photo(64, 64)
    portrait = editor.open(image, aligned=True, labels=labels)
    bald = np.where(labels == HAIR, 0, labels).astype(np.uint8)
    seen = editor._background(portrait, bald)[0].permute(1, 2, 0).numpy()
    own = 2 * portrait.image - 1
    np.testing.assert_array_equal(seen[labels == 0], own[labels == 0])
    np.testing.assert_array_equal(seen[(labels > 0) & (labels != HAIR)], own[(labels > 0) & (labels != HAIR)])
    assert np.abs(seen[labels == HAIR] - own[labels == HAIR]).mean() > 0.01


def test_blending_is_linear_between_two_faces(editor, labels):
    first, second = (editor.open(photo(64, 64, phase=p), aligned=True, labels=labels) for p in (0, 2))
    half = editor.blend(first.codes, {"hair": (second.codes, 0.5)})
    mean = (first.codes.values["hair"] + second.codes.values["hair"]) / 2
    assert np.allclose(half.values["hair"], mean, atol=1e-6)
    assert half.values["skin"] is first.codes.values["skin"]
    none = editor.render(first, labels, editor.blend(first.codes, {"mouth": (second.codes, 0.0)}))
    assert not none.change.any()


def test_a_part_that_is_not_there_is_not_lent(editor, labels):
    bald = np.where(labels == HAIR, 0, labels).astype(np.uint8)
    own, other = (editor.open(photo(64, 64), aligned=True, labels=these) for these in (labels, bald))
    assert not other.codes.shows("hair") and own.codes.shows("hair")
    with pytest.raises(ValueError, match="shows no hair"):
        editor.blend(own.codes, {"hair": (other.codes, 1.0)})
    # who has none takes all of it, whatever the share
    grown = editor.blend(other.codes, {"hair": (own.codes, 0.3)})
    assert grown.shows("hair")
    assert np.array_equal(grown.values["hair"], own.codes.values["hair"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda labels: labels[:32], "64x32 pixels, the aligned face has 64x64"),
        (lambda labels: labels + 9, "classes 9 to 19"),
        (lambda labels: labels.astype(int) - 1, "classes -1 to 9"),
        (lambda labels: labels + 0.5, "are float64, not integers"),
    ],
)
def test_wrong_labels_are_refused(editor, labels, change, message):
    with pytest.raises(ValueError, match=message):
        editor.open(photo(64, 64), aligned=True, labels=change(labels))


def test_unknown_components_and_shares_are_refused(editor, labels):
    codes = editor.open(photo(64, 64), aligned=True, labels=labels).codes
    with pytest.raises(ValueError, match="unknown component 'ear'"):
        editor.blend(codes, {"ear": (codes, 1.0)})
    with pytest.raises(ValueError, match="between 0 and 1"):
        editor.blend(codes, {"hair": (codes, 1.5)})


def test_parse_writes_labels_to_paint_in_and_keeps_painted_ones(tmp_path, parser_weights):
    source = written(tmp_path / "a.png", photo())
    out = tmp_path / "out"
    arguments = (parse, source, "-o", out, "--parser", parser_weights, *BOXED)
    result = run(*arguments, "--overlay")
    assert result.exit_code == 0 and str(out / "a.labels.png") in result.output
    labels = read_labels(out / "a.labels.png")
    assert labels.shape == (64, 64) and read(out / "a.aligned.png").shape == (64, 64, 3)
    assert read(out / "a.overlay.png").shape == (64, 64, 3)
    result = run(*arguments, "--whole")
    assert result.exit_code == 1 and "a.labels.png already exists" in result.output
    np.testing.assert_array_equal(read_labels(out / "a.labels.png"), labels)
    result = run(*arguments, "--whole", "--overwrite")
    assert result.exit_code == 0, result.output
    whole = read_labels(out / "a.labels.png")
    assert whole.shape == (260, 340)
    assert set(np.unique(whole)) <= set(np.unique(labels)) | {0}


def test_labels_of_the_same_name_are_numbered_and_files_for_folders_are_refused(tmp_path, parser_weights):
    first, second = (written(tmp_path / name, photo()) for name in ("a.png", "a.jpg"))
    result = run(parse, first, second, "-o", tmp_path / "out", "--parser", parser_weights, *BOXED)
    assert result.exit_code == 0, result.output
    names = [f"{stem}.{kind}.png" for stem in ("a-2", "a") for kind in ("aligned", "labels")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    result = run(parse, first, "-o", tmp_path / "out.png", "--parser", parser_weights, *BOXED)
    assert result.exit_code == 1 and "go into a folder" in result.output


def test_labels_of_the_whole_photo_come_back_to_the_face(tmp_path, editor, parser_weights):
    """A face whose labels are drawn into the photo and read again has nearly the same ones."""
    source = Photo.open(written(tmp_path / "a.png", photo()))
    square = editor.find(photo(), face=FACE)
    labels = np.repeat(np.arange(8, dtype=np.uint8), 8)[:, None] * np.ones((1, 64), np.uint8)
    again = _in_face(_in_photo(labels, square, source), square, 64)
    assert (again == labels).mean() > 0.9


def test_edit_keeps_the_file_and_changes_the_face(tmp_path, weights, parser_weights, labels):
    source = written(tmp_path / "a.png", photo(dtype=np.uint16))
    networks = ("--weights", weights, "--parser", parser_weights, "--precision", "fp32")
    write_labels(tmp_path / "mask.png", np.full((64, 64), 1, np.uint8))
    arguments = (source, "--mask", tmp_path / "mask.png", "-o", tmp_path / "out.png", "--compare")
    result = run(edit, *arguments, *networks, *BOXED)
    assert result.exit_code == 0, result.output
    assert "of the labels differ; no left eye: it has no appearance to take" in result.output
    out = read(tmp_path / "out.png")
    assert out.dtype == np.uint16 and (out != photo(dtype=np.uint16)).any()
    assert (tmp_path / "out.compare.jpg").is_file()
    write_labels(tmp_path / "mask.png", np.zeros((10, 20), np.uint8))
    result = run(edit, *arguments, "--overwrite", *networks, *BOXED)
    assert result.exit_code == 1 and "mask.png: has 20x10 pixels; the aligned face has 64x64" in result.output


def test_swap_takes_parts_of_another(tmp_path, weights, parser_weights, labels, monkeypatch):
    monkeypatch.setattr(FaceParser, "__call__", lambda self, image: labels)
    first = written(tmp_path / "a.png", photo(64, 64))
    second = written(tmp_path / "b.png", photo(64, 64, phase=2))
    networks = ("--weights", weights, "--parser", parser_weights, "--precision", "fp32", "--device", "cpu", "--aligned")
    result = run(swap, second, first, "--parts", "ear", "-o", tmp_path / "out.png", *networks)
    assert result.exit_code == 2 and "'ear' is none of" in result.output
    result = run(swap, first, tmp_path / "missing.png", "-o", tmp_path / "out.png", *networks)
    assert result.exit_code == 1 and "missing.png" in result.output
    assert not (tmp_path / "out.png").exists()
    result = run(swap, second, first, "--parts", "skin", "-o", tmp_path / "out.png", *networks)
    assert result.exit_code == 0 and "took skin" in result.output, result.output
    changed = (read(tmp_path / "out.png") != read(first)).any(axis=2)
    skin = np.isin(labels, (1, 2, 3, 6))
    assert changed[skin].mean() > 0.1  # of an untrained network's answers many are too small for eight bits
    assert not changed[labels == 0][:40].any()  # the background above the head


def test_the_photo_whose_parts_are_taken_is_limited(tmp_path, weights, parser_weights):
    large, small = written(tmp_path / "a.png", photo()), written(tmp_path / "b.png", photo(64, 64))
    networks = ("--weights", weights, "--parser", parser_weights, "--device", "cpu", "--aligned")
    result = run(swap, large, small, "-o", tmp_path / "out.png", *networks, "--max-pixels", "10000")
    assert result.exit_code == 1 and "a.png: has 340x260 pixels, more than the 0.01 million" in result.output


def test_parsed_photos_are_limited(tmp_path, parser_weights):
    large = written(tmp_path / "a.png", photo())
    networks = ("--parser", parser_weights, "--device", "cpu", "--face-box", "10,10,100,100")
    result = run(parse, large, "-o", tmp_path / "out", *networks, "--max-pixels", "10000")
    assert result.exit_code == 1 and "a.png: has 340x260 pixels, more than the 0.01 million" in result.output
    assert run(parse, large, "-o", tmp_path / "out", *networks, "--max-pixels", "100000").exit_code == 0


def test_edited_photo_has_the_quality_and_the_time_asked_for(tmp_path, weights, parser_weights, labels, monkeypatch):
    monkeypatch.setattr(FaceParser, "__call__", lambda self, image: labels)
    source = written(tmp_path / "a.png", photo(64, 64))
    os.utime(source, (1_000_000, 1_000_000))
    write_labels(tmp_path / "mask.png", labels)
    networks = ("--weights", weights, "--parser", parser_weights, "--device", "cpu", "--aligned")
    for quality in (5, 100):
        out = ("-o", tmp_path / f"{quality}.jpg", "--quality", quality, "--keep-times")
        result = run(edit, source, "--mask", tmp_path / "mask.png", *out, *networks)
        assert result.exit_code == 0, result.output
        assert (tmp_path / f"{quality}.jpg").stat().st_mtime == 1_000_000
    assert (tmp_path / "5.jpg").stat().st_size < 0.7 * (tmp_path / "100.jpg").stat().st_size


def test_photo_without_a_change_is_copied(tmp_path, editor, labels, monkeypatch):
    monkeypatch.setattr(editor, "parser", lambda image: labels)
    source, out, how = written(tmp_path / "a.jpg", photo(64, 64)), tmp_path / "out.jpg", EditOptions(aligned=True)
    write_labels(tmp_path / "mask.png", labels)
    edit_file(editor, source, out, tmp_path / "mask.png", how)
    assert out.read_bytes() == source.read_bytes()
    reference = open_reference(editor, written(tmp_path / "b.png", photo(64, 64, phase=2)), ["mouth"], how)
    swap_file(editor, reference, source, tmp_path / "same.jpg", ["mouth"], 0.0, how)
    assert (tmp_path / "same.jpg").read_bytes() == source.read_bytes()


def test_swap_file_changes_what_was_asked_for(tmp_path, editor, labels, monkeypatch):
    parsed = labels
    monkeypatch.setattr(editor, "parser", lambda image: parsed)
    first = written(tmp_path / "a.png", photo(64, 64))
    second = written(tmp_path / "b.png", photo(64, 64, phase=2))
    how = EditOptions(aligned=True)
    reference = open_reference(editor, second, ["mouth", "hair"], how)
    assert swap_file(editor, reference, first, tmp_path / "out.png", ["mouth"], 1.0, how) == "took mouth"
    changed = (read(tmp_path / "out.png") != read(first)).any(axis=2)
    mouth = np.isin(labels, (7, 8, 9))
    assert changed[mouth].mean() > 3 * changed[~mouth].mean()
    swap_file(editor, reference, first, tmp_path / "same.png", ["mouth"], 0.0, how)
    np.testing.assert_array_equal(read(tmp_path / "same.png"), read(first))
    parsed = np.where(labels == HAIR, 0, labels).astype(np.uint8)
    said = swap_file(editor, reference, first, tmp_path / "bald.png", ["mouth", "hair"], 1.0, how)
    assert said == "took mouth; the face has no hair"
    with pytest.raises(ValueError, match=r"b\.png: shows no hair to take"):
        open_reference(editor, second, ["hair"], how)


def test_the_history_says_what_was_taken_of_another_face(tmp_path, editor, labels, monkeypatch):
    monkeypatch.setattr(editor, "parser", lambda image: labels)
    first, second = (written(tmp_path / f"{n}.png", photo(64, 64, phase=n)) for n in (0, 2))
    how, out, parts = EditOptions(aligned=True), tmp_path / "out.png", ["mouth", "skin"]
    swap_file(editor, open_reference(editor, second, parts, how), first, out, parts, 0.75, how)
    history = bytes(pyvips.Image.new_from_file(str(out)).get("xmp-data"))
    assert b"aligned=True; adapt=0; parts_of_another_face=mouth,skin; blend=0.75; weights sha256:" in history
    write_labels(tmp_path / "mask.png", np.where(labels == HAIR, 0, labels).astype(np.uint8))
    edit_file(editor, first, tmp_path / "edited.png", tmp_path / "mask.png", how)
    assert b"parts" not in bytes(pyvips.Image.new_from_file(str(tmp_path / "edited.png")).get("xmp-data"))


def test_one_face_at_a_time():
    with pytest.raises(ValueError, match="one face is edited at a time"):
        EditOptions(face_boxes=(BOX, BOX))


@pytest.mark.parametrize("name", ["a.labels.png", "a.aligned.png", "a.overlay.png"])
def test_parse_replaces_nothing_unasked_and_no_input_ever(tmp_path, parser_weights, name):
    (tmp_path / "out").mkdir()
    source, other = written(tmp_path / "a.png", photo()), written(tmp_path / "out" / name, photo())
    before = other.read_bytes()
    arguments = (parse, source, "-o", tmp_path / "out", "--parser", parser_weights, "--overlay", *BOXED)
    result = run(*arguments)
    assert result.exit_code == 1 and f"{other} already exists" in result.output
    result = run(*arguments, other, "--overwrite")
    assert result.exit_code == 1 and f"{source}: its output {other} is another input" in result.output
    assert other.read_bytes() == before
    assert run(*arguments, "--overwrite").exit_code == 0 and other.read_bytes() != before


@pytest.mark.parametrize("name", ["out.png", "out.compare.jpg"])
def test_edit_and_swap_replace_nothing_unasked_and_no_input_ever(
    tmp_path, weights, parser_weights, name, labels, monkeypatch
):
    monkeypatch.setattr(FaceParser, "__call__", lambda self, image: labels)
    source, other = (written(tmp_path / file, photo(64, 64)) for file in ("a.png", name))
    write_labels(tmp_path / "mask.png", np.full((64, 64), 1, np.uint8))
    before = other.read_bytes()
    options = ("-o", tmp_path / "out.png", "--weights", weights, "--parser", parser_weights, "--compare", "--aligned")
    for arguments in ((edit, source, "--mask", tmp_path / "mask.png"), (swap, source, source, "--parts", "skin")):
        result = run(*arguments, *options)
        assert result.exit_code == 1 and f"{other} already exists" in result.output
    result = run(swap, other, source, *options, "--parts", "skin", "--overwrite")
    assert result.exit_code == 1, result.output
    assert f"its output {other} is another input" in result.output
    assert other.read_bytes() == before


def test_a_mask_is_not_written_over(tmp_path, weights, parser_weights):
    source, mask = written(tmp_path / "a.png", photo()), tmp_path / "out.png"
    write_labels(mask, np.full((64, 64), 1, np.uint8))
    before = mask.read_bytes()
    options = ("-o", mask, "--weights", weights, "--parser", parser_weights, "--overwrite", *BOXED)
    result = run(edit, source, "--mask", mask, *options)
    assert result.exit_code == 1 and f"its output {mask} is another input" in result.output
    assert mask.read_bytes() == before


@pytest.mark.parametrize(("size", "box"), [((120, 160), "60,40,24,32"), ((64, 64), "20,16,24,32")])
def test_labels_of_the_whole_photo_without_an_edit_change_nothing(weights, parser_weights, tmp_path, size, box):
    """The face is smaller than the network's: its labels are resampled twice, which is no edit.

    Also of a photo that is as large as the aligned face.
    """
    source = written(tmp_path / "a.png", photo(*size))
    options = ("--face-box", box, "--device", "cpu", "--parser", parser_weights)
    assert run(parse, source, "-o", tmp_path / "labels", "--whole", *options).exit_code == 0
    mask = tmp_path / "labels" / "a.labels.png"
    assert len(np.unique(read_labels(mask))) > 1
    result = run(edit, source, "--mask", mask, "-o", tmp_path / "b.png", "--weights", weights, *options)
    assert result.exit_code == 0 and "0.0% of the labels differ" in result.output
    np.testing.assert_array_equal(read(tmp_path / "b.png"), read(source))


def test_many_photographs_are_parsed_by_a_list(tmp_path, parser_weights):
    written(tmp_path / "a.png", photo())
    (tmp_path / "list.txt").write_text("a.png\ngone.png\n")
    command = ["--manifest", tmp_path / "list.txt", "--results", tmp_path / "r.parquet", "-o", tmp_path / "out"]
    result = run(parse, *command, "--parser", parser_weights, *BOXED, "--workers", "1")
    assert result.exit_code == 1 and "1 of 2 photos parsed, 0 skipped, 1 failed" in result.output
    a, gone = sorted(parquet.read_table(tmp_path / "r.parquet").to_pylist(), key=lambda row: row["path"])
    assert (a["status"], a["faces"], a["changed"]) == ("done", 1, None)
    assert a["weights"] == FaceParser(parser_weights, "cpu").model.weights_sha256
    assert gone["reason"].endswith("gone.png: no such file")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.aligned.png", "a.labels.png"]


def test_parsing_and_editing_do_not_load_what_is_slow_to_import(tmp_path):
    path, labels = str(written(tmp_path / "a.png", photo())), str(tmp_path / "a.labels.png")
    check_imports(
        "maskgan.cli",
        ["parse", path, "-o", str(tmp_path), *BOXED],
        ["edit", path, "--mask", labels, "-o", str(tmp_path / "b.png"), *BOXED],
    )


def test_weights_that_explode_are_refused(weights, parser_weights, labels):
    model = MaskGAN.from_pretrained(weights)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1e12
    editor = Editor(model, parser=parser_weights, device="cpu", precision="fp32")
    with pytest.raises(ValueError, match="the network's output holds NaN or infinite values"):
        editor.open(photo(64, 64), labels=labels, aligned=True)
