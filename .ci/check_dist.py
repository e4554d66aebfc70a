"""Check the built sdists and wheels in dist/: `python .ci/check_dist.py PACKAGE…`.

A dependency with a path or address (` @ `, `file:`) works on the machine that built it and nowhere else; pip
refuses it in a published wheel. Licence, typing marker, version and bill of materials must be in place too, and where
RETOUCH_ADDRESS is set, as in a release, that address of the repository.
"""

from __future__ import annotations

import email
import json
import os
import sys
import tarfile
import zipfile
from pathlib import Path

from sbom import sbom_of, sbom_path
from workspace import ROOT, read_projects

LARGEST = 45 * 2**20  # bytes; the bundled weights may take 40 MB, and PyPI takes 100


def wheel_problems(wheel: Path) -> list[str]:
    """What is wrong with a wheel, one line each."""
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        problems = metadata_problems(file.read(metadata).decode())
        if json.loads(file.read(sbom_path(file)) if sbom_path(file) in names else b"{}") != sbom_of(file):
            problems.append("has no bill of materials that lists its weights; `python .ci/sbom.py` adds it")
    problems += [f"has no {part}" for part in ("LICENSE", "py.typed") if not any(n.endswith(part) for n in names)]
    problems += [f"holds {name}" for name in names if name.startswith(("tests/", "benchmarks/", "src/"))]
    if wheel.stat().st_size > LARGEST:
        problems.append(f"has {wheel.stat().st_size / 2**20:.0f} MB; at most {LARGEST // 2**20} are allowed")
    return [f"{wheel.name}: {problem}" for problem in problems]


def sdist_problems(sdist: Path) -> list[str]:
    """What is wrong with an sdist, one line each."""
    with tarfile.open(sdist) as file:
        folder = sdist.name.removesuffix(".tar.gz")
        names = file.getnames()
        problems = metadata_problems(file.extractfile(f"{folder}/PKG-INFO").read().decode())
    wanted = ("LICENSE", "README.md", "pyproject.toml")
    problems += [f"has no {part}" for part in wanted if f"{folder}/{part}" not in names]
    return [f"{sdist.name}: {problem}" for problem in problems]


def metadata_problems(text: str) -> list[str]:
    """What is wrong with the text of a METADATA or PKG-INFO, one line each."""
    message = email.message_from_string(text)
    requirements = message.get_all("Requires-Dist", [])
    problems = [f"metadata leaks an address: {line}" for line in requirements if " @ " in line or "file:" in line]
    for field in ("Summary", "License-Expression", "Requires-Python"):
        if not message[field]:
            problems.append(f"metadata has no {field}")
    address = os.environ.get("RETOUCH_ADDRESS")
    if address and f"Repository, {address}" not in message.get_all("Project-URL", []):
        problems.append(f"metadata does not name the repository {address}; `python .ci/workspace.py address` adds it")
    if not (message.get_payload() or "").strip():
        problems.append("metadata has no description (README.md)")
    return problems


def main(packages: list[str]) -> int:
    """Check the sdist and wheel of each package; print what is wrong; 1 if anything is."""
    problems, lines, projects = [], [], read_projects()
    for package in packages:
        project = projects[package]
        stem = f"{project['name'].replace('-', '_')}-{project['version']}"
        wheel, sdist = ROOT / "dist" / f"{stem}-py3-none-any.whl", ROOT / "dist" / f"{stem}.tar.gz"
        for path, check in ((wheel, wheel_problems), (sdist, sdist_problems)):
            problems += check(path) if path.is_file() else [f"{path.name}: was not built"]
            lines += [f"{path.stat().st_size / 1024:8.0f} kB  {path.name}"] if path.is_file() else []
    print(*lines, *problems, sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
