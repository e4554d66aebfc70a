"""Tables of model cards come from metrics and evidence; what a person wrote stays."""

from __future__ import annotations

import json
from pathlib import Path

import model_card
import numpy as np
import pytest
from safetensors.numpy import save_file

CARD = """# Weights

By hand.

<!-- training: small -->
old
<!-- end -->

Also by hand.

<!-- evidence -->
<!-- end -->
"""
RECIPE = """
[small]
portraits = ["headshots", "congress"]
curve = ["val_psnr"]
stages = ["x-train --data faces:{portraits} --out {run}"]
[small.files]
"small.safetensors" = "{run}/weights/model.safetensors"
"""
FIGURES = {
    "gain": {
        "title": "people anywhere, drawn blemishes: gain", "bar": ">= 6", "unit": "dB", "value": 6.4321, "holds": True,
        "details": {"gain by skin tone": {"dark": 5.98}, "pictures by skin tone": {"dark": 11}},
    },
    "worse": {"title": "studio people: pictures that are worse", "bar": "<= 0", "unit": "", "value": 2, "holds": False,
              "details": {}},
    "size": {"title": "size", "bar": "<= 15", "unit": "MB", "value": None, "holds": False, "details": {}},
}  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    package, run = tmp_path / "packages" / "x", tmp_path / "runs" / "x" / "small"
    for folder in (package, run, tmp_path / "docs" / "evidence"):
        folder.mkdir(parents=True)
    (package / "weights.toml").write_text(RECIPE)
    (package / "MODEL_CARD.md").write_text(CARD)
    save_file(
        {"a": np.zeros((1000, 1000), np.float32), "b": np.zeros(500_000, np.float32)}, package / "small.safetensors"
    )
    lines = []
    for step in range(100, 3100, 100):  # the process was stopped after step 2,000
        lines.append({"step": step, "loss": 1.0, "seconds": 6.0 * (step if step <= 2000 else step - 2000)})
        lines.append({"step": step, "val_psnr": 20 + step / 1000, "val_other": 1.0})
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    evidence = {"package": "x", "environment": {"commit": "abc", "date": "2026-01-02T03:04"}, "figures": FIGURES}
    (tmp_path / "docs" / "evidence" / "x.json").write_text(json.dumps(evidence))
    return tmp_path


def test_sections_are_written_and_the_rest_stays(workspace: Path) -> None:
    package = workspace / "packages" / "x"
    for _ in range(2):  # a second time changes nothing
        model_card.write_card(package, workspace / "runs", root=workspace)
        text = (package / "MODEL_CARD.md").read_text()
        assert text.startswith("# Weights\n\nBy hand.\n") and "\nAlso by hand.\n" in text and "old" not in text
        assert "`nox -s weights -- x small` trains these weights. FOLDERS are `headshots`, `congress`:" in text
        assert "x-train --data faces:FOLDERS --out RUN" in text
        assert "| small | 3,000 | 5.0 |" in text
        assert "`small.safetensors`: 1.5 M parameters, 6.0 MB." in text
        assert "| step | psnr |" in text and "| 100 | 20.10 |" in text and "| 3,000 | 23.00 |" in text
        assert sum(line.startswith("| ") and line.endswith(" |") and "2" in line for line in text.splitlines()) < 20
        assert "| people anywhere, drawn blemishes: gain | 6.43 dB | >= 6 dB |  |" in text
        assert "| studio people: pictures that are worse | 2 | <= 0 | missed |" in text
        assert "| size | not measured | <= 15 MB | missed |" in text
        assert "| people anywhere, drawn blemishes: gain | dark | 11 | 5.98 dB |" in text
        assert text.index("People anywhere") < text.index("Studio people") < text.index("Everything else")


def test_without_runs_only_the_evidence_is_written(workspace: Path) -> None:
    model_card.write_card(workspace / "packages" / "x", None, root=workspace)
    text = (workspace / "packages" / "x" / "MODEL_CARD.md").read_text()
    assert "\nold\n" in text and "6.43 dB" in text


def test_a_card_shows_the_figures_of_its_weights(workspace: Path) -> None:
    package = workspace / "packages" / "x"
    (package / "weights.toml").write_text(RECIPE.replace("[small.files]", 'evidence = ["ga*", "size"]\n[small.files]'))
    model_card.write_card(package, None, root=workspace)
    text = (package / "MODEL_CARD.md").read_text()
    assert "6.43 dB" in text and "| size |" in text and "pictures that are worse" not in text


def test_stages_are_told_apart_in_the_order_of_training(workspace: Path) -> None:
    run = workspace / "runs" / "x" / "small"
    for number, stage in enumerate(("router", "expert-eye")):
        (run / stage).mkdir()
        file = run / stage / "metrics.jsonl"
        file.write_text(json.dumps({"step": 40 + number, "loss": 1, "seconds": 720}) + "\n")
    (run / "metrics.jsonl").unlink()
    model_card.write_card(workspace / "packages" / "x", workspace / "runs", root=workspace)
    text = (workspace / "packages" / "x" / "MODEL_CARD.md").read_text()
    assert "| router | 40 | 0.2 |\n| expert-eye | 41 | 0.2 |" in text and "while training" not in text


def test_a_run_that_is_not_there_is_named(workspace: Path) -> None:
    model_card.write_card(workspace / "packages" / "x", workspace / "elsewhere", ["another"], root=workspace)
    with pytest.raises(ValueError, match=r"elsewhere/x/small: no metrics\.jsonl"):
        model_card.write_card(workspace / "packages" / "x", workspace / "elsewhere", root=workspace)
