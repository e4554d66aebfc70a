"""Every published layout, as a small tree: what comes out is read by training."""

import numpy as np
import pytest
import pyvips
from click.testing import CliRunner
from maskgan.parser_cli import KINDS as NAMED
from maskgan.parser_cli import convert as command
from PIL import Image
from retouch_common.parsing import templates
from retouch_common.parsing.converters import CELEBAMASK_PARTS, KINDS, convert, left_is_left
from retouch_common.parsing.data import find_pairs
from retouch_common.parsing.labels import CLASSES, read_labels

SIZE = 32


def picture(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    pyvips.Image.new_from_array(pixels).write_to_file(str(path))


def grey(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def striped(order=range(11)):
    """Three columns of each class, from left to right."""
    labels = np.zeros((SIZE, SIZE), np.uint8)
    for column, name in enumerate(order):
        labels[:, 3 * column : 3 * column + 3] = name
    return labels


def refused(kind, source, out):
    """What is said of pictures that are left out."""
    said = []
    with pytest.raises(ValueError, match="images were skipped; the lines above say why"):
        convert(kind, source, out, report=said.append)
    return "\n".join(said)


def test_left_is_where_the_picture_has_it():
    swapped = striped([0, 1, 3, 2, 5, 4, 6, 7, 8, 9, 10])
    np.testing.assert_array_equal(left_is_left(swapped), striped())
    np.testing.assert_array_equal(left_is_left(striped()), striped())


def test_a_pair_tells_whose_left_a_single_eye_has():
    swapped = striped([0, 1, 3, 2, 5, 4, 6, 7, 8, 9, 10])
    single = np.where(swapped == 4, 0, swapped)
    np.testing.assert_array_equal(left_is_left(single) == 4, single == 5)
    alone = np.where(single == 2, 0, single)
    np.testing.assert_array_equal(left_is_left(alone), alone)


def test_helen(tmp_path):
    source, truth = tmp_path / "helen", striped([0, 1, 3, 2, 5, 4, 6, 7, 8, 9, 10])
    for name in ("100_1", "200_1"):
        picture(source / "images" / f"{name}.jpg")
        for number in range(11):
            grey(source / "labels" / name / f"{name}_lbl{number:02d}.png", np.where(truth == number, 180, 20))
    (source / "exemplars.txt").write_text("1 , 100_1\n\n")
    (source / "testing.txt").write_text("1 , 200_1\n")
    assert convert("helen", source, tmp_path / "out", report=lambda line: None) == 2
    np.testing.assert_array_equal(read_labels(tmp_path / "out/train/labels/100_1.png"), striped())
    assert (tmp_path / "out/test/images/200_1.jpg").read_bytes() == (source / "images/200_1.jpg").read_bytes()
    assert [pair[0].name for pair in find_pairs(str(tmp_path / "out"), "train")] == ["100_1.jpg"]
    assert [pair[0].name for pair in find_pairs(str(tmp_path / "out"), "val")] == ["200_1.jpg"]
    assert len(find_pairs(str(tmp_path / "out"), "all")) == 2
    with pytest.raises(ValueError, match="converted: is inside the data"):  # and the names would be taken, rerun
        convert("helen", source, source / "converted", report=lambda line: None)
    assert not (source / "converted").exists()
    (source / "labels/100_1/100_1_lbl07.png").unlink()
    assert "100_1_lbl07.png: missing" in refused("helen", source, tmp_path / "again")
    assert (tmp_path / "again/test/labels/200_1.png").is_file(), "the others are converted"


def test_helen_probabilities_are_compared(tmp_path):
    picture(tmp_path / "in" / "a.jpg")
    planes = np.random.default_rng(1).integers(0, 256, (11, SIZE, SIZE))
    for number, plane in enumerate(planes):
        grey(tmp_path / "in" / f"a_lbl{number:02d}.png", plane)
    convert("helen", tmp_path / "in", tmp_path / "out", report=print)
    np.testing.assert_array_equal(
        read_labels(tmp_path / "out/labels/a.png"), left_is_left(planes.argmax(0).astype(np.uint8))
    )


def test_relabelled_helen(tmp_path):
    for split in ("train", "test"):
        picture(tmp_path / "in" / split / "7_image.jpg")
        grey(tmp_path / "in" / split / "7_label.png", striped())
    assert convert("helen-relabelled", tmp_path / "in", tmp_path / "out", report=print) == 2
    np.testing.assert_array_equal(read_labels(tmp_path / "out/test/labels/7.png"), striped())
    (tmp_path / "in/train/7_image.jpg").unlink()
    with pytest.raises(ValueError, match=r"7_image\.jpg"):
        convert("helen-relabelled", tmp_path / "in", tmp_path / "other", report=print)


def test_celebamask(tmp_path):
    """Parts lie over each other, half as large as the picture; the person's left eye is on the right."""
    source = tmp_path / "in"
    picture(source / "CelebA-HQ-img" / "3.jpg", 2 * SIZE)
    where = {
        "skin": (slice(4, 30), slice(4, 30)), "r_eye": (slice(10, 14), slice(6, 12)),
        "l_eye": (slice(10, 14), slice(20, 26)), "l_brow": (slice(6, 8), slice(20, 26)),
        "mouth": (slice(22, 24), slice(10, 22)), "u_lip": (slice(20, 22), slice(10, 22)),
        "l_lip": (slice(24, 26), slice(10, 22)), "hair": (slice(0, 6), slice(0, 32)),
        "hat": (slice(0, 2), slice(0, 32)),
        "neck": (slice(28, 32), slice(8, 24)), "l_ear": (slice(12, 20), slice(28, 32)),
        "eye_g": (slice(13, 15), slice(6, 12)),
    }  # fmt: skip
    for part, place in where.items():
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[place] = 255
        grey(source / "CelebAMask-HQ-mask-anno" / "0" / f"00003_{part}.png", mask)
    assert convert("celebamask-hq", source, tmp_path / "out", report=print) == 1
    labels = read_labels(tmp_path / "out/labels/00003.png")
    assert labels.shape == (2 * SIZE, 2 * SIZE)
    np.testing.assert_array_equal(labels[::2, ::2], labels[1::2, 1::2])
    named = {name: labels[::2, ::2] == CLASSES.index(name) for name in CLASSES}
    assert named["eye_left"][10:13, 6:12].all() and named["eye_left"].sum() == 18  # glasses lie over the rest
    assert named["eye_right"][10:14, 20:26].all()
    assert named["brow_right"][6:8, 20:26].all()  # alone, but the eyes show whose left is meant
    assert named["mouth"][22:24, 10:22].all() and named["lower_lip"][24:26, 10:22].all()
    assert named["hair"].sum() == 4 * 32 and not named["hair"][:2].any()
    assert named["background"][28:, 8:24].all() and named["background"][12:20, 28:].all()
    assert set(CELEBAMASK_PARTS.values()) == set(CLASSES) and len(CELEBAMASK_PARTS) == 18


def test_celebamask_of_unknown_parts_is_refused(tmp_path):
    grey(tmp_path / "in" / "0" / "00000_beard.png", np.zeros((8, 8)))
    with pytest.raises(ValueError, match="'beard' is none of CelebAMask-HQ's parts"):
        convert("celebamask-hq", tmp_path / "in", tmp_path / "out", report=print)


def test_lapa(tmp_path):
    for split in ("train", "val", "test"):
        picture(tmp_path / "in" / split / "images" / f"{split}_0.jpg")
        grey(tmp_path / "in" / split / "labels" / f"{split}_0.png", striped([0, 1, 3, 2, 5, 4, 6, 7, 8, 9, 10]))
    assert convert("lapa", tmp_path / "in", tmp_path / "out", report=print) == 3
    for split in ("train", "val", "test"):
        ((image, labels),) = find_pairs(str(tmp_path / "out"), split)
        assert image.name == f"{split}_0.jpg"
        np.testing.assert_array_equal(read_labels(labels), striped())


def test_templates(person, tmp_path):
    person.save(tmp_path / "in" / "set" / "1.png", with_template=True)
    person.save(tmp_path / "in" / "set" / "2.png", with_template=False)
    assert convert("templates", tmp_path / "in", tmp_path / "out", report=print) == 1
    labels = read_labels(tmp_path / "out/val/labels/set_1.png")
    assert labels.shape == person.image.shape[:2] and set(np.unique(labels)) >= {0, 1, 2, 3, 4, 5, 6, 7, 9, 10}


def test_templates_of_one_person_stay_together(person, tmp_path, monkeypatch):
    monkeypatch.setattr(templates, "labels_of_photo", lambda levels, template: np.zeros(levels.shape[:2], np.uint8))
    for name in ("london_neutral/1", "london_neutral/2", "london_smiling/1", "london_smiling/2"):
        person.save(tmp_path / "in" / f"{name}.png", with_template=True)
    assert convert("templates", tmp_path / "in", tmp_path / "out", report=print) == 4
    split = [{path.stem[-1] for path in (tmp_path / "out" / part / "labels").iterdir()} for part in ("train", "val")]
    assert split == [{"2"}, {"1"}], "each person is in one of them"


def test_templates_of_everybody_are_converted(person, tmp_path, monkeypatch):
    """Also those of people whom a portrait folder keeps apart for validation."""
    monkeypatch.setattr(templates, "labels_of_photo", lambda levels, template: np.zeros(levels.shape[:2], np.uint8))
    for number in range(20):
        person.save(tmp_path / "in" / "set" / f"{number:02}.png", with_template=True)
    assert convert("templates", tmp_path / "in", tmp_path / "out", report=print) == 20


def test_two_pictures_of_one_name_are_refused(tmp_path):
    for folder in ("one", "two"):
        picture(tmp_path / "in" / folder / "7_image.jpg")
        grey(tmp_path / "in" / folder / "7_label.png", striped())
    with pytest.raises(ValueError, match=r"two/7_image\.jpg: its name is taken by .*one/7_image\.jpg"):
        convert("helen-relabelled", tmp_path / "in", tmp_path / "out", report=print)
    assert not (tmp_path / "out").exists()


def test_one_unreadable_file_stops_no_other(tmp_path):
    for name in "abc":
        picture(tmp_path / "in" / f"{name}_image.png")
        grey(tmp_path / "in" / f"{name}_label.png", striped())
    (tmp_path / "in/b_label.png").write_bytes(b"no picture")
    said = refused("helen-relabelled", tmp_path / "in", tmp_path / "out")
    assert "b_label.png: not a PNG file" in said and "2 images with labels" in said
    assert {path.stem for path in (tmp_path / "out/labels").iterdir()} == {"a", "c"}


def test_a_stopped_conversion_goes_on(tmp_path):
    for name in "ab":
        picture(tmp_path / "in" / f"{name}_image.png")
        grey(tmp_path / "in" / f"{name}_label.png", striped())
    convert("helen-relabelled", tmp_path / "in", tmp_path / "out", report=print)
    kept, again = tmp_path / "out/labels/a.png", tmp_path / "out/labels/b.png"
    before = kept.stat().st_mtime_ns
    again.unlink()
    assert convert("helen-relabelled", tmp_path / "in", tmp_path / "out", report=print) == 2
    assert again.is_file() and kept.stat().st_mtime_ns == before


def test_the_command_offers_what_can_be_converted():
    assert tuple(KINDS) == NAMED


def test_the_command_tells_what_is_wrong(tmp_path):
    run = CliRunner()
    answer = run.invoke(command, ["lapa", str(tmp_path / "none"), "--out", str(tmp_path / "out")])
    assert answer.exit_code == 1 and f"Error: {tmp_path / 'none'}: no such folder" in answer.output
    (tmp_path / "in").mkdir()
    answer = run.invoke(command, ["lapa", str(tmp_path / "in"), "--out", str(tmp_path / "out")])
    assert answer.exit_code == 1 and "no images in the published layout of lapa" in answer.output
    picture(tmp_path / "in" / "x_image.png")
    grey(tmp_path / "in" / "x_label.png", np.zeros((9, 20)))
    answer = run.invoke(command, ["helen-relabelled", str(tmp_path / "in"), "--out", str(tmp_path / "out")])
    assert answer.exit_code == 1 and "its labels have 20x9 for an image of 32x32 pixels" in answer.output


def test_another_picture_of_the_same_name_is_not_replaced(tmp_path):
    picture(tmp_path / "in" / "a.jpg")
    for number in range(11):
        grey(tmp_path / "in" / f"a_lbl{number:02d}.png", np.full((SIZE, SIZE), number))
    kept = tmp_path / "out" / "images" / "a.jpg"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"kept")
    assert f"{kept} already exists and is another image" in refused("helen", tmp_path / "in", tmp_path / "out")
    assert kept.read_bytes() == b"kept" and not (tmp_path / "out" / "labels" / "a.png").exists()
    kept.write_bytes((tmp_path / "in" / "a.jpg").read_bytes())  # of a conversion that was killed
    assert convert("helen", tmp_path / "in", tmp_path / "out", report=print) == 1
