"""The lock of development has everything that the packages and groups ask for, by hash and without addresses."""

import re
from pathlib import Path

import pytest
import workspace
from nox.project import dependency_groups, load_toml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = (Path(__file__).parent / "requirements.txt").read_text(encoding="utf-8")


def test_every_requirement_is_locked_within_its_range():
    locked: dict[str, list[str]] = {}
    for name, version in re.findall(r"^(\S+?)==([^ ;]+)", LOCK, re.MULTILINE):
        locked.setdefault(canonicalize_name(name), []).append(version)
    projects = workspace.read_projects()
    lines = [line for project in projects.values() for line in project["dependencies"]]
    lines += [line for p in projects.values() for extra in p["optional-dependencies"].values() for line in extra]
    settings = load_toml(workspace.ROOT / "pyproject.toml")
    lines += dependency_groups(settings, *settings["dependency-groups"])
    own = {project["name"] for project in projects.values()}
    wanted = [requirement for line in lines if (requirement := Requirement(line)).name not in own]
    assert len(wanted) > 40
    for requirement in wanted:
        versions = locked.get(canonicalize_name(requirement.name))
        assert versions, f"{requirement} is not locked; run `nox -s lock`"
        assert all(map(requirement.specifier.contains, versions)), f"{requirement}: {versions}; run `nox -s lock`"


def test_everything_has_hashes_and_nothing_an_address():
    packages = re.split(r"\n(?=\S)", LOCK.strip())
    assert len(packages) > 100
    for package in packages:
        assert re.match(r"[a-z0-9._-]+==\S+( ; [^\n]+?)? \\\n    --hash=sha256:[0-9a-f]{64}", package), package
    assert not re.search(r"://| @ |file:|^-", LOCK, re.MULTILINE)


@pytest.mark.parametrize(
    ("workflow", "command"),
    [("ci.yml", "scripts lint types"), ("ci.yml", "repro"), ("release.yml", 'tests -- "$PACKAGE"')],
)
def test_workflows_install_from_the_lock(workflow, command):
    text = (workspace.ROOT / ".github" / "workflows" / workflow).read_text(encoding="utf-8")
    (step,) = (step for step in re.split(r"\n      - ", text) if f"python -m nox -s {command}\n" in step + "\n")
    assert 'RETOUCH_LOCKED: "1"' in step
