"""Recipes are trained stage by stage, can be stopped and resumed, and end with bundled files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from nox.project import load_toml

SCRIPT = Path(__file__).with_name("weights.py")
STOPPED = 75
RECIPE = """
[small]
megabytes = 1
portraits = ["faces"]
studio = ["faces", "others"]
stages = [
    "python {portraits}/train.py --data faces:{studio} --steps 1 --out {run}/first",
    "python {portraits}/train.py --data faces:{portraits} --steps 40 --out {run}/last",
]
[small.files]
"weights/small.safetensors" = "{run}/last/weights/model.safetensors"
"""
TRAINING = """
import argparse, signal, sys, time
from pathlib import Path

parser = argparse.ArgumentParser()
for name, kind in (("--data", str), ("--steps", int), ("--out", Path)):
    parser.add_argument(name, type=kind)
options = parser.parse_args()
stopped = []
signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
metrics = options.out / "metrics.jsonl"
options.out.mkdir(parents=True, exist_ok=True)
done = len(metrics.read_text().splitlines()) if metrics.exists() else 0
for step in range(done + 1, options.steps + 1):
    time.sleep(0.02)
    with metrics.open("a") as file:
        file.write(f"{step}\\n")
    if stopped:
        sys.exit(75)
(options.out / "weights").mkdir()
import numpy as np
from safetensors.numpy import save_file
save_file({"a": np.ones(10)}, options.out / "weights" / "model.safetensors")
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package with a recipe of two stages, of a program that stops and resumes as the training commands do."""
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "train.py").write_text(TRAINING)
    (tmp_path / "package" / "weights").mkdir(parents=True)
    (tmp_path / "package" / "weights.toml").write_text(RECIPE)
    return tmp_path / "package"


def start(package: Path, *names: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, SCRIPT, package, package.parent / "runs", "--portraits", package.parent, *names]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_stopped_recipe_resumes_and_skips_finished_stages(package: Path) -> None:
    run, bundled = package.parent / "runs" / "package" / "small", package / "weights" / "small.safetensors"
    metrics = run / "last" / "metrics.jsonl"
    process = start(package)
    while process.poll() is None and not metrics.is_file():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == STOPPED, output
    assert "rerun the same command to resume" in output
    assert not bundled.exists() and not (run / "last" / "weights").exists()
    assert 0 < len(metrics.read_text().splitlines()) < 40
    finished = (run / "first" / "metrics.jsonl").stat().st_mtime_ns

    process = start(package, "small")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "finished before: python" in output
    assert (run / "first" / "metrics.jsonl").stat().st_mtime_ns == finished
    assert metrics.read_text().split() == [str(step) for step in range(1, 41)]
    assert bundled.read_bytes() == (run / "last" / "weights" / "model.safetensors").read_bytes()
    assert (package / "weights" / "SHA256SUMS").is_file()


def test_a_failed_stage_bundles_nothing(package: Path) -> None:
    (package / "weights.toml").write_text(RECIPE.replace("--steps 1 ", "--steps none "))
    process = start(package)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2 and "--steps" in output and "not finished" in output
    assert not (package.parent / "runs" / "package" / "small" / "last").exists()
    assert not (package / "weights" / "small.safetensors").exists()


def test_unknown_names_are_refused(package: Path) -> None:
    process = start(package, "large")
    assert process.communicate(timeout=60)[0] == "Error: package has no recipe large; choose from small\n"
    assert process.returncode == 1


def test_ctrl_c_reaches_later_stages_too(tmp_path: Path) -> None:
    code = "from pathlib import Path; from stages import run_stages; exit(run_stages(['true', 'sleep 60'], Path('.')))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(SCRIPT.parent)},
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert [process.stdout.readline(), process.stdout.readline()] == ["true\n", "sleep 60\n"]
        for _ in range(100):
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            time.sleep(0.1)
            if process.poll() is not None:
                break
        assert process.returncode == 128 + signal.SIGINT
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "file", sorted(SCRIPT.parent.parent.glob("packages/*/weights.toml")), ids=lambda f: f.parent.name
)
def test_recipes_of_the_packages_name_files_that_are_bundled(file: Path) -> None:
    for recipe in load_toml(file).values():
        assert all((file.parent / bundled).parent.is_dir() for bundled in recipe["files"])
        assert all(trained.startswith("{run}/") for trained in recipe["files"].values())
        for stage in recipe["stages"]:
            assert "--data faces:{" in stage and "--out {run}" in stage
        assert "--data faces:{portraits}" in stage  # of the last stage
        assert ("{studio}" in " ".join(recipe["stages"])) == ("studio" in recipe)
