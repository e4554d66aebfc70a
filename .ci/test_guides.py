"""Documents quote the figures of the evidence, link to what exists and name all modules and extras."""

import json
import re
from pathlib import Path

import pytest
from workspace import ROOT, load_toml, read_projects

EVIDENCE = ROOT / "docs" / "evidence"
GUIDES = ROOT / "docs" / "guides"


def figures(package: str) -> dict:
    return json.loads((EVIDENCE / f"{package}.json").read_text(encoding="utf-8"))["figures"]


def rows(guide: Path) -> dict[str, list[float]]:
    """The numbers of a guide's tables by their first cells."""
    found = {}
    for line in guide.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and re.search(r"\d", cells[1]):
            numbers = re.findall(r"[\d.,]*\d", " ".join(cells[1:]))
            found[cells[0]] = [float(number.replace(",", "")) for number in numbers]
    return found


def test_photographs_per_core_hour_and_what_follows_for_many():
    table = rows(GUIDES / "many_photographs.md")
    found = figures("common")["per_core_hour"]
    rates = {"1024 x 1024": found["value"], "6000 x 4000": found["details"]["of 6000 x 4000 pixels per core-hour"]}
    for size, rate in rates.items():
        seconds, per_hour = table[f"{size.replace('x', chr(215))} pixels"]  # the multiplication sign
        assert seconds == pytest.approx(3600 / rate, rel=0.02) and per_hour == pytest.approx(rate, rel=0.02)
    for photographs in (100_000, 1_000_000, 10_000_000):
        hours = [photographs / rate for rate in rates.values()]
        local, ray = ([hour / (cores * share) for hour in hours] for cores, share in ((32, 0.9), (256, 0.9 * 0.85)))
        assert table[f"{photographs:,}"] == pytest.approx([*hours, *local, *ray], rel=0.06, abs=0.06)


@pytest.mark.parametrize(
    "document",
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("packages/**/*.md")],
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_what_is_linked_to_is_there(document):
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("paper", ["abpn", "bpfre", "mofrr", "maskgan"])
def test_the_page_of_a_paper_names_its_modules(paper):
    page = (ROOT / "docs" / f"{paper}.md").read_text(encoding="utf-8")
    source = ROOT / "packages" / paper / "src" / paper
    files = [file.name for file in source.glob("*.py") if file.name != "__init__.py"]
    folders = [f"{file.parent.name}/" for file in source.glob("*/__init__.py")]
    assert [name for name in files + folders if f"`{name}`" not in page] == []


@pytest.mark.parametrize(
    "document", ["packages/common/README.md", "docs/architecture.md", "docs/pictures/architecture.svg"]
)
def test_the_layers_of_common_are_named_where_they_are_explained(document):
    contract = load_toml(ROOT / "pyproject.toml")["tool"]["importlinter"]["contracts"][0]
    layers = [name for layer in contract["layers"] for name in layer.split(" | ")]
    text = (ROOT / document).read_text(encoding="utf-8")
    assert [name for name in layers if not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize("package", sorted(read_projects()))
def test_a_readme_names_the_extras_of_its_package(package):
    project = read_projects()[package]
    readme = (ROOT / "packages" / package / "README.md").read_text(encoding="utf-8")
    assert [extra for extra in project["optional-dependencies"] if f"`{project['name']}[{extra}]`" not in readme] == []
