"""Table 3's comparison: three arms, several seeds, resumed where it stopped."""

import json
import shutil

import pytest
from click.testing import CliRunner
from maskgan import augment as module
from maskgan.augment import ARMS, METRICS, Comparison, compare
from maskgan.cli import augment as command

QUIET = {"preset": "tiny", "steps": 2, "device": "cpu", "report": lambda line: None}


def test_every_arm_is_trained_and_measured_once(faces, tmp_path):
    result = compare(str(faces), faces / "val", tmp_path, seeds=1, **QUIET)
    assert list(result.metrics) == list(ARMS)
    assert all(len(runs) == 1 for runs in result.metrics.values())
    assert set(METRICS) <= set(result.metrics[ARMS[2]][0])
    written = json.loads((tmp_path / "comparison.json").read_text())
    assert written["arms"][ARMS[0]] == result.metrics[ARMS[0]]
    weights = tmp_path / "no-augmentation-0" / "weights" / "model.safetensors"
    before = weights.read_bytes()
    again = compare(str(faces), faces / "val", tmp_path, seeds=1, **QUIET)
    assert again.metrics == result.metrics and weights.read_bytes() == before
    with pytest.raises(ValueError, match=r"comparison\.json: was begun with other steps"):
        compare(str(faces), faces / "val", tmp_path, seeds=1, **QUIET | {"steps": 3})


def test_only_the_third_arm_sees_drawn_faces(faces, tmp_path, monkeypatch):
    trained = []

    def train(config, data, run, **options):
        trained.append((config.train.seed, config.train.augmentation, config.train.extra))
        return run / "weights"

    monkeypatch.setattr(module, "train", train)
    monkeypatch.setattr(module, "FaceParser", lambda *_: None)
    monkeypatch.setattr(module, "evaluate", lambda *_, **__: dict.fromkeys(METRICS, 0.0))
    compare(str(faces), faces / "val", tmp_path, seeds=2, **QUIET)
    arms = [("none", ""), ("paper", ""), ("paper", str(faces / "val"))]
    assert trained == [(seed, *arm) for seed in (0, 1) for arm in arms]


def test_masks_of_test_faces_are_refused(faces, tmp_path):
    """A flat folder: synthesis from all of its labels would have the parser learn the test masks."""
    flat, generated = tmp_path / "helen", tmp_path / "drawn"
    for name in ("images", "labels"):
        (flat / name).mkdir(parents=True)
        for split in ("train", "val", "test"):
            for file in (faces / split / name).iterdir():
                shutil.copy(file, flat / name / f"{int(file.stem):02d}.png")
    shutil.copytree(flat / "images", generated / "images")
    shutil.copytree(flat / "labels", generated / "labels")
    with pytest.raises(ValueError, match=r"00\.png: is the mask of a test face, .*helen.*--split train"):
        compare(str(flat), generated, tmp_path / "out", seeds=1, **QUIET)
    assert not (tmp_path / "out").exists()


def test_a_stopped_training_stops_the_comparison(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "train", lambda *_, **__: None)
    with pytest.raises(ValueError, match="no-augmentation-0: stopped; rerun the same command to resume"):
        compare(str(faces), faces / "val", tmp_path, **QUIET)


def test_means_and_deviations_by_hand():
    metrics = {arm: [dict.fromkeys(METRICS, 0.1), dict.fromkeys(METRICS, 0.3)] for arm in ARMS}
    means = Comparison(metrics).means(ARMS[0])
    assert means["miou"] == pytest.approx(0.2)
    assert means["± miou"] == pytest.approx(0.02**0.5)


def test_what_is_wrong_is_named(faces, tmp_path):
    arguments = ["--data", str(faces), "--generated", str(tmp_path), "--out", str(tmp_path / "out"), "--preset", "tiny"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 1 and "needs the folders images and labels" in result.output
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 1 and "out: is inside the data" in result.output and not (tmp_path / "out").exists()


def test_a_comparison_does_not_begin_among_other_files(tmp_path):
    out, generated = tmp_path / "out", tmp_path / "drawn"
    for folder in (out, generated / "images", generated / "labels"):
        folder.mkdir(parents=True)
    (out / "notes.txt").write_text("kept")
    arguments = ["--data", "missing", "--generated", str(generated), "--out", str(out), "--preset", "tiny"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 1 and f"{out}: is not empty" in result.output
    assert [path.name for path in out.iterdir()] == ["notes.txt"]
