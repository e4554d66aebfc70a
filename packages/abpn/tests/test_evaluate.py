"""The command on small drawn pairs, with a tiny untrained network."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import pyvips
import torch
from abpn import evaluate as module
from abpn.cli import evaluate
from abpn.evaluate import IDENTITY, MODEL, EvaluationOptions
from abpn.model import ABPN
from abpn.retouch import Retoucher
from click.testing import CliRunner
from retouch_common.files import sha256

SIDE = 96
DEPTH = {"a.png": 40, "b.png": 20, "c.png": 0}  # by how much a square of 24 x 24 pixels is lighter in the target


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for name, depth in DEPTH.items():
        raw = generator.integers(80, 160, (SIDE, SIDE, 3), dtype=np.uint8)
        target = raw.copy()
        target[20:44, 30:54] += np.uint8(depth)
        for kind, pixels in (("raw", raw), ("target", target)):
            (folder / kind).mkdir(exist_ok=True)
            pyvips.Image.new_from_array(pixels).pngsave(str(folder / kind / name))
    return folder


@pytest.fixture(autouse=True)
def no_alexnet(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def run(*arguments, status=0):
    result = CliRunner().invoke(evaluate, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def expected_psnr(mean_square):
    return 10 * math.log10(255**2 / mean_square)


@pytest.fixture(scope="module")
def evaluated(data, weights, tmp_path_factory):
    """What the command writes and prints for the pairs at their own size."""
    out = tmp_path_factory.mktemp("out") / "new"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(out / "torch"))
        result = run("--data", data, "--weights", weights, "--out", out, "--size", SIDE, "--split", "all",
                     "--device", "cpu", "--precision", "fp32")  # fmt: skip
    return result, json.loads((out / "evaluation.json").read_text()), out


def test_the_identity_row_is_what_doing_nothing_scores(evaluated):
    [measured] = evaluated[1]["resolutions"]
    share = 24 * 24 / SIDE**2
    row = measured["rows"][IDENTITY]
    assert row["mean"]["psnr-rgb8-inside"] == pytest.approx((expected_psnr(40**2) + expected_psnr(20**2)) / 2, abs=1e-3)
    whole = [expected_psnr(depth**2 * share) for depth in (40, 20)]
    assert row["mean"]["psnr-rgb8"] == pytest.approx(sum(whole) / 2, abs=1e-3)
    assert row["mean"]["psnr-rgb8-outside"] == 100  # equal there
    assert row["mean"]["changed"] == 0
    assert "seconds" not in row["mean"]
    assert [image["target_changes"] for image in measured["images"]] == pytest.approx([share, share])


def test_the_model_row_is_what_the_retoucher_scores(evaluated, data, weights):
    [measured] = evaluated[1]["resolutions"]
    retoucher = Retoucher(weights, device="cpu", precision="fp32")
    scores, changed = [], []
    for name in ("a.png", "b.png"):
        raw, target = (pyvips.Image.new_from_file(str(data / kind / name)).numpy() for kind in ("raw", "target"))
        output = retoucher(raw).astype(float)
        scores.append(expected_psnr(np.mean((output - target) ** 2)))
        changed.append((np.abs(output - raw).max(axis=2) > 3).mean())
    mean = measured["rows"][MODEL]["mean"]
    assert mean["psnr-rgb8"] == pytest.approx(sum(scores) / 2, abs=1e-3)
    assert mean["changed"] == pytest.approx(sum(changed) / 2)
    assert mean["changed"] > 0.01  # or nothing was tested
    assert mean["seconds"] > 0


def test_the_papers_result_is_not_postprocessed(data, tmp_path):
    """Every pixel darker by half a level to one: R_0 has that change, abpn-retouch does not write it."""
    torch.manual_seed(0)
    model = ABPN.from_preset("tiny")
    torch.nn.init.constant_(model.local_retouching.retouching_branch.modules_up[-1].conv.bias, -0.0073)  # halved by g
    model.save_pretrained(tmp_path / "weights")
    for arguments, changed in (
        (["--resolutions", "64", "--postprocess"], False),
        (["--resolutions", "64"], True),
        (["--size", "64", "--no-postprocess"], True),
        (["--size", "64"], False),
    ):
        common = ["--data", data, "--weights", tmp_path / "weights", "--split", "all", "--limit", 1, "--device", "cpu"]
        out = tmp_path / "-".join(arguments)
        output = run(*common, "--no-lpips", "--precision", "fp32", "--out", out, *arguments).stdout
        [measured] = json.loads((out / "evaluation.json").read_text())["resolutions"]
        difference = abs(measured["rows"][MODEL]["mean"]["psnr-rgb8"] - measured["rows"][IDENTITY]["mean"]["psnr-rgb8"])
        assert (difference > 0.01) == changed, arguments
        assert ("R_0, as in the paper" in " ".join(output.split())) == changed


def test_pairs_without_a_difference_stay_out_of_the_means(evaluated):
    result, written, _ = evaluated
    [measured] = written["resolutions"]
    assert [image["name"] for image in measured["images"]] == ["a.png", "b.png"]
    [clean] = measured["pairs_without_difference"]
    assert clean["name"] == "c.png"
    assert clean[IDENTITY]["psnr-rgb8"] == 100
    assert f"1 pairs whose target equals raw; there the output reaches {clean[MODEL]['psnr-rgb8']:.2f} dB" in (
        " ".join(result.stdout.split())
    )


def test_the_file_says_how_it_was_measured(evaluated, weights):
    _, written, out = evaluated
    assert written["weights"]["sha256"] == sha256(Path(weights) / "model.safetensors")
    assert written["environment"]["packages"]["torch"]
    protocols = written["resolutions"][0]["protocols"]
    assert f"resolution: {SIDE}x{SIDE}" in protocols["psnr-rgb8"]
    assert "lpips-alex-v0.1" not in protocols
    assert sorted(path.name for path in out.iterdir()) == ["evaluation.json", "figures.png"]
    sheet = pyvips.Image.new_from_file(str(out / "figures.png"))
    assert sheet.width >= 4 * SIDE  # raw, output, target, error
    assert sheet.height >= 2 * SIDE


def test_the_table_has_both_rows_and_says_why_there_is_no_lpips(evaluated):
    lines = evaluated[0].stdout.splitlines()
    assert "96 x 96, 2 pairs; the target changes 6.25% of the pixels" in evaluated[0].stdout
    assert any("identity" in line and "100.00" in line for line in lines)
    assert any(line.strip("│ ").startswith(MODEL) for line in lines)
    assert "no LPIPS: LPIPS needs AlexNet's ImageNet weights: put torchvision's alexnet-owt-7be5be79.pth" in (
        " ".join(evaluated[0].stdout.split())
    )


def test_a_table_for_each_resolution(data, weights):
    result = run("--data", data, "--weights", weights, "--resolutions", "64,128", "--split", "all", "--limit", 1,
                 "--no-lpips", "--device", "cpu")  # fmt: skip
    assert "64 x 64, 1 pairs" in result.stdout
    assert "128 x 128, 1 pairs" in result.stdout
    assert result.stdout.count("1 photographs are smaller than") == 1
    assert "smaller than 128 pixels and were enlarged" in result.stdout
    assert "LPIPS is disabled" in result.stdout


def test_masks_that_are_empty_are_counted(tmp_path, weights):
    """A difference of two levels is no retouching, but the pair is not equal either."""
    raw = np.full((64, 64, 3), 100, np.uint8)
    for name, depth in (("a", 2), ("b", 30)):
        for kind, pixels in (("raw", raw), ("target", raw + np.uint8(depth))):
            (tmp_path / kind).mkdir(exist_ok=True)
            pyvips.Image.new_from_array(pixels).pngsave(str(tmp_path / kind / f"{name}.png"))
    result = run("--data", tmp_path, "--weights", weights, "--size", 64, "--split", "all", "--device", "cpu")
    assert "inside: mean over 1 of 2 pairs" in result.stdout


def test_faces_are_measured_at_the_largest_size_there_is():
    notes = []
    assert module._resolutions("faces:portraits", (512, 1024, 2048), notes) == [512, 768]
    assert notes == ["faces:portraits makes crops of up to 768 pixels; measured at 768 instead of 1024, 2048"]
    assert module._resolutions("pairs", (512, 1024, 512), notes) == [512, 1024]
    assert len(notes) == 1


def test_insisting_on_lpips_without_weights_fails_at_once(data, weights, tmp_path):
    out = tmp_path / "out"
    result = run("--data", data, "--weights", weights, "--lpips", "--out", out, "--device", "cpu", status=1)
    assert result.stderr.startswith("Error: LPIPS needs AlexNet's ImageNet weights")
    assert not out.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--data", "nowhere"], "Error: nowhere: is not a folder"),
        (["--weights", "no/such/weights"], "Error: weights 'no/such/weights': no such file or folder"),
        (["--split", "val", "--data", "EMPTY"], "not a set of pairs"),
        (["--out", "FILE"], "File exists"),
    ],
)
def test_mistakes_are_one_line(data, weights, tmp_path, change, message):
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "FILE").write_text("taken")
    change = [str(tmp_path / word) if word in ("EMPTY", "FILE") else word for word in change]
    result = run("--data", data, "--weights", weights, "--size", 64, "--device", "cpu", *change, status=1)
    [line] = [line for line in result.stderr.splitlines() if not line.startswith("note: ")]
    assert message in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "512", "--resolutions", "512,1024"], "are mutually exclusive"),
        (["--resolutions", "512,big"], "'big' is not a valid integer"),
        (["--resolutions", "512,16"], "16 is not in the range x>=64"),
    ],
)
def test_wrong_options_are_refused(arguments, message):
    assert message in run("--data", "x", *arguments, status=2).stderr


def test_bad_pairs_are_named_before_anything_is_measured(data, weights, tmp_path):
    for kind, side in (("raw", 64), ("target", 80)):
        (tmp_path / kind).mkdir()
        for name in ("a.png", "b.png"):
            pyvips.Image.new_from_array(np.zeros((side, 64, 3), np.uint8)).pngsave(str(tmp_path / kind / name))
    result = run("--data", tmp_path, "--weights", weights, "--split", "all", "--device", "cpu", status=1)
    error = result.stderr.splitlines()[-1]
    assert "a.png has 64x64 pixels but" in error
    assert "and 1 more pairs cannot be used" in error


def test_limits_below_one_are_refused(data, weights):
    with pytest.raises(ValueError, match="limit must be at least 1"):
        module.evaluate(str(weights), str(data), EvaluationOptions(limit=0))


def test_an_evaluation_that_is_there_is_not_replaced(tmp_path):
    (tmp_path / "evaluation.json").write_text("kept")
    arguments = ["--data", "missing", "--out", str(tmp_path)]
    result = CliRunner().invoke(evaluate, arguments)
    assert result.exit_code == 1 and f"{tmp_path / 'evaluation.json'}: already exists" in result.output
    assert (tmp_path / "evaluation.json").read_text() == "kept"
    result = CliRunner().invoke(evaluate, [*arguments, "--overwrite"])
    assert result.exit_code == 1 and "already exists" not in result.output  # but there are no data
