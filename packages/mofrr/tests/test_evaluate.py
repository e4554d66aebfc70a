"""Evaluation: rows, kinds, baselines, and the router's accuracy."""

import json
import sys

import numpy as np
import pytest
import pyvips
import torch
from click.testing import CliRunner
from mofrr.baselines import BASELINES, build_baseline
from mofrr.cli import evaluate as command
from mofrr.cli import train as train_command
from mofrr.config import OPERATIONS, PRESETS, SINGLE
from mofrr.data import open_retouched_faces
from mofrr.evaluate import EvaluationOptions, evaluate, means
from mofrr.model import MoFRR
from mofrr.train import train
from retouch_common.config import apply_overrides
from retouch_common.files import sha256
from retouch_common.metrics.evaluation import IDENTITY


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    y, x = np.mgrid[:64, :64]
    for split, numbers in (("train", range(3)), ("val", range(3, 6))):
        for number in numbers:
            image = 110 + 40 * np.sin(x[..., None] / 9 + y[..., None] / 7 + np.arange(3) + number)
            for name, change in (("ori", 0), ("Whitening_60", 16), ("EyeEnlarging_60", 4), ("multi", 20)):
                path = folder / name / split / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pyvips.Image.new_from_array((image + change).astype(np.uint8)).write_to_file(str(path))
    lines = [f"{{'Whitening': 60, 'EyeEnlarging': 60}}\tmulti/{s}/{n}.png" for s, n in (("train", 0), ("val", 3))]
    (folder / "multi.txt").write_text("\n".join(lines))
    return str(folder)


def test_every_kind_beside_doing_nothing(published, weights, tmp_path):
    said = []
    result = evaluate(weights, published, EvaluationOptions(device="cpu", limit=2), out=tmp_path, report=said.append)
    assert list(result.kinds) == ["white", "eye", "multi", "clean"]
    assert any("no single:smooth images" in line for line in said)
    assert means(result.kinds["white"], IDENTITY)["PSNR"] == pytest.approx(20 * np.log10(255 / 16), abs=0.05)
    assert means(result.kinds["clean"], IDENTITY)["PSNR"] == 100
    assert {len(result.kinds[k].images) + len(result.kinds[k].clean) for k in ("white", "eye", "clean")} == {2}
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert set(written["kinds"]) == set(result.kinds) and (tmp_path / "figures.png").is_file()
    router, right = MoFRR.from_pretrained(weights).router, []
    for title in ("white", "eye", "multi", "clean"):
        kind = title if title in ("multi", "clean") else "single"
        faces = open_retouched_faces(
            published, size=64, split="val", seed=0, operations=OPERATIONS, kind=kind, operation=title
        )
        pairs = [faces.pair(index) for index in range(min(2, len(faces)))]
        gates = torch.sigmoid(router(torch.stack([pair.retouched for pair in pairs]))) > 0.5
        assert result.active[title] == gates.sum() / len(pairs)
        right.append(gates == torch.tensor([[name in pair.applied for name in OPERATIONS] for pair in pairs]))
    shares = torch.cat(right).float().mean(dim=0).tolist()
    assert result.accuracy == pytest.approx(dict(zip(OPERATIONS, shares, strict=True)))


def test_an_expert_of_all_operations_is_measured_on_each_alone(published, tmp_path):
    MoFRR(apply_overrides(PRESETS["tiny"], SINGLE).model).save_pretrained(tmp_path / "weights")
    options = EvaluationOptions(device="cpu", limit=1)
    result = evaluate(str(tmp_path / "weights"), published, options, report=lambda line: None)
    assert list(result.kinds) == ["white", "eye", "multi", "clean"]


def test_baselines_and_similarity(published, weights, tmp_path):
    pytest.importorskip("spandrel")
    config = apply_overrides(PRESETS["tiny"], {"train.steps": 1, "train.batch_size": 2, "train.sheet_every": 1})
    for name in BASELINES:
        train({f"baseline-{name}": config}, published, tmp_path / "run", device="cpu", report=print)

    class Mean(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.shape[0] == 1, "as networks that are exported for one face"
            return x.mean(dim=(2, 3)) + 1

    torch.jit.script(Mean()).save(str(tmp_path / "mean.pt"))
    arguments = ["--data", published, "--weights", weights, "--limit", "1", "--device", "cpu"]
    arguments += ["--baselines", tmp_path / "run", "--embedder", tmp_path / "mean.pt", "--out", tmp_path / "out"]
    arguments += ["--embedder-sha256", sha256(tmp_path / "mean.pt")]
    shown = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert shown.exit_code == 0, shown.output
    rows = {*BASELINES.values(), "MoFRR", IDENTITY}
    for row in (*rows, "accuracy", "cosine to the original"):
        assert row in shown.output
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert set(written["similarity"]) == rows
    assert written["similarity"][IDENTITY]["faces"] == 3


def test_without_spandrel_the_extra_is_named_before_anything_is_trained(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "spandrel.architectures.NAFNet.__arch.NAFNet_arch", None)
    with pytest.raises(ValueError, match=r'needs spandrel: pip install "mofrr\[baselines\]"'):
        build_baseline("nafnet", PRESETS["tiny"].model)
    arguments = ["baseline", "--preset", "tiny", "--data", "faces:none", "--out", str(tmp_path / "run")]
    refused = CliRunner().invoke(train_command, arguments)
    assert refused.exit_code == 1 and "needs spandrel" in refused.output and not (tmp_path / "run").exists()


def test_refuses_what_is_not_there(published, weights, tmp_path):
    with pytest.raises(ValueError, match="holds no trained baselines"):
        evaluate(weights, published, EvaluationOptions(device="cpu", baselines=str(tmp_path)), report=print)
    with pytest.raises(ValueError, match="limit must be at least 1"):
        EvaluationOptions(limit=0)
    shown = CliRunner().invoke(command, ["--data", str(tmp_path), "--weights", weights, "--device", "cpu"])
    assert shown.exit_code == 1 and "no folder of originals" in shown.output and "Traceback" not in shown.output
    shown = CliRunner().invoke(
        command, ["--data", published, "--weights", weights, "--device", "cpu", "--api", "megvii"]
    )
    assert shown.exit_code == 1 and "no image of megvii in the split 'test'" in shown.output


def test_an_evaluation_that_is_there_is_not_replaced(weights, tmp_path):
    (tmp_path / "evaluation.json").write_text("kept")
    arguments = ["--data", "missing", "--weights", weights, "--out", str(tmp_path)]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 1 and f"{tmp_path / 'evaluation.json'}: already exists" in result.output
    assert (tmp_path / "evaluation.json").read_text() == "kept"
    result = CliRunner().invoke(command, [*arguments, "--overwrite"])
    assert result.exit_code == 1 and "already exists" not in result.output  # but there are no data


def test_a_folder_that_cannot_be_made_ends_it_before_anything_is_measured(published, weights, tmp_path, monkeypatch):
    (tmp_path / "taken").touch()
    monkeypatch.setattr("mofrr.evaluate._restore", lambda *_: pytest.fail("measured"))
    arguments = ["--data", published, "--weights", weights, "--device", "cpu", "--out", str(tmp_path / "taken")]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 1 and "taken: File exists" in result.output
