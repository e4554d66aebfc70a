"""Measured figures: by hand where that is possible, and the command."""

import json
import math
from importlib.util import find_spec

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from maskgan.cli import evaluate as command
from maskgan.evaluate import PHOTOGRAPHS, SOURCES, EvaluationOptions, Row, agreement, drawn_pairs, evaluate, locality
from maskgan.model import MaskGAN
from retouch_common.metrics.protocols import METRICS


@pytest.fixture(scope="module")
def measured(weights, parser_weights, faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    options = EvaluationOptions(pairs=6, judge=str(parser_weights), device="cpu")
    return evaluate({"ours": weights}, str(faces), options, out=out, report=lambda line: None), out


def test_rows_and_files(measured):
    result, out = measured
    assert list(result.rows) == [PHOTOGRAPHS, SOURCES, "ours"]
    ours = result.rows["ours"]
    assert len(ours.reconstruction) == 3 and len(ours.agreement) == 6
    assert set(ours.outside) == {"eye_left", "eye_right", "mouth", "skin", "hair"}
    values = json.loads((out / "evaluation.json").read_text())
    assert values["rows"]["ours"]["means"]["PSNR"] == pytest.approx(ours.means()["PSNR"])
    assert values["protocols"]["SSIM"] == METRICS["ssim-rgb8"].at(64).description
    assert set(values["protocols"]) == {"PSNR", "SSIM", "PSNR person"}
    assert (out / "figures.png").is_file()
    assert "judge distance" not in ours.means() and "FID" not in ours.means()


def test_doing_nothing_reconstructs_every_face(measured):
    means = measured[0].rows[PHOTOGRAPHS].means()
    assert means == {"PSNR": 100, "SSIM": pytest.approx(1), "PSNR person": 100, "agreement": means["agreement"]}
    assert measured[0].rows[SOURCES].means().keys() == {"agreement"}


def test_reconstruction_is_that_of_the_network(measured, weights, faces):
    """The first face's PSNR computed anew, with 8-bit rounding."""
    from maskgan.data import open_faces

    sample = open_faces(str(faces), size=64, split="val", seed=0)[0]
    image, labels = sample["image"][None], sample["labels"][None]
    model = MaskGAN.from_pretrained(weights)
    with torch.no_grad():
        drawn = model(image, labels, image, labels).image
    levels = [np.rint(127.5 * (p[0].clamp(-1, 1).numpy() + 1)) for p in (drawn, image)]
    expected = 10 * math.log10(255**2 / np.square(levels[0] - levels[1]).mean())
    assert measured[0].rows["ours"].reconstruction[0]["PSNR"] == pytest.approx(expected, abs=0.02)


def test_the_judge_distance_is_that_of_mean_features(weights, parser_weights, faces):
    """Computed anew with scipy from the judge's features, also of the targets' photographs."""
    from maskgan.data import open_faces
    from retouch_common.metrics.quality import quantise
    from retouch_common.parsing.model import ParsingUNet
    from scipy.linalg import sqrtm

    options = EvaluationOptions(pairs=6, judge=str(parser_weights), judge_distance=True, device="cpu")
    result = evaluate({"ours": weights}, str(faces), options, report=lambda line: None)
    judge, model = ParsingUNet.from_pretrained(parser_weights), MaskGAN.from_pretrained(weights)
    held_out, training = (open_faces(str(faces), size=64, split=split, seed=0) for split in ("val", "train"))
    drawn, targets = [], []
    with torch.no_grad():
        for source, target in drawn_pairs(len(held_out), 6, 0):
            samples = [(held_out[i]["image"][None], held_out[i]["labels"][None]) for i in (source, target)]
            drawn.append(model(*samples[0], *samples[1]).image[0].clamp(-1, 1))
            targets.append(samples[1][0][0])
        sets = []
        for images in (drawn, targets, [training[i]["image"] for i in range(len(training))]):
            levels = quantise((torch.stack(list(images)) + 1) / 2)
            sets.append(judge.eval().encode(levels)[-1].mean(dim=(2, 3)).double().numpy())
    means, covariances = [s.mean(axis=0) for s in sets], [np.cov(s, rowvar=False) for s in sets]
    for number, row in enumerate(("ours", PHOTOGRAPHS)):
        root = sqrtm(covariances[number] @ covariances[2]).real
        expected = np.square(means[number] - means[2]).sum() + np.trace(covariances[number] + covariances[2] - 2 * root)
        assert result.rows[row].means()["judge distance"] == pytest.approx(expected, rel=0.02)


class Shade(torch.nn.Module):
    """A face parser that takes darker pixels for lower labels."""

    def forward(self, image):
        return F.one_hot((11 * image.mean(dim=1)).long().clamp(0, 10), 11).movedim(-1, 1).float()


def test_agreement_by_hand():
    """Three pixels of four: shades of 0, 0.25, 0.75 and 1 are the labels 0, 2, 8 and 10."""
    image = torch.tensor([[-1.0, -0.5], [0.5, 1.0]]).expand(1, 3, 2, 2)
    assert agreement(Shade(), image, torch.tensor([[[0, 2], [3, 10]]])) == 0.75


def test_agreement_is_with_the_targets_mask(weights, parser_weights, faces, drawn_labels, drawn_pictures, monkeypatch):
    """Of the photographs, of the sources, and of faces that are generated with the source's appearance."""
    held_out = list(zip(drawn_pictures(3).split(1), drawn_labels(3).split(1), strict=True))
    seen, model = [], MaskGAN.from_pretrained(weights)
    monkeypatch.setattr("maskgan.evaluate._load_faces", lambda *_: held_out)
    monkeypatch.setattr("maskgan.evaluate.agreement", lambda judge, *given: seen.append(given) or 0.5)
    options = EvaluationOptions(pairs=6, judge=str(parser_weights), device="cpu")
    evaluate({"ours": weights}, str(faces), options, report=lambda line: None)
    for (source, target), *measured in zip(drawn_pairs(3, 6, 0), seen[:6], seen[6:12], seen[12:], strict=True):
        images, masks = zip(*measured, strict=True)
        assert all(torch.equal(mask, held_out[target][1]) for mask in masks)
        assert not torch.equal(held_out[source][1], held_out[target][1])
        assert torch.equal(images[0], held_out[target][0]) and torch.equal(images[1], held_out[source][0])
        with torch.no_grad():
            drawn, own = (model(*held_out[person], *held_out[target]).image for person in (source, target))
        torch.testing.assert_close(images[2], drawn.clamp(-1, 1), rtol=0, atol=1e-5)
        assert (drawn - own).abs().max() > 1e-3


def test_locality_by_hand():
    """Of 4096 pixels 256 are the component; near it 5/256 of 64 pixels, rounded to 1, more on every side."""
    before = torch.zeros(1, 3, 64, 64)
    component = torch.zeros(1, 64, 64, dtype=torch.bool)
    component[:, 16:32, 16:32] = True
    after = before.clone()
    after[:, :, 15:33, 15:33] = 0.5  # 63 levels, in the component and right beside it
    after[:, 0, 40, 40:50] = 2 * 8 / 255  # 8 levels: not still
    after[:, 0, 41, 40:50] = 2 * 7 / 255  # 7 levels: still
    still, moved = locality(before, after, component)
    assert still == pytest.approx(1 - 10 / (64 * 64 - 18 * 18))
    assert moved == pytest.approx(63, abs=1e-3)  # from level 128 to 191


def test_means_are_over_the_faces_that_have_the_figure():
    faces = [{"PSNR": 20.0}, {"PSNR": 30.0, "PSNR person": 24.0}]
    assert Row(reconstruction=faces).means() == {"PSNR": 25, "PSNR person": 24}


def test_pairs_are_of_two_people():
    pairs = drawn_pairs(5, 50, seed=0)
    assert len(pairs) == 50 and all(source != target for source, target in pairs)
    assert pairs == drawn_pairs(5, 50, seed=0) != drawn_pairs(5, 50, seed=1)


def test_the_command_prints_tables(weights, parser_weights, faces):
    arguments = ("--data", faces, "--weights", f"ours={weights}", "--judge", parser_weights, "--pairs", 2,
                 "--device", "cpu")  # fmt: skip
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert "agreement" in result.output and "ours" in result.output
    assert result.output.count(PHOTOGRAPHS) == 3 and "png8: what a saved 8-bit file scores" in result.output
    assert "FID" not in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--weights", "ours="), "NAME=WEIGHTS"),
        (("--weights", "ours=small"), "two --weights have the same name"),
        (("--weights", f"{SOURCES}=small"), "the tables have a row of that name"),
        pytest.param(
            ("--fid", "nowhere.pth"),
            "nowhere.pth",
            marks=pytest.mark.skipif(find_spec("torch_fidelity") is None, reason="needs the extra fid"),
        ),
        (("--judge", "nobody"), "nobody"),
    ],
)
def test_what_is_wrong_is_named(weights, parser_weights, faces, arguments, message):
    given = ["--data", str(faces), "--weights", f"ours={weights}", "--judge", str(parser_weights), "--device", "cpu"]
    result = CliRunner().invoke(command, given + list(arguments))
    assert result.exit_code != 0 and message in result.output and "Traceback" not in result.output


def test_an_evaluation_that_is_there_is_not_replaced(tmp_path):
    (tmp_path / "evaluation.json").write_text("kept")
    arguments = ["--data", "missing", "--out", str(tmp_path)]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 1 and f"{tmp_path / 'evaluation.json'}: already exists" in result.output
    assert (tmp_path / "evaluation.json").read_text() == "kept"
    result = CliRunner().invoke(command, [*arguments, "--overwrite"])
    assert result.exit_code == 1 and "already exists" not in result.output  # but there are no data


def test_a_folder_that_cannot_be_made_ends_it_before_anything_is_measured(
    weights, parser_weights, faces, tmp_path, monkeypatch
):
    (tmp_path / "taken").touch()
    monkeypatch.setattr("maskgan.evaluate.agreement", lambda *_: pytest.fail("measured"))
    arguments = ["--data", faces, "--weights", f"ours={weights}", "--judge", parser_weights, "--device", "cpu"]
    result = CliRunner().invoke(command, [str(argument) for argument in (*arguments, "--out", tmp_path / "taken")])
    assert result.exit_code == 1 and "taken: File exists" in result.output
