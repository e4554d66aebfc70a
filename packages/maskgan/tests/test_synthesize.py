"""Drawn faces with labels: what is written, resuming, and what cannot be drawn."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import pyvips
from click.testing import CliRunner
from maskgan.augment import refuse_test_masks
from maskgan.cli import synthesize as command
from maskgan.data import open_faces, read_aligned_pair
from maskgan.editor import Editor
from maskgan.genders import read_genders
from maskgan.synthesize import find_masks, image_of, synthesize
from PIL import Image
from retouch_common.inference.names import ALIGNED, LABELS
from retouch_common.parsing.data import find_pairs, open_data
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


def masks_of(out):
    return [json.loads(line)["mask"] for line in (out / "pairs.jsonl").read_text().splitlines()]


def test_every_mask_is_used_once_before_any_is_used_again(drawn):
    first = masks_of(drawn("a", number=6))
    assert sorted(first) == [f"{number}.png" for number in range(6)]
    said = []
    more = masks_of(drawn("b", number=12, report=said.append))
    assert more[:6] == first and sorted(more[6:]) == sorted(first) and more[6:] != first
    assert any("there are 6 masks for 12 faces" in line for line in said)


def test_masks_of_a_split(editor, faces, tmp_path):
    """Of a flat folder those of training people only; of one with train/, val/ and test/ those of train/."""
    flat = tmp_path / "flat"
    for name in ("images", "labels"):
        shutil.copytree(faces / "train" / name, flat / name)
    held_out = {labels.name for _, labels in find_pairs(str(flat), "test")}
    masks = {mask.name for mask in find_masks(flat, "train")}
    assert held_out and not masks & held_out and masks < {mask.name for mask in find_masks(flat)}
    assert find_masks(faces, "train") == find_masks(faces / "train")
    options = {"number": 20, "aligned": True, "report": lambda line: None, "split": "train"}
    synthesize(editor, flat, faces / "val" / "images", tmp_path / "out", **options)
    assert set(masks_of(tmp_path / "out")) == masks


@pytest.fixture
def photos(faces, tmp_path):
    """Photographs of other sizes with their labels, as a converted Helen has them: a face in the middle of a frame."""
    for split in ("train", "val", "test"):
        for name in ("images", "labels"):
            (tmp_path / "helen" / split / name).mkdir(parents=True)
            for file in (faces / split / name).iterdir():
                levels = np.asarray(Image.open(file))
                room = ((30, 50), (20, 40), *[(0, 0)] * (levels.ndim - 2))
                large = np.pad(np.kron(levels, np.ones((2, 2, *[1] * (levels.ndim - 2)), np.uint8)), room)
                if name == "labels":
                    write_labels(tmp_path / "helen" / split / name / file.name, large)
                else:
                    Image.fromarray(large).save(tmp_path / "helen" / split / name / file.name)
    return tmp_path / "helen"


def test_masks_of_photographs_are_aligned(photos, drawn, faces, editor, tmp_path):
    options = {"number": 3, "aligned": True, "report": lambda line: None}
    synthesize(editor, photos, faces / "val" / "images", tmp_path / "out", split="train", **options)
    known = open_faces(str(photos), size=64, split="train", seed=0)
    trained = [known[index]["labels"].numpy() for index in range(len(known))]
    for file in (tmp_path / "out" / "labels").iterdir():
        assert any(np.array_equal(read_labels(file), labels) for labels in trained), "as in training"
    synthesize(editor, photos, faces / "val" / "images", tmp_path / "leaked", split="test", **options)
    with pytest.raises(ValueError, match="is the mask of a test face"):
        refuse_test_masks(str(photos), tmp_path / "leaked")


def test_a_mask_gets_sources_of_its_gender(drawn, editor, faces, tmp_path):
    genders = ({f"{number}": "female" if number < 3 else "male" for number in range(6)}, {"6": "female", "8": "male"})
    for mix in (False, True):
        out = drawn(f"mix {mix}", number=12, genders=genders, mix=mix)
        for line in map(json.loads, (out / "pairs.jsonl").read_text().splitlines()):
            assert set(line["sources"].values()) == ({"6.png"} if int(line["mask"][0]) < 3 else {"8.png"})
    with pytest.raises(ValueError, match="begun with other genders"):
        drawn("mix False", number=12, genders=(genders[0], {"6": "female", "7": "male"}))
    with pytest.raises(ValueError, match=r"5\.png: not in the table of the masks' genders"):
        drawn("a", genders=({name: "male" for name in "01234"}, genders[1]))
    with pytest.raises(ValueError, match="no source of gender male"):
        drawn("b", number=6, genders=(genders[0], {"6": "female"}))


def test_tables_of_genders(tmp_path):
    table = tmp_path / "table.txt"
    table.write_text("2\n5_o_Clock_Shadow Male Young\n000001.jpg -1 -1  1\n000002.jpg  1  1 -1\n")
    assert read_genders(table) == {"000001": "female", "000002": "male"}
    table.write_text("file,gender\na.labels.png,f\nb.png,Male\n\n")
    assert read_genders(table) == {"a": "female", "b": "male"}
    table.write_text("image_id,Bald,Male\n000001.jpg,-1,1\n")
    assert read_genders(table) == {"000001": "male"}
    for text, message in (("", "no column"), ("a,b\nc,m\n", "no column"), ("file,gender\na.png,x\n", "a.png has no")):
        table.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_genders(table)


def test_the_command_reads_genders(faces, tmp_path, weights, parser_weights):
    arguments = ["--masks", faces / "train", "--sources", faces / "val" / "images", "--n", 1, "--out", tmp_path / "out"]
    arguments += ["--weights", weights, "--parser", parser_weights, "--device", "cpu", "--aligned"]
    (tmp_path / "masks.csv").write_text("file,gender\n0.png,f\n")
    arguments += ["--mask-genders", tmp_path / "masks.csv"]
    result = CliRunner().invoke(command, list(map(str, arguments)))
    assert result.exit_code == 2 and "belong together" in result.output
    result = CliRunner().invoke(command, list(map(str, [*arguments, "--source-genders", tmp_path / "masks.csv"])))
    assert result.exit_code == 1 and "1.png: not in the table of the masks' genders, nor are 4 others" in result.output


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


def test_masks_are_found_as_parse_writes_them(tmp_path, faces, monkeypatch):
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
    with monkeypatch.context() as patched:
        patched.delattr(Path, "iterdir")  # a large folder is not listed for every mask
        for stem, suffix in (("0", ".JPG"), ("1", ".Png")):
            image = tmp_path / "set" / "images" / f"{stem}{suffix}"
            image.touch()
            assert image_of(tmp_path / "set" / "labels" / f"{stem}.png") == image
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
    (tmp_path / "sources").mkdir()
    pyvips.Image.black(64, 64, bands=3).write_to_file(str(tmp_path / "sources" / "a.png"))
    arguments = ("--masks", tmp_path / "masks", "--sources", tmp_path / "sources", "--n", "1",
                 "--weights", weights, "--parser", parser_weights, "--device", "cpu", "--aligned")  # fmt: skip
    for out, message in (("out", "a.png: has 10x10 pixels, not 64x64"), ("sources/out", "out: is inside the data")):
        result = CliRunner().invoke(command, [*map(str, arguments), "-o", str(tmp_path / out)])
        assert result.exit_code == 1 and message in result.output
    assert not (tmp_path / "sources" / "out").exists()


def test_a_mask_whose_photo_has_another_size_is_named(faces, tmp_path):
    mask, image = faces / "train" / "labels" / "0.png", tmp_path / "0.png"
    pyvips.Image.black(64, 50, bands=3).write_to_file(str(image))
    with pytest.raises(ValueError, match=r"0\.png: has 64x50 pixels, not 64x64 as its labels"):
        read_aligned_pair(mask, image, 64)


def test_a_set_does_not_begin_among_other_files(tmp_path, weights, parser_weights, faces):
    """A training set, say, whose pictures have the same names."""
    kept = tmp_path / "images" / "000000.png"
    kept.parent.mkdir()
    kept.write_bytes(b"kept")
    arguments = ["--masks", faces / "train", "--sources", faces / "train" / "images", "--n", 1, "--out", tmp_path]
    arguments += ["--weights", weights, "--parser", parser_weights, "--device", "cpu", "--aligned"]
    result = CliRunner().invoke(command, list(map(str, arguments)))
    assert result.exit_code == 1 and f"{tmp_path}: is not empty" in result.output
    assert kept.read_bytes() == b"kept" and list(tmp_path.iterdir()) == [kept.parent]
