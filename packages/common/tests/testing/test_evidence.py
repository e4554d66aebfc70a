import json
import os
import platform
import subprocess
import sys

import pytest
from retouch_common.testing.environment import environment
from retouch_common.testing.evidence import Evidence, NotMeasured, data_folder


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
    assert run(an_evidence(), "--only", "error", "--out", "one.json") == 0
    assert list(json.loads((tmp_path / "one.json").read_text())["figures"]) == ["error"]
    assert run(an_evidence(), "--only", "nonsense") == 2


@pytest.mark.parametrize(
    ("measure", "reason"),
    [
        (lambda: data_folder("faces/london_neutral"), "needs the portraits faces/london_neutral"),
        (lambda: float("nan"), "gave nan"),
        (lambda: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_what_cannot_be_measured_counts_against_the_package(tmp_path, monkeypatch, measure, reason):
    monkeypatch.setenv("RETOUCH_DATA", str(tmp_path / "nowhere"))
    evidence = Evidence("abpn")
    measure.__name__ = "broken"
    evidence.figure("broken", at_least=0.0)(measure)
    out = tmp_path / "out.json"
    assert run(evidence, "--out", str(out)) == 1
    figure = json.loads(out.read_text())["figures"]["broken"]
    assert figure["value"] is None and not figure["holds"] and reason in figure["reason"]


def test_portraits_are_found_where_retouch_data_says(tmp_path, monkeypatch):
    monkeypatch.setenv("RETOUCH_DATA", str(tmp_path))
    (tmp_path / "faces").mkdir()
    assert data_folder("faces") == tmp_path / "faces"
    with pytest.raises(NotMeasured, match="RETOUCH_DATA"):
        data_folder("models")


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
    keys = "date commit python system processor cores threads cpu_capability gpu packages"
    assert list(found) == keys.split()
    assert found["cores"] >= 1 and found["processor"]
    assert os.path.expanduser("~") not in json.dumps(found)


def test_benchmarks_carry_the_environment(tmp_path):
    (tmp_path / "test_speed.py").write_text("def test_speed(benchmark):\n    benchmark(sum, [1, 2])\n")
    command = [sys.executable, "-m", "pytest", "-q", "test_speed.py", "--benchmark-json=speed.json"]
    command += ["-p", "retouch_common.testing.benchmark_plugin", "--benchmark-max-time=0.01"]
    alone = {name: value for name, value in os.environ.items() if "XDIST" not in name}  # beside others nothing is timed
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, env=alone)
    machine = json.loads((tmp_path / "speed.json").read_text())["machine_info"]
    assert machine["packages"]["torch"] and "node" not in machine
