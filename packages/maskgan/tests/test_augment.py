"""Table 3's comparison: three arms, several seeds, resumed where it stopped."""

import json

import pytest
from click.testing import CliRunner
from maskgan.augment import ARMS, FIGURES, Comparison, compare
from maskgan.cli import augment as command
from retouch_common.parsing.data import open_data

QUIET = {"preset": "tiny", "steps": 2, "device": "cpu", "report": lambda line: None}


def test_every_arm_is_trained_and_measured_once(faces, tmp_path):
    result = compare(str(faces), faces / "val", tmp_path, seeds=1, **QUIET)
    assert list(result.figures) == list(ARMS)
    assert all(len(runs) == 1 for runs in result.figures.values())
    assert set(FIGURES) <= set(result.figures[ARMS[2]][0])
    written = json.loads((tmp_path / "comparison.json").read_text())
    assert written["arms"][ARMS[0]] == result.figures[ARMS[0]]
    weights = tmp_path / "no-augmentation-0" / "weights" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    again = compare(str(faces), faces / "val", tmp_path, seeds=1, **QUIET)
    assert again.figures == result.figures and weights.stat().st_mtime_ns == before


def test_only_the_third_arm_sees_drawn_faces(faces):
    options = {"size": 64, "split": "train", "seed": 0}
    plain = open_data(str(faces), augmentation="none", **options)
    more = open_data(str(faces), augmentation="paper", extra=str(faces / "val"), **options)
    assert len(plain) == 6 and not plain.augment
    assert len(more) == 9 and more.augment


def test_means_and_deviations_by_hand():
    figures = {arm: [dict.fromkeys(FIGURES, 0.1), dict.fromkeys(FIGURES, 0.3)] for arm in ARMS}
    means = Comparison(figures).means(ARMS[0])
    assert means["miou"] == pytest.approx(0.2)
    assert means["± miou"] == pytest.approx(0.02**0.5)


def test_what_is_wrong_is_named(faces, tmp_path):
    arguments = ["--data", str(faces), "--generated", str(tmp_path), "--out", str(tmp_path / "out"), "--preset", "tiny"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 1 and "needs the folders images and labels" in result.output
