import io
import tarfile
import zipfile

import check_dist
import pytest
import workspace

PROJECTS = {
    "common": {"name": "retouch-common", "version": "0.1.0"},
    "abpn": {"name": "abpn", "version": "0.2.1", "dependencies": ["retouch-common>=0.1,<0.2"]},
    "studio": {"name": "studio", "version": "0.1.0", "dependencies": ["abpn>=0.2", "click"]},
    "lonely": {"name": "lonely", "version": "0.1.0", "dependencies": []},
}


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["packages/common/src/retouch_common/cli/options.py"], ["abpn", "common", "studio"]),
        (["packages/abpn/README.md"], ["abpn", "studio"]),
        (["packages/lonely/tests/test_a.py", "docs/abpn.md"], ["lonely"]),
        (["noxfile.py", "packages/lonely/a.py"], sorted(PROJECTS)),
        ([".github/workflows/ci.yml"], sorted(PROJECTS)),
        (["README.md", "docs/guides/training.md"], []),
        (["docs/guides/photographs.md"], ["abpn", "common", "studio"]),
        (["packages/removed/a.py"], []),
        ([], []),
    ],
)
def test_a_change_tests_its_package_and_what_depends_on_it(paths, expected):
    assert workspace.packages_of(paths, PROJECTS) == expected


def test_an_unknown_base_tests_everything():
    assert workspace.changed("no-such-commit") == sorted(workspace.read_projects())


@pytest.mark.parametrize("name", ["ci", "release"])
def test_workflows_test_the_pages_in_a_browser_that_must_be_there(name):
    """Tests that need one are skipped otherwise."""
    before, _, after = (workspace.ROOT / f".github/workflows/{name}.yml").read_text().partition("nox -s tests")
    step = before.rpartition("      - ")[2] + after.partition("      - ")[0]
    assert "RETOUCH_BROWSER: required" in step and "google-chrome" in before


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "packages" / "abpn"
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[project]\nname = "abpn"\nversion = "0.2.1"\n')
    (folder / "CHANGELOG.md").write_text("# Changelog\n\n## 0.2.1 (2026-01-02)\n")
    return tmp_path


def test_a_tag_names_the_package_it_releases(root):
    assert workspace.release("abpn-v0.2.1", root) == "abpn"


@pytest.mark.parametrize("tag", ["abpn-v0.2.2", "v0.2.1", "abpn-0.2.1", "other-v0.2.1", "abpn-v0.2.1;ls"])
def test_a_tag_that_fits_nothing_is_refused(root, tag):
    with pytest.raises(SystemExit, match="tag"):
        workspace.release(tag, root)


def test_a_release_needs_its_changelog(root):
    (root / "packages/abpn/CHANGELOG.md").write_text("# Changelog\n\n## 0.2.10\n")
    with pytest.raises(SystemExit, match="CHANGELOG"):
        workspace.release("abpn-v0.2.1", root)


def test_the_address_of_the_repository_becomes_metadata(root):
    file = root / "packages" / "abpn" / "pyproject.toml"
    workspace.write_address("https://example.org/retouch", root)
    project = workspace.load_toml(file)["project"]
    assert project["version"] == "0.2.1" and project["urls"] == {"Repository": "https://example.org/retouch"}


GOOD = """Metadata-Version: 2.4
Name: abpn
Version: 0.2.1
Summary: x
License-Expression: MIT
Requires-Python: >=3.10
"""


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ("Requires-Dist: retouch-common @ file:///somewhere/common\n", "leaks an address"),
        ("Requires-Dist: retouch-common (file:../common)\n", "leaks an address"),
        ("", None),
        ("\n| SSIM | as of an 8-bit file: clamped | mail me @ home |\n", None),
    ],
)
def test_a_path_in_the_metadata_is_found(extra, says):
    problems = check_dist.metadata_problems(f"{GOOD}{extra}\n# Title\n")
    assert (says is None and problems == []) or (len(problems) == 1 and says in problems[0])


@pytest.mark.parametrize(("line", "count"), [("Project-URL: Repository, https://here/a\n", 0), ("", 1)])
def test_a_release_without_the_address_of_its_repository_is_found(monkeypatch, line, count):
    monkeypatch.setenv("RETOUCH_ADDRESS", "https://here/a")
    problems = check_dist.metadata_problems(f"{GOOD}{line}\n# Title\n")
    assert len(problems) == count and all("https://here/a" in problem for problem in problems)


def test_metadata_without_a_readme_or_licence_is_found():
    problems = check_dist.metadata_problems("Metadata-Version: 2.4\nSummary: x\nRequires-Python: >=3.10\n\n")
    assert problems == ["metadata has no License-Expression", "metadata has no description (README.md)"]


def test_a_wheel_without_its_parts_is_found(tmp_path):
    path = tmp_path / "abpn-0.2.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("abpn-0.2.1.dist-info/METADATA", f"{GOOD}\ntext\n")
        file.writestr("tests/test_a.py", "")
    assert check_dist.wheel_problems(path) == [
        f"{path.name}: has no bill of materials that lists its weights; `python .ci/sbom.py` adds it",
        f"{path.name}: has no LICENSE",
        f"{path.name}: has no py.typed",
        f"{path.name}: holds tests/test_a.py",
    ]


def test_an_sdist_without_its_licence_is_found(tmp_path):
    path = tmp_path / "abpn-0.2.1.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        for name, text in (("PKG-INFO", f"{GOOD}\ntext\n"), ("README.md", "text"), ("pyproject.toml", "")):
            info = tarfile.TarInfo(f"abpn-0.2.1/{name}")
            info.size = len(text)
            file.addfile(info, io.BytesIO(text.encode()))
    assert check_dist.sdist_problems(path) == [f"{path.name}: has no LICENSE"]
