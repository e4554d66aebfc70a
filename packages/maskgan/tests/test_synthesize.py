"""Drawn faces with labels: what is written, resuming, and what cannot be drawn."""

import json
import shutil

import numpy as np
import pytest
import pyvips
from click.testing import CliRunner
from maskgan.cli import synthesize as command
from maskgan.editor import Editor
from maskgan.synthesize import find_masks, image_of, synthesize
from retouch_common.inference.names import ALIGNED, LABELS
from retouch_common.parsing.data import open_data
from retouch_common.parsing.labels import read_labels, write_labels
from retouch_common.parsing.parser import FaceParser


@pytest.fixture
def editor(weights, parser_weights, faces, monkeypatch):
    """Its parser sees in every face what the first one's labels say."""
    labels = read_labels(faces / "train" / "labels" / "0.png")
    monkeypatch.setattr(FaceParser, "__call__", lambda self, image: labels)
    return Editor(weights, parser=parser_weights, device="cpu", precision="fp32")


@pytest.fixture
def drawn(editor, faces, tmp_path):
    def run(name="out", number=4, **options):
        how = {"number": number, "aligned": True, "report": lambda line: None} | options
        synthesize(editor, faces / "train", faces / "val" / "images", tmp_path / name, **how)
        return tmp_path / name

    return run


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_set_for_training_a_parser(drawn, faces):
    out = drawn()
    lines = [json.loads(line) for line in (out / "pairs.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == [f"{i:06d}.png" for i in range(4)]
    for line in lines:
        labels = read_labels(out / "labels" / line["file"])
        np.testing.assert_array_equal(labels, read_labels(faces / "train" / "labels" / line["mask"]))
        assert len(set(line["sources"].values())) == 1  # one person's appearance
    sample = open_data(str(out), size=64, split="all")[0]
    assert sample["image"].shape == (3, 64, 64)


def test_a_killed_run_goes_on(drawn):
    whole = contents(drawn("a"))
    begun = drawn("b", number=2)
    (begun / "labels" / "000001.png").unlink()  # killed between the picture and its labels
    kept = (begun / "images" / "000000.png").stat().st_mtime_ns
    assert contents(drawn("b")) == whole
    assert (begun / "images" / "000000.png").stat().st_mtime_ns == kept


def test_other_seeds_draw_other_faces(drawn):
    assert contents(drawn("a", number=3)) != contents(drawn("b", number=3, seed=1))


def test_a_set_is_not_gone_on_with_otherwise(drawn):
    out = drawn(number=1)
    before = contents(out)
    with pytest.raises(ValueError, match=r"settings\.json: was begun with other mix, seed"):
        drawn(number=2, seed=1, mix=True)
    assert contents(out) == before


def test_sources_in_subfolders_are_told_apart_and_unreadable_ones_skipped(editor, faces, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "sources" / name).mkdir(parents=True)
        shutil.copy(faces / "val" / "images" / "6.png", tmp_path / "sources" / name)
    (tmp_path / "sources" / "broken.png").write_bytes(b"no picture")
    said = []
    options = {"number": 8, "aligned": True, "report": said.append}
    synthesize(editor, faces / "train", tmp_path / "sources", tmp_path / "out", **options)
    lines = [json.loads(line) for line in (tmp_path / "out" / "pairs.jsonl").read_text().splitlines()]
    assert {line["sources"]["hair"] for line in lines} == {"a/6.png", "b/6.png"}
    (skipped,) = (line for line in said if line.startswith("skipped"))
    assert "broken.png" in skipped


def test_mixing_takes_every_part_from_somebody(drawn):
    out = drawn(number=6, mix=True)
    lines = [json.loads(line) for line in (out / "pairs.jsonl").read_text().splitlines()]
    assert any(len(set(line["sources"].values())) > 1 for line in lines)


def test_masks_are_found_as_parse_writes_them(tmp_path, faces):
    shutil.copy(faces / "train" / "labels" / "0.png", tmp_path / f"a{LABELS}")
    shutil.copy(faces / "train" / "images" / "0.png", tmp_path / f"a{ALIGNED}")
    (mask,) = find_masks(tmp_path)
    assert mask.name == f"a{LABELS}" and image_of(mask) == tmp_path / f"a{ALIGNED}"
    mask = find_masks(faces / "train")[0]
    assert image_of(mask) == faces / "train" / "images" / "0.png"
    for name in ("0.old.png", "0.txt"):
        (tmp_path / "set" / "images").mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / "images" / name).touch()
    assert image_of(tmp_path / "set" / "labels" / "0.png") is None
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no label images"):
        find_masks(tmp_path / "empty")


def test_a_mask_that_nobody_fits_is_named(editor, faces, tmp_path, monkeypatch):
    """Everybody is bald and the mask has hair."""
    labels = read_labels(faces / "train" / "labels" / "0.png")
    bald = np.where(labels == 10, 0, labels).astype(np.uint8)
    monkeypatch.setattr(FaceParser, "__call__", lambda self, image: bald)
    with pytest.raises(ValueError, match=r"none of 20 drawn sources has .*hair"):
        synthesize(editor, faces / "train", faces / "val" / "images", tmp_path / "out", number=1, aligned=True)


def test_the_command_names_what_is_wrong(faces, tmp_path, weights, parser_weights):
    (tmp_path / "masks").mkdir()
    write_labels(tmp_path / "masks" / "a.png", np.ones((10, 10), np.uint8))
    pyvips.Image.black(64, 64, bands=3).write_to_file(str(tmp_path / "a.png"))
    arguments = ("--masks", tmp_path / "masks", "--sources", tmp_path, "--n", "1", "-o", tmp_path / "out",
                 "--weights", weights, "--parser", parser_weights, "--device", "cpu", "--aligned")  # fmt: skip
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exit_code == 1 and "a.png: has 10x10 pixels, not 64x64" in result.output


def test_a_set_does_not_begin_among_other_files(tmp_path, weights, parser_weights, faces):
    """A training set, say, whose pictures have the same names."""
    kept = tmp_path / "images" / "000000.png"
    kept.parent.mkdir()
    kept.write_bytes(b"kept")
    arguments = ["--masks", faces / "train", "--sources", faces / "train" / "images", "--n", 1, "--out", tmp_path]
    arguments += ["--weights", weights, "--parser", parser_weights, "--device", "cpu", "--aligned"]
    result = CliRunner().invoke(command, list(map(str, arguments)))
    assert result.exit_code == 1 and f"{tmp_path}: holds other files already" in result.output
    assert kept.read_bytes() == b"kept" and list(tmp_path.iterdir()) == [kept.parent]
