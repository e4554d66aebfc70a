import json
import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from retouch_common.metrics import environment as environments
from retouch_common.metrics.environment import environment, work_tree_changes
from retouch_common.testing import evidence as evidences
from retouch_common.testing.evidence import Evidence, NotMeasured, face_sets
from retouch_common.testing.sheets import changes_over


@pytest.fixture(autouse=True)
def committed(monkeypatch):
    """Whatever is being worked on here counts as committed."""
    monkeypatch.setattr(evidences, "work_tree_changes", lambda: [])


def an_evidence(value=2.0):
    evidence = Evidence("abpn")

    @evidence.figure("gain over identity", at_least=2.0, unit="dB")
    def gain():
        return value, {"people": 9}

    @evidence.figure("largest error", at_most=1e-5)
    def error():
        return 1e-6

    return evidence


def run(evidence, *arguments):
    with pytest.raises(SystemExit) as caught:
        evidence.main(list(arguments))
    return caught.value.code


def test_all_figures_are_written_beside_their_bars(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(an_evidence()) == 0
    document = json.loads((tmp_path / "docs/evidence/abpn.json").read_text())
    gain = document["figures"]["gain"]
    assert (gain["value"], gain["bar"], gain["holds"], gain["details"]) == (2.0, ">= 2", True, {"people": 9})
    assert gain["command"] == "nox -s evidence -- abpn --only gain"
    assert document["environment"]["packages"]["torch"]
    assert "2 of 2 figures hold" in capsys.readouterr().out


def test_a_figure_that_falls_short_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(an_evidence(1.999)) == 1
    assert "FALLS SHORT" in capsys.readouterr().out
    figures = json.loads((tmp_path / "docs/evidence/abpn.json").read_text())["figures"]
    assert [figure["holds"] for figure in figures.values()] == [False, True]


def test_one_figure_alone_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(an_evidence(1.0), "--only", "error") == 0
    assert list(tmp_path.iterdir()) == []
    assert run(an_evidence(), "--only", "nonsense") == 2


def test_what_belongs_to_no_commit_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for changes, named in (
        (["a.py", "b.py", "c.py", "d.py"], "a.py, b.py, c.py and 1 more"),
        (None, "no git checkout"),
    ):
        monkeypatch.setattr(evidences, "work_tree_changes", lambda changes=changes: changes)
        assert run(an_evidence()) == 2
        assert named in capsys.readouterr().err
        assert run(an_evidence(), "--allow-dirty") == 0
        assert "2 of 2 figures hold" in capsys.readouterr().out
        assert run(an_evidence(), "--only", "error") == 0  # writes nothing in any case
        assert list(tmp_path.iterdir()) == []


def test_a_stopped_run_resumes_with_the_same_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RETOUCH_RUNS", str(tmp_path / "elsewhere"))
    measured, stopped = [], iter([True, False, True, False])

    def a_run():
        evidence = Evidence("abpn")

        @evidence.kept
        def part(number):
            measured.append(number)
            return {"people": number}

        @evidence.figure("first", at_least=0.0)
        def first():
            measured.append("first")
            return 1.0, part(1)

        @evidence.figure("not here", at_least=0.0)
        def missing():
            measured.append("missing")
            raise NotMeasured("needs portraits")

        @evidence.figure("second", at_least=0.0)
        def second():
            part(1), part(2)
            if next(stopped):
                raise KeyboardInterrupt
            return 2.0

        return evidence

    with pytest.raises(SystemExit):  # click's answer to Ctrl-C
        a_run().main([])
    assert measured == ["first", 1, "missing", 2] and not (tmp_path / "docs").exists()
    assert run(a_run()) == 1
    assert measured == ["first", 1, "missing", 2, "missing"]
    figures = json.loads((tmp_path / "docs/evidence/abpn.json").read_text())["figures"]
    assert [figure["value"] for figure in figures.values()] == [1.0, None, 2.0]
    assert figures["first"]["details"] == {"people": 1}
    assert list((tmp_path / "elsewhere/evidence").iterdir()) == []  # the next run measures afresh

    with pytest.raises(SystemExit):
        a_run().main([])
    monkeypatch.setattr(evidences, "environment", lambda: {"date": "later", "commit": "another"})
    measured.clear()
    run(a_run())
    assert measured == ["first", 1, "missing", 2]


def test_nothing_is_kept_of_one_figure_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evidence = Evidence("abpn")

    @evidence.kept
    def part():
        measured.append(1)
        return 1.0

    measured = []
    evidence.figure("one", at_least=0.0, name="one")(part)
    evidence.figure("two", at_least=0.0, name="two")(part)
    assert run(evidence, "--only", "one", "--only", "two") == 0
    assert measured == [1] and list(tmp_path.iterdir()) == []


def test_figures_are_of_the_commit_at_which_they_began(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commits = iter("ab")
    monkeypatch.setattr(evidences, "environment", lambda: {"commit": next(commits)})
    evidence = an_evidence()
    evidence.figure("the next commit", at_least=0.0)(lambda: len(evidences.environment()))
    run(evidence)
    assert json.loads((tmp_path / "docs/evidence/abpn.json").read_text())["environment"] == {"commit": "a"}


def test_changes_of_a_work_tree_are_found_but_for_evidence(tmp_path, monkeypatch):
    def git(*arguments):
        about = ("-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *about, *arguments], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))  # nox's folder lies in a repository
    monkeypatch.setattr(environments, "__file__", str(tmp_path / "packages" / "module.py"))
    for folder in ("packages", "docs/evidence"):
        (tmp_path / folder).mkdir(parents=True)
    assert work_tree_changes() is None and environment()["commit"] is None
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "of a repository in which the package is only installed")
    (tmp_path / "packages/module.py").write_text("a = 1\n")
    assert work_tree_changes() is None and environment()["commit"] is None
    (tmp_path / "docs/evidence/abpn.json").write_text("{}\n")
    (tmp_path / ".gitignore").write_text("runs/\n")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    (tmp_path / "docs/evidence/abpn.json").write_text("{1}\n")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/log").touch()
    assert work_tree_changes() == []
    commit = environment()["commit"]
    assert len(commit) == 12
    (tmp_path / "packages/module.py").write_text("a = 2\n")
    (tmp_path / "packages/new.py").touch()
    assert work_tree_changes() == ["packages/module.py", "packages/new.py"]
    assert environment()["commit"] == f"{commit}-dirty"


def test_every_package_of_the_project_is_recorded(monkeypatch):
    class Distribution:
        def __init__(self, name, *requires):
            self.metadata, self.requires = {"Name": name}, requires

    there = [
        Distribution("retouch-common", "torch"),
        Distribution("a-new-paper", "numpy", "retouch-common<0.2,>=0.1"),
        Distribution("another", "retouch-commons"),
        Distribution("bare"),
    ]
    monkeypatch.setattr(environments.metadata, "distributions", lambda: there)
    monkeypatch.setattr(environments.metadata, "version", lambda name: "0.1.0")
    packages = environment()["packages"]
    assert packages["a-new-paper"] == packages["retouch-common"] == "0.1.0"
    assert "another" not in packages and "bare" not in packages


def test_sheets_are_written_instead_of_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    evidence = an_evidence(0.0)
    assert run(evidence, "--sheets", "out") == 2
    assert "no sheets of abpn" in capsys.readouterr().err
    picture = np.full((20, 30, 3), 100, np.uint8)

    @evidence.sheets
    def rows():
        for number in range(7):
            yield {"before": picture, "after": picture + number}

    assert run(evidence, "--sheets", "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["abpn_01.png", "abpn_02.png"]
    assert capsys.readouterr().out.split() == ["out/abpn_01.png", "out/abpn_02.png"]


def test_changed_pixels_are_shown_red_over_grey():
    before = np.full((8, 8, 3), 60, np.uint8)
    after = before.copy()
    after[2, 3] += 3
    after[5, 5] += 2
    shown = changes_over(before, after)
    assert tuple(shown[2, 3]) == (230, 20, 20)
    assert np.ptp(shown[5, 5]) == 0 and (shown[5, 5] == shown[0, 0]).all()


@pytest.mark.parametrize(
    ("measure", "reason"),
    [
        (lambda: face_sets(["london_neutral"]), "needs the portraits faces/london_neutral"),
        (lambda: float("nan"), "gave nan"),
        (lambda: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_what_cannot_be_measured_counts_against_the_package(tmp_path, monkeypatch, measure, reason):
    monkeypatch.setenv("RETOUCH_DATA", str(tmp_path / "nowhere"))
    evidence = Evidence("abpn")
    measure.__name__ = "broken"
    evidence.figure("broken", at_least=0.0)(measure)
    monkeypatch.chdir(tmp_path)
    assert run(evidence) == 1
    figure = json.loads((tmp_path / "docs/evidence/abpn.json").read_text())["figures"]["broken"]
    assert figure["value"] is None and not figure["holds"] and reason in figure["reason"]


def test_portraits_are_found_where_retouch_data_says(tmp_path, monkeypatch):
    monkeypatch.setenv("RETOUCH_DATA", str(tmp_path))
    for name in "ab":
        (tmp_path / "faces" / name).mkdir(parents=True)
    assert face_sets("ab") == f"{tmp_path}/faces/a,{tmp_path}/faces/b"
    with pytest.raises(NotMeasured, match="faces/c; set RETOUCH_DATA"):
        face_sets("abc")


def test_a_figure_needs_one_bar_and_a_name_of_its_own():
    evidence = an_evidence()
    for bars in ({}, {"at_least": 1.0, "at_most": 2.0}):
        with pytest.raises(ValueError, match="either"):
            evidence.figure("x", **bars)
    with pytest.raises(ValueError, match="twice"):

        @evidence.figure("again", at_least=1.0)
        def gain():
            return 1.0


def test_the_environment_says_what_matters_and_names_no_host(monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: pytest.fail("asked for the host's name"))
    found = environment()
    keys = "date commit python system processor cores threads cpu_capability huge_pages gpu packages"
    assert list(found) == keys.split()
    assert found["cores"] >= 1 and found["processor"] and found["huge_pages"] in ("always", "madvise", "never", None)
    assert os.path.expanduser("~") not in json.dumps(found)


def test_benchmarks_carry_the_environment(tmp_path):
    (tmp_path / "test_speed.py").write_text("def test_speed(benchmark):\n    benchmark(sum, [1, 2])\n")
    command = [sys.executable, "-m", "pytest", "-q", "test_speed.py", "--benchmark-json=speed.json"]
    command += ["-p", "retouch_common.testing.benchmark_plugin", "--benchmark-max-time=0.01"]
    alone = {name: value for name, value in os.environ.items() if "XDIST" not in name}  # beside others nothing is timed
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, env=alone)
    machine = json.loads((tmp_path / "speed.json").read_text())["machine_info"]
    assert machine["packages"]["torch"] and "node" not in machine
