"""Tables: rows, subsets, figures by hand, the sweep, and what the commands print."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pyvips
import torch
from bpfre import evaluate as module
from bpfre.cli import evaluate as command
from bpfre.config import PRESETS
from bpfre.evaluate import COARSE, HARD, IDENTITY, REFINED, EvaluationOptions, evaluate
from bpfre.model import BPFRe
from bpfre.sweep import sweep
from click.testing import CliRunner
from retouch_common.config import apply_overrides
from retouch_common.files import sha256
from retouch_common.metrics.distribution import FID, FrechetDistance
from retouch_common.metrics.protocols import PROTOCOLS


class MeanColour(torch.nn.Module):
    num_features = 3

    def forward(self, image):
        return image.float().mean(dim=(2, 3))


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


@pytest.fixture(scope="module")
def of_all(pairs, weights):
    """The evaluation of all pairs."""
    return run(pairs, weights, split="all")


def run(pairs, weights, **options):
    return evaluate(weights, pairs, EvaluationOptions(lpips=False, device="cpu", **options), report=lambda line: None)


def test_doing_nothing_scores_what_it_should(of_all):
    measured = of_all.measured
    by_hand = [-10 * np.log10((4 * (n + 1) / 255) ** 2 * 256 / 4096) for n in range(20)]
    assert [image[IDENTITY]["psnr-rgb8"] for image in measured.images] == pytest.approx(by_hand, abs=1e-3)
    assert measured.means(IDENTITY)["psnr-rgb8"] == pytest.approx(np.mean(by_hand), abs=1e-3)
    assert measured.rows == (IDENTITY, COARSE, REFINED)


def test_the_stages_rows_are_what_the_network_makes(pairs, weights):
    measured = run(pairs, weights, split="all", limit=1, protocols=("wang",)).measured
    raw, target = (pyvips.Image.new_from_file(f"{pairs}/{kind}/00.png").numpy() / 255 for kind in ("raw", "target"))
    with torch.no_grad():
        output = BPFRe.from_pretrained(weights)(torch.from_numpy(raw).float().permute(2, 0, 1)[None])
    for row, image in ((COARSE, output.coarse), (REFINED, output.refined)):
        error = image[0].permute(1, 2, 0).double().numpy() - target
        assert measured.means(row)["psnr-rgb"] == pytest.approx(-10 * np.log10(np.square(error).mean()), abs=0.02)
        assert 0 < measured.means(row)["average-precision"] <= 1
    assert "average-precision" not in measured.means(IDENTITY)


def test_the_hard_subset_is_the_share_with_the_lowest_raw_psnr(pairs, weights, of_all):
    subsets = of_all.subsets
    assert sorted(image["name"] for image in subsets[HARD].images) == ["16.png", "17.png", "18.png", "19.png"]
    assert len(run(pairs, weights, split="all", hard_share=0.1).subsets[HARD].images) == 2


def test_rows_follow_the_configuration(pairs, tmp_path):
    config = apply_overrides(PRESETS["tiny"], {"model.generator": False, "model.attention": False}).model
    BPFRe(config).save_pretrained(tmp_path)
    measured = run(pairs, str(tmp_path), limit=1).measured
    assert measured.rows == (IDENTITY, COARSE)
    assert "average-precision" not in measured.means(COARSE)


def test_protocols_are_chosen_by_name(pairs, weights):
    with pytest.raises(ValueError, match="unknown protocol 'mine'; choose from png8, wang, bpfre-group"):
        EvaluationOptions(protocols=("mine",))
    means = run(pairs, weights, limit=1, protocols=("wang", "bpfre-group")).measured.means(REFINED)
    assert len({round(means[PROTOCOLS[name].ssim], 5) for name in PROTOCOLS}) == 3


def test_fid_stands_only_where_it_was_measured(pairs, weights, capsys):
    result = run(pairs, weights, limit=2)
    result.fid = dict.fromkeys(result.measured.rows, 1.5)
    module.show(result)
    headings = [line for line in capsys.readouterr().out.splitlines() if "PSNR dB" in line]
    assert ["FID" in line for line in headings] == [True, False]  # all pairs, the hard ones


@pytest.fixture(scope="module")
def written(pairs, weights, tmp_path_factory):
    """What the command prints and writes."""
    out = tmp_path_factory.mktemp("out")
    arguments = ["run", "--data", pairs, "--weights", weights, "--out", str(out), "--no-lpips", "--device", "cpu"]
    result = CliRunner().invoke(command, [*arguments, "--protocol", "png8", "--protocol", "bpfre-group"])
    assert result.exit_code == 0, result.output
    return result.stdout, json.loads((out / "evaluation.json").read_text()), out


def test_the_command_prints_a_table_for_each_protocol_and_subset(written):
    text = " ".join(written[0].split())
    for protocol in ("png8", "bpfre-group"):
        for subset in ("all: 2 pairs", f"{HARD}: 1 pairs"):
            assert f"{protocol}, {subset} at 64 x 64; the target changes 6.25% of the pixels" in text
    assert text.count("identity (output = input)") == text.count("refined (stage two)") == 4
    assert "no FID: it needs the weights of Inception" in text and "LPIPS is disabled" in text


def test_the_command_writes_how_it_was_measured(written, weights):
    _, values, out = written
    assert values["weights"]["sha256"] == sha256(Path(weights) / "model.safetensors")
    assert values["subsets"]["all"]["pairs"] == 2 and set(values["subsets"]) == {"all", HARD}
    assert "resolution: 64x64" in values["protocols"]["ssim-uniform7"]
    assert [image["name"] for image in values["images"]] == ["00.png", "10.png"]
    assert values["fid"] == {}
    assert sorted(path.name for path in out.iterdir()) == ["evaluation.json", "figures.png"]


def test_inpainting_is_measured_on_fixed_strokes(pairs, weights):
    first, second = (run(pairs, weights, task="inpainting").measured for _ in range(2))
    assert first.means(REFINED) == second.means(REFINED)
    assert 0.02 < first.target_changes < 0.9  # the strokes
    assert first.means(IDENTITY)["psnr-rgb8-inside"] < 10 and first.means(IDENTITY)["psnr-rgb8-outside"] == 100


def test_fid_is_measured_for_every_row_with_the_given_network(pairs, weights, monkeypatch):
    class Stub(FID):
        def __init__(self, path, *, device):
            FrechetDistance.__init__(self, MeanColour(), device=device)

    monkeypatch.setattr(module, "FID", Stub)
    result = run(pairs, weights, split="all", fid="weights.pth")
    assert set(result.fid) == {IDENTITY, COARSE, REFINED}
    # mean colours: target 128 always; raw 128 - 4 (n + 1) / 16
    means = 128 - 4 * (np.arange(20) + 1) / 16
    assert result.fid[IDENTITY] == pytest.approx(3 * ((128 - means.mean()) ** 2 + means.var(ddof=1)), rel=1e-3)
    assert "20 images a set; strongly biased" in result.notes[-1]


def test_fid_without_inception_fails_at_once(pairs, weights, tmp_path):
    pytest.importorskip("torch_fidelity")
    arguments = ["run", "--data", pairs, "--weights", weights, "--fid", "none.pth", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(command, [*arguments, "--device", "cpu"])
    assert result.exit_code == 1 and "Error: none.pth: no such file; FID needs" in result.output
    assert not (tmp_path / "out").exists()


def test_the_papers_identity_row_tells_its_protocol(pairs, weights):
    protocols = tuple(PROTOCOLS)
    lines = module.calibration(run(pairs, weights, protocols=protocols).subsets, protocols)
    assert "calibration, all, doing nothing: png8 " in lines[0] and "; bpfre-group " in lines[0]
    assert lines[0].endswith("Table 2 prints 43.89 dB, 0.9910")
    assert lines[1].endswith("Table 2 prints 37.69 dB, 0.9820 on FFHQR-Hard, another selection")


@pytest.fixture(scope="module")
def swept(pairs, tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep")
    config = apply_overrides(PRESETS["tiny"], {"train.steps": 1, "loss.adversarial": 0.0})
    options = EvaluationOptions(lpips=False, limit=1, device="cpu")
    return config, options, out, sweep(config, pairs, out, [1.0, 0.1], options, report=lambda line: None)


def test_the_sweep_trains_and_measures_every_share(swept):
    _, _, out, points = swept
    assert [point["fraction"] for point in points] == [0.1, 1.0]
    for share, number in (("0.1", 2), ("1", 18)):
        assert len(json.loads((out / f"pairs-{share}" / "lists.json").read_text())["paired"]) == number
    assert points[0]["subsets"]["all"]["rows"][REFINED]["psnr-rgb8"] > 0
    assert json.loads((out / "sweep.json").read_text())["points"] == points


def test_what_is_finished_is_not_done_again(swept, pairs, monkeypatch):
    config, options, out, points = swept
    for name in ("train", "evaluate"):
        monkeypatch.setattr(f"bpfre.sweep.{name}", lambda *args, **kwargs: pytest.fail("done again"))
    assert sweep(config, pairs, out, [0.1, 1.0], options, report=lambda line: None) == points


def test_other_options_are_measured_anew_without_training(swept, pairs, tmp_path, monkeypatch):
    config, options, out, _ = swept
    monkeypatch.setattr("bpfre.sweep.train", lambda *args, **kwargs: pytest.fail("trained again"))
    shutil.copytree(out, tmp_path / "copy")
    again = sweep(config, pairs, tmp_path / "copy", [0.1], replace(options, limit=2), report=lambda line: None)
    assert again[0]["subsets"]["all"]["pairs"] == 2


def test_another_sweeps_folder_is_refused(swept, pairs):
    config, options, out, _ = swept
    with pytest.raises(ValueError, match=r"sweep\.json: was begun with other data"):
        sweep(config, "elsewhere", out, [0.1], options)
    other = apply_overrides(config, {"train.lr": 1.0})
    with pytest.raises(ValueError, match=r"train\.lr"):
        sweep(other, pairs, out, [0.1], options, report=lambda line: None)


def test_a_stopped_training_ends_the_sweep(pairs, tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr("bpfre.sweep.train", lambda config, data, out, **options: out)
    assert (
        sweep(PRESETS["tiny"], pairs, tmp_path, [0.1, 1.0], EvaluationOptions(device="cpu"), report=lines.append) == []
    )
    assert lines == ["stopped; rerun the same command to resume"]


def test_the_sweep_is_one_command(swept, pairs, monkeypatch):
    out = swept[2]
    monkeypatch.setattr("bpfre.sweep.train", lambda *args, **kwargs: pytest.fail("trained again"))
    arguments = [
        "sweep",
        "--preset",
        "tiny",
        "--data",
        pairs,
        "--out",
        str(out),
        "--fractions",
        "0.1,1",
        "--steps",
        "1",
    ]
    arguments += ["--set", "loss.adversarial=0", "--no-lpips", "--limit", "1", "--device", "cpu"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    assert "10.00%" in result.output and "100.00%" in result.output and f"PSNR dB by png8, {HARD}" in result.output


@pytest.mark.parametrize("shares", ["0", "1.5", "a,b"])
def test_wrong_shares_are_refused(pairs, tmp_path, shares):
    result = CliRunner().invoke(command, ["sweep", "--data", pairs, "--out", str(tmp_path), "--fractions", shares])
    assert result.exit_code == 2 and "'--fractions'" in result.output and not list(tmp_path.iterdir())


def test_an_evaluation_that_is_there_is_not_replaced(tmp_path):
    (tmp_path / "evaluation.json").write_text("kept")
    arguments = ["run", "--data", "missing", "--out", str(tmp_path)]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 1 and f"{tmp_path / 'evaluation.json'}: already exists" in result.output
    assert (tmp_path / "evaluation.json").read_text() == "kept"
    result = CliRunner().invoke(command, [*arguments, "--overwrite"])
    assert result.exit_code == 1 and "already exists" not in result.output  # but there are no data


def test_a_sweep_does_not_begin_among_other_files(tmp_path):
    (tmp_path / "notes.txt").write_text("kept")
    result = CliRunner().invoke(command, ["sweep", "--preset", "tiny", "--data", "missing", "--out", str(tmp_path)])
    assert result.exit_code == 1 and f"{tmp_path}: is not empty" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("option", ["--data", "--test-data"])
def test_a_sweep_does_not_begin_inside_its_data(pairs, tmp_path, option):
    arguments = ["sweep", "--preset", "tiny", "--data", pairs, option, str(tmp_path), "--out", str(tmp_path / "sweep")]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 1 and "sweep: is inside the data" in result.output and not any(tmp_path.iterdir())
