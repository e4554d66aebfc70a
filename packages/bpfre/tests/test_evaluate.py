"""Tables: rows, subsets, figures by hand, the sweep, and what the commands print."""

import json

import numpy as np
import pytest
import pyvips
import torch
from bpfre.cli import evaluate as command
from bpfre.config import PRESETS
from bpfre.evaluate import COARSE, HARD, IDENTITY, REFINED, Options, average_precision, evaluate
from bpfre.model import BPFRe
from bpfre.sweep import sweep
from click.testing import CliRunner
from retouch_common.config import apply_overrides

QUIET = {"report": lambda line: None}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Twenty grey pairs; pair n has a spot n + 1 levels deep."""
    folder = tmp_path_factory.mktemp("pairs")
    for name in ("raw", "target"):
        (folder / name).mkdir()
    for number in range(20):
        pixels = np.full((64, 64, 3), 128, np.uint8)
        pyvips.Image.new_from_array(pixels).write_to_file(str(folder / "target" / f"{number:02d}.png"))
        pixels[20:36, 20:36] -= 4 * (number + 1)
        pyvips.Image.new_from_array(pixels).write_to_file(str(folder / "raw" / f"{number:02d}.png"))
    return str(folder)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    BPFRe.from_preset("tiny").save_pretrained(folder)
    return str(folder)


def test_doing_nothing_scores_what_it_should(pairs, weights):
    options = Options(split="all", lpips=False, device="cpu")
    result = evaluate(weights, pairs, options, **QUIET)
    by_hand = [-10 * np.log10((4 * (n + 1) / 255) ** 2 * 256 / 4096) for n in range(20)]
    assert [image[IDENTITY]["psnr"] for image in result.images] == pytest.approx(by_hand, abs=1e-3)
    assert result.rows("all")[IDENTITY]["psnr"] == pytest.approx(np.mean(by_hand), abs=1e-3)
    assert list(result.rows("all")) == [IDENTITY, COARSE, REFINED]


def test_the_hard_subset_is_the_worst_fifth(pairs, weights):
    result = evaluate(weights, pairs, Options(split="all", lpips=False, device="cpu"), **QUIET)
    assert sorted(image["index"] for image in result.subsets[HARD]) == [16, 17, 18, 19]
    assert result.rows(HARD)[IDENTITY]["psnr"] < result.rows("all")[IDENTITY]["psnr"]


def test_average_precision_by_hand():
    M = torch.tensor([[0.9, 0.8], [0.3, 0.1]])
    assert average_precision(M, torch.tensor([[True, True], [False, False]])) == pytest.approx(1)
    assert average_precision(M, torch.tensor([[True, False], [True, False]])) == pytest.approx((1 + 2 / 3) / 2)


def test_conventions_are_chosen_by_name(pairs, weights):
    with pytest.raises(ValueError, match="png8, wang, bpfre-group"):
        evaluate(weights, pairs, Options(convention="mine"), **QUIET)
    values = {
        name: evaluate(weights, pairs, Options(convention=name, limit=1, lpips=False, device="cpu"), **QUIET)
        for name in ("png8", "bpfre-group")
    }
    ssims = [result.rows("all")[REFINED]["ssim"] for result in values.values()]
    assert ssims[0] != pytest.approx(ssims[1], abs=1e-4)


def test_the_command_writes_and_prints(pairs, weights, tmp_path):
    arguments = ["run", "--data", pairs, "--weights", weights, "--out", str(tmp_path), "--no-lpips", "--device", "cpu"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    for words in ("identity (output = input)", "stage two", HARD, "M D2G against", "png8"):
        assert words in result.output
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written["subsets"]["all"]["pairs"] == 2 and written["convention"].keys() == {"png8"}
    assert (tmp_path / "figures.png").stat().st_size > 1000


def test_inpainting_is_measured_on_fixed_strokes(pairs, weights):
    options = Options(task="inpainting", lpips=False, device="cpu")
    first, second = (evaluate(weights, pairs, options, **QUIET).rows("all") for _ in range(2))
    assert first == second and first[IDENTITY]["psnr"] < 25


def test_the_sweep_trains_every_share_once(pairs, tmp_path, monkeypatch):
    config = apply_overrides(PRESETS["tiny"], {"train.steps": 1, "loss.adversarial": 0.0})
    options, lines = Options(lpips=False, limit=1, device="cpu"), []
    points = sweep(config, pairs, tmp_path, [1.0, 0.1], options, report=lines.append)
    assert [point["fraction"] for point in points] == [0.1, 1.0]
    assert len(json.loads((tmp_path / "pairs-0.1" / "lists.json").read_text())["paired"]) == 2
    monkeypatch.setattr("bpfre.sweep.train", lambda *args, **kwargs: pytest.fail("trained again"))
    again = sweep(config, pairs, tmp_path, [0.1, 1.0], options, report=lines.append)
    assert again == points == json.loads((tmp_path / "sweep.json").read_text())


@pytest.mark.parametrize("shares", ["0", "1.5", "a,b"])
def test_wrong_shares_are_refused(pairs, tmp_path, shares):
    result = CliRunner().invoke(command, ["sweep", "--data", pairs, "--out", str(tmp_path), "--fractions", shares])
    assert result.exit_code == 2 and "share" in result.output
