"""Questions that the workflows ask about the packages; needs nox installed (for its TOML reader).

python .ci/workspace.py changed BASE     # folders of packages to test: changed since BASE, and dependents
python .ci/workspace.py release TAG      # folder of the package that a tag such as abpn-v0.2.1 releases
python .ci/workspace.py address URL      # nothing; writes the repository's address into all packages' metadata
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from nox.project import load_toml
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


def read_projects(root: Path = ROOT) -> dict[str, dict]:
    """The [project] tables of all packages, by folder name."""
    files = sorted(root.glob("packages/*/pyproject.toml"))
    return {file.parent.name: load_toml(file)["project"] for file in files}


def with_dependents(folders: Iterable[str], projects: dict[str, dict]) -> list[str]:
    """The folders and all that depend on them, directly or not, sorted."""
    folder_of = {project["name"]: folder for folder, project in projects.items()}
    needs = {
        folder: {folder_of.get(Requirement(line).name) for line in project.get("dependencies", [])}
        for folder, project in projects.items()
    }
    found = set(folders)
    while more := {folder for folder, needed in needs.items() if needed & found} - found:
        found |= more
    return sorted(found)


def packages_of(paths: Iterable[str], projects: dict[str, dict]) -> list[str]:
    """The packages to test when these files changed: all of them if a file belongs to the workspace.

    Documentation outside the packages needs no test of theirs, but for the guide whose table of metadata common tests.
    """
    touched = set()
    for path in paths:
        first, _, rest = path.partition("/")
        if first == "packages":
            touched.add(rest.partition("/")[0])
        elif path == "docs/guides/photographs.md":
            touched.add("common")
        elif not (first == "docs" or path.endswith(".md")):
            return sorted(projects)
    return with_dependents(touched & projects.keys(), projects)


def changed(base: str) -> list[str]:
    """The packages to test for what the working tree changed since a commit; all if git does not know it."""
    command = ["git", "diff", "--name-only", f"{base}...HEAD"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    projects = read_projects()
    return packages_of(result.stdout.splitlines(), projects) if result.returncode == 0 else sorted(projects)


def release(tag: str, root: Path = ROOT) -> str:
    """The folder of the package that a tag releases; exits if tag, version and changelog disagree."""
    projects = read_projects(root)
    match = re.fullmatch(r"([\w-]+?)-v(\d[\w.]*)", tag)
    if not match or match[1] not in projects:
        sys.exit(f"tag {tag!r} is not PACKAGE-vVERSION with a package of {', '.join(projects)}")
    folder, version = match[1], match[2]
    if projects[folder]["version"] != version:
        sys.exit(f"tag {tag!r}, but packages/{folder}/pyproject.toml has version {projects[folder]['version']}")
    changelog = (root / "packages" / folder / "CHANGELOG.md").read_text(encoding="utf-8")
    if not re.search(rf"^## {re.escape(version)}\b", changelog, flags=re.MULTILINE):
        sys.exit(f"tag {tag!r}, but packages/{folder}/CHANGELOG.md has no section `## {version}`")
    return folder


def write_address(url: str, root: Path = ROOT) -> None:
    """Add the repository's address to the metadata of all packages; only a release knows where it comes from."""
    for file in root.glob("packages/*/pyproject.toml"):
        text = file.read_text(encoding="utf-8").rstrip()
        file.write_text(f'{text}\n\n[project.urls]\nRepository = "{url}"\n', encoding="utf-8")


def main(arguments: list[str]) -> None:
    """Answer one question on standard output."""
    match arguments:
        case ["changed", base]:
            print(*changed(base))
        case ["release", tag]:
            print(release(tag))
        case ["address", url]:
            write_address(url)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
