"""Comparisons are trained arm by arm, can be rerun, and become tables with intervals."""

from __future__ import annotations

import json
import shlex
import sys
from importlib.metadata import entry_points
from pathlib import Path

import click
import numpy as np
import pytest
from nox.project import load_toml
from reproduce import IDENTITY, Table, as_markdown, draw, estimate, resolve
from retouch_common.metrics.environment import commit

TABLE = """
[table1]
title = "A, Table 1: parts"
paper = "PSNR in dB"
expected = "The second arm is better."
portraits = ["faces"]
seeds = [0, 1]
full = {{ steps = 3 }}
smoke = {{ steps = 1 }}
prepare = ["{python} {script} 0 0 0 {{runs}}/prepared.json"]
stages = ["{python} {script} {{steps}} {{seed}} {{options}} {{run}}/result.json"]
result = "{{run}}/result.json"
reference = "plain"
paper_identity = 20.25
[table1.columns]
"gain, dB" = "/images/*/gain"
"both, dB" = ["/images/*/gain", "/{{row}}/*/gain"]
[table1.identity]
"gain, dB" = "/images/*/none"
"both, dB" = "/images/*/none"
[[table1.arms]]
row = "images"
name = "plain"
options = "0"
paper = 30.5
[[table1.arms]]
row = "images"
name = "with a part"
options = "1"
[[table1.arms]]
row = "images"
name = "another"
options = "2"
"""
PROGRAM = """
import json, sys
steps, seed, arm, out = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
images = [{"gain": arm + steps + 0.1 * image + 0.01 * seed, "none": 0.0} for image in range(5)]
json.dump({"images": images}, open(out, "w"))
with open(out + ".calls", "a") as calls:
    calls.write("called\\n")
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package with a table of three arms whose results are known."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "train.py").write_text(PROGRAM)
    recipe = TABLE.format(python=sys.executable, script=folder / "train.py")
    (folder / "reproduction.toml").write_text(recipe)
    return folder


def table(package: Path, **options: bool) -> Table:
    recipe = load_toml(package / "reproduction.toml")["table1"]
    return Table("a", "table1", recipe, package / "runs", package / "portraits", **options)


def test_every_arm_and_seed_is_trained_once(package: Path) -> None:
    assert table(package).train() == 0
    assert table(package).train() == 0
    calls = list(package.rglob("*.calls"))
    assert len(calls) == 1 + 3 * 2  # what is shared, and the arms with every seed
    assert all(file.read_text() == "called\n" for file in calls)


def test_rows_means_and_differences(package: Path) -> None:
    assert table(package).train() == 0
    measured = table(package).measure()
    assert list(measured["rows"]) == ["plain", IDENTITY, "with a part", "another"]
    plain = measured["rows"]["plain"]["gain, dB"]
    assert plain["mean"] == pytest.approx(3 + 0.2 + 0.005)
    assert 3.0 <= plain["low"] < plain["mean"] < plain["high"] <= 3.41
    difference = measured["rows"]["with a part"]["difference"]["gain, dB"]
    assert difference == pytest.approx({"mean": 1.0, "low": 1.0, "high": 1.0})  # the same images: no spread
    assert measured["rows"]["plain"]["both, dB"]["mean"] == pytest.approx(plain["mean"])
    assert np.shape(measured["samples"]["plain"]["both, dB"]) == (2, 5)  # the mean of both pointers for every image
    assert "difference" not in measured["rows"]["plain"] and "difference" not in measured["rows"][IDENTITY]
    assert measured["paper"]["values"] == {"plain": 30.5, IDENTITY: 20.25}
    (command,) = measured["arms"]["with a part"]
    assert command.endswith("3 {seed} 1 {run}/result.json")
    assert measured["commits"] == [commit()]
    json.dumps(measured)


def test_the_document_keeps_the_papers_values_apart(package: Path, tmp_path: Path) -> None:
    assert table(package, smoke=True).train() == 0
    measured = table(package, smoke=True).measure()
    lines = as_markdown(measured).splitlines()
    assert lines[0] == "# A, Table 1: parts"
    assert lines[4] == "|  | gain, dB | both, dB | against the reference: gain, dB | the paper |"
    assert lines[6].startswith("| plain | 1.2 [") and lines[6].endswith("|  | 30.5 |")
    assert lines[8].startswith("| with a part | 2.2 [") and lines[8].endswith("| +1 |  |")
    draw(measured, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_smoke_runs_two_arms_with_one_seed(package: Path) -> None:
    assert table(package, smoke=True).train() == 0
    assert sorted(folder.name for folder in (package / "runs").iterdir() if folder.is_dir()) == [
        "plain-0", "shared", "with-a-part-0",
    ]  # fmt: skip


def test_a_failed_arm_ends_the_table(package: Path) -> None:
    (package / "train.py").write_text("raise SystemExit(3)")
    assert table(package).train() == 3


def test_pointers() -> None:
    document = {"a": [{"b/c": 1}, {"b/c": 2.5}]}
    assert resolve(document, "/a/*/b~1c") == [1.0, 2.5]
    assert resolve(document, "/a/1/b~1c") == [2.5]
    assert resolve({"a": [{"d": 1}, {}, {"d": 3}]}, "/a/*/d") == [1.0, 3.0]  # undefined for one image
    for pointer in ("/x", "/a/7", "/a/*/d"):
        with pytest.raises(ValueError, match=f"the result has no {pointer.replace('*', '.')}"):
            resolve(document, pointer)
    with pytest.raises(ValueError, match="no values at /a/"):
        resolve({"a": []}, "/a/*")


def test_intervals_are_over_images_or_over_seeds() -> None:
    over_seeds = estimate(np.array([[1.0], [3.0]]))
    assert (over_seeds.mean, over_seeds.low, over_seeds.high) == (2.0, 1.0, 3.0)
    values = np.random.default_rng(0).normal(5.0, 1.0, (1, 400))
    over_images = estimate(values)
    assert over_images.mean == pytest.approx(values.mean())
    assert over_images.high - over_images.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.15)
    both = estimate(np.concatenate([values, values + 1.0]))  # seeds that differ by more than the images do
    assert both.low == pytest.approx(over_images.mean, abs=0.2) and both.high == pytest.approx(both.low + 1, abs=0.2)


def test_an_arm_has_its_own_stages_and_refers_to_another(package: Path) -> None:
    recipe = (package / "reproduction.toml").read_text()
    stage = 'stages = ["cp {runs}/plain-{seed}/result.json {run}/result.json"]'
    (package / "reproduction.toml").write_text(recipe.replace('options = "1"', stage))
    assert table(package).train() == 0
    values = table(package).measure()["samples"]
    assert values["with a part"] == values["plain"]
    assert values["another"] != values["plain"]


RECIPES = sorted(Path(__file__).parents[1].glob("packages/*/reproduction.toml"))


@pytest.mark.parametrize("smoke", [False, True])
@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.parent.name)
def test_every_command_of_a_recipe_can_be_parsed(file: Path, smoke: bool, tmp_path: Path) -> None:
    commands = {point.name: point for point in entry_points(group="console_scripts")}
    for name, recipe in load_toml(file).items():
        made = Table(file.parent.name, name, recipe, tmp_path, tmp_path / "faces", smoke=smoke)
        if "reference" in recipe:
            assert recipe["reference"] in [arm["name"] for arm in made.arms]
        for line in [command for _, commands in made.runs_of() for command in commands]:
            program, *arguments = shlex.split(line)
            if program == "python":
                assert (file.parents[2] / arguments[0]).is_file()
                continue
            command = commands[program].load()
            if isinstance(command, click.Group):
                command, arguments = command.commands[arguments[0]], arguments[1:]
            command.make_context(program, arguments)  # an unknown option or choice is an error
