"""Sessions: `python -m pip install nox uv`, then `python -m nox -l` lists them, and CONTRIBUTING.md their options.

Environment: RETOUCH_PYTHONS="3.10 3.13" runs tests, build and smoke with these interpreters instead of the
one that runs nox; RETOUCH_LOCKED=1 installs the versions of .ci/requirements.txt, by hash; RETOUCH_DATA is the folder
of portraits (default ../shared/data), RETOUCH_RUNS that of the runs of `weights`, `reproduce` and `evidence` (default
runs).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["tests", "lint", "types"]
nox.options.error_on_missing_interpreters = bool(os.environ.get("CI"))

ROOT = Path(__file__).parent
DIST = ROOT / "dist"
LOCK = ROOT / ".ci" / "requirements.txt"
WORKSPACE = nox.project.load_toml(ROOT / "pyproject.toml")
PROJECTS = {file.parent.name: nox.project.load_toml(file) for file in ROOT.glob("packages/*/pyproject.toml")}
PACKAGES = sorted(PROJECTS)
PYTHONS = os.environ.get("RETOUCH_PYTHONS", "").split() or None
ENVIRONMENT = {
    "RETOUCH_DATA": os.environ.get("RETOUCH_DATA", str(ROOT.parent / "shared" / "data")),
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def chosen_packages(session: nox.Session) -> list[str]:
    """The packages named after `--`; all of them if none is."""
    names = session.posargs or PACKAGES
    if unknown := sorted(set(names) - set(PACKAGES)):
        session.error(f"unknown package {', '.join(unknown)}; choose from {', '.join(PACKAGES)}")
    return list(names)


def install(session: nox.Session, *groups: str) -> None:
    """Install all local packages, editable and with their extras, and groups of tools, in one command.

    One command, so that a package outside the range another one declares is refused instead of replaced by
    a published one. With RETOUCH_LOCKED=1 other packages have the versions and hashes of .ci/requirements.txt.
    """
    locked = ["--constraint", str(LOCK)] if os.environ.get("RETOUCH_LOCKED") else []
    if locked and session.venv_backend != "uv":
        session.error("RETOUCH_LOCKED needs uv, which checks hashes of some packages only: pip install uv")
    local = [part for package in local_packages() for part in ("-e", package)]
    session.install(*local, *nox.project.dependency_groups(WORKSPACE, *groups), *locked)


def local_packages() -> list[str]:
    """The folders of all packages, with all their extras."""
    extras = {name: ",".join(sorted(PROJECTS[name]["project"].get("optional-dependencies", {}))) for name in PACKAGES}
    return [f"packages/{name}" + (f"[{extras[name]}]" if extras[name] else "") for name in PACKAGES]


def wheel(session: nox.Session, package: str) -> Path:
    """The built wheel of a package's present version."""
    project = PROJECTS[package]["project"]
    name = f"{project['name'].replace('-', '_')}-{project['version']}-py3-none-any.whl"
    if not (DIST / name).is_file():
        session.error(f"dist/{name} is missing; run `nox -s build` first")
    return DIST / name


@nox.session
def demo(session: nox.Session) -> None:
    """Retouch, or restore, scikit-image's astronaut with every paper's bundled weights; write pictures and tables."""
    if len(session.posargs) > 1:
        session.error("usage: nox -s demo [-- FOLDER]")
    folder = Path(session.posargs[0] if session.posargs else "outputs/demo")
    papers = [package for package in PACKAGES if (ROOT / f"packages/{package}/src/{package}/demo.py").is_file()]
    local = [part for package in ("common", *papers) for part in ("-e", f"packages/{package}")]
    session.install(*local, "scikit-image")
    for paper in papers:
        session.run("python", "-m", f"{paper}.demo", str(folder / paper), env=ENVIRONMENT)
    retouching = [paper for paper in papers if (folder / paper / "as_she_is.png").is_file()]
    session.run("python", "-m", "retouch_common.inference.demo", str(folder), *retouching, env=ENVIRONMENT)


@nox.session
def pictures(session: nox.Session) -> None:
    """Draw docs/pictures again with the bundled weights: the demos' sheets and the studio; needs Chromium."""
    install(session, "test")
    session.run("python", ".ci/pictures.py", env=ENVIRONMENT | {"RETOUCH_BROWSER": "required"})


def side_by_side() -> list[str]:
    """Options of pytest for one process per core, which repeats what ran when a process died.

    Each should have one thread: most tests are too small to use two, and idle ones wait spinning.
    """
    return [f"--numprocesses={min(os.cpu_count() or 1, 8)}", "--dist=loadfile"]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the test suites of the packages, or of those named after `--`."""
    packages = chosen_packages(session)
    folders = [f"packages/{package}/tests" for package in packages]
    if not session.posargs:
        folders.append(".ci")
    install(session, "test")
    coverage = []
    if os.environ.get("RETOUCH_COVERAGE"):  # doubles the time: the exporter's tracing is all Python
        coverage = [f"--cov={next((ROOT / f'packages/{package}/src').iterdir()).name}" for package in packages]
        coverage.append("--cov-report=term:skip-covered")
    env = {**ENVIRONMENT, "COVERAGE_FILE": str(Path(session.create_tmp()) / "coverage"), "OMP_NUM_THREADS": "1"}
    command = ("python", "-m", "pytest", "-m", "not repro", "--durations=10", *folders)
    again = bool(os.environ.get("CI"))  # what fails, fails twice there: the second time alone, not on a busy machine
    failures = ROOT / ".pytest_cache" / "v" / "cache" / "lastfailed"
    failures.unlink(missing_ok=True)  # of other sessions
    session.run(*command, *coverage, *side_by_side(), env=env, success_codes=[0, 1] if again else [0])
    if again and failures.is_file() and json.loads(failures.read_text(encoding="utf-8")):
        session.run(*command, "--last-failed", env=env)


@nox.session
def scripts(session: nox.Session) -> None:
    """Run the tests of the scripts in .ci/, which `tests` without packages runs, too."""
    install(session, "test")
    session.run("python", "-m", "pytest", ".ci", env=ENVIRONMENT)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format, which modules import which, and the workflow files."""
    session.install(*nox.project.dependency_groups(WORKSPACE, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    sources = os.pathsep.join(str(ROOT / f"packages/{package}/src") for package in PACKAGES)
    session.run("lint-imports", "--no-logo", "--no-cache", env={"PYTHONPATH": sources})
    workflows = [str(file.relative_to(ROOT)) for file in sorted(ROOT.glob(".github/workflows/*.yml"))]
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)


@nox.session
def types(session: nox.Session) -> None:
    """Check types."""
    install(session, "types")
    session.run("mypy", *[f"packages/{package}/src" for package in PACKAGES])


@nox.session(python=PYTHONS)
def build(session: nox.Session) -> None:
    """Build sdists, and wheels from the sdists, into dist/, and check what is in them."""
    session.install(*nox.project.dependency_groups(WORKSPACE, "build"))
    packages = chosen_packages(session)
    for package in packages:
        name = PROJECTS[package]["project"]["name"].replace("-", "_")
        for old in DIST.glob(f"{name}-*"):
            old.unlink()
        # without further options `build` makes the wheel from the sdist, which proves the sdist
        session.run("python", "-m", "build", "--no-isolation", "--outdir", "dist", f"packages/{package}", silent=True)
    session.run("python", ".ci/sbom.py", *[str(wheel(session, package)) for package in packages])
    session.run("python", ".ci/check_dist.py", *packages)
    session.run("twine", "check", "--strict", *[str(file) for file in sorted(DIST.iterdir())])


@nox.session(python=PYTHONS, reuse_venv=False)  # a wheel built anew has the old one's name
def smoke(session: nox.Session) -> None:
    """Install the built wheels into an empty environment and use them as a user would."""
    session.install(
        *[str(wheel(session, package)) + ("[studio]" if package == "common" else "") for package in PACKAGES]
    )
    folder = Path(session.create_tmp())
    # the portrait comes out of scikit-image's wheel, unpacked apart so that nothing else is installed
    session.install("--quiet", "--no-deps", "--target", str(folder / "portrait"), "scikit-image")
    script = ROOT / ".ci" / "smoke.py"
    names = [PROJECTS[package]["project"]["name"] for package in PACKAGES]
    with session.chdir(folder):
        session.run("python", str(script), "--portrait", "portrait/skimage/data/astronaut.png", *names)


@nox.session
def repro(session: nox.Session) -> None:
    """Check that training repeats bit by bit, resumes exactly, and stays on the golden files."""
    install(session, "test")
    folders = [str(folder.relative_to(ROOT)) for folder in sorted(ROOT.glob("packages/*/tests/repro"))]
    session.run("python", "-m", "pytest", "-m", "repro", *folders, *side_by_side(), env=ENVIRONMENT)


@nox.session
def golden(session: nox.Session) -> None:
    """Compare with the golden files; `-- --update` regenerates them (commit them on their own)."""
    if session.posargs not in ([], ["--update"]):
        session.error("usage: nox -s golden [-- --update]")
    install(session, "test")
    update = {"RETOUCH_UPDATE_GOLDEN": "1"} if session.posargs else {}
    session.run("python", "-m", "pytest", "-m", "golden", "packages", env={**ENVIRONMENT, **update})
    if update:
        session.run("git", "status", "--short", "--", "*/golden/*", external=True)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Mutate photographs of every format and check how they are handled; `-- --minutes N --seed S`.

    `--summary docs/evidence/fuzz.json` adds the run to the evidence.
    """
    session.install("-e", "packages/common[heif,jxl,raw]", "tifffile>=2024.8")
    session.run("python", ".ci/fuzz.py", *session.posargs, env=ENVIRONMENT)


@nox.session
def lock(session: nox.Session) -> None:
    """Write versions and hashes of all packages that development needs, for all systems, to .ci/requirements.txt."""
    session.install("uv")
    wanted = Path(session.create_tmp()) / "wanted.txt"
    groups = nox.project.dependency_groups(WORKSPACE, *WORKSPACE["dependency-groups"])
    wanted.write_text("".join(f"-e {package}\n" for package in local_packages()) + "\n".join(groups) + "\n")
    own = [f"--no-emit-package={PROJECTS[package]['project']['name']}" for package in PACKAGES]
    session.run(
        *("uv", "pip", "compile", str(wanted), "--upgrade", "--universal", "--python-version", "3.10"),
        *("--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"),
        *(*own, "--quiet", "--output-file", str(LOCK)),
    )


@nox.session
def weights(session: nox.Session) -> None:
    """Train the weights that a package bundles, stage by stage as its weights.toml says, and bundle them.

    Rerun the same command to resume: finished stages are skipped, an interrupted one resumes.
    """
    if not session.posargs or session.posargs[0] not in PACKAGES:
        session.error(f"usage: nox -s weights -- PACKAGE [NAME…], one of {', '.join(PACKAGES)}")
    package, *names = session.posargs
    install(session, "test")
    runs = os.environ.get("RETOUCH_RUNS", str(ROOT / "runs"))
    faces = str(Path(ENVIRONMENT["RETOUCH_DATA"]) / "faces")
    script = ("python", ".ci/weights.py", f"packages/{package}", runs, "--portraits", faces)
    session.run(*script, *names, env=ENVIRONMENT, interrupt_timeout=600)  # seconds in which a step ends and is saved
    session.run("python", ".ci/model_card.py", f"packages/{package}", "--runs", runs, *names, env=ENVIRONMENT)


@nox.session
def evidence(session: nox.Session) -> None:
    """Measure every figure that a package promises, print each beside its bar, write docs/evidence/ and the card.

    Rerun the same command to resume: what the same commit and machine measured is not measured again.
    """
    if not session.posargs or session.posargs[0] not in PACKAGES:
        session.error(f"usage: nox -s evidence -- PACKAGE, one of {', '.join(PACKAGES)}")
    package, *options = session.posargs
    install(session, "test")
    try:
        session.run("python", f"packages/{package}/benchmarks/evidence.py", *options, env=ENVIRONMENT)
    finally:  # figures that fall short stand in the card too
        if not options:
            session.run("python", ".ci/model_card.py", f"packages/{package}", env=ENVIRONMENT)


@nox.session
def reproduce(session: nox.Session) -> None:
    """Repeat the comparisons of a package's paper, or those named, and write docs/reproduction/."""
    available = [package for package in PACKAGES if (ROOT / f"packages/{package}/reproduction.toml").is_file()]
    packages, options = session.posargs[:1], session.posargs[1:]
    if session.posargs == ["--smoke"]:
        packages, options = available, session.posargs
    if not packages or packages[0] not in available:
        session.error(f"usage: nox -s reproduce -- [PACKAGE] [TABLE…] [--smoke]; with tables: {', '.join(available)}")
    install(session, "test")
    runs = Path(os.environ.get("RETOUCH_RUNS", str(ROOT / "runs"))) / "reproduction"
    faces = str(Path(ENVIRONMENT["RETOUCH_DATA"]) / "faces")
    for package in packages:
        script = ("python", ".ci/reproduce.py", f"packages/{package}", str(runs), "--portraits", faces)
        session.run(*script, *options, env=ENVIRONMENT, interrupt_timeout=600)


@nox.session
def benchmark(session: nox.Session) -> None:
    """Time every stage and write docs/benchmarks/latest.json with the environment.

    With --peers, time ABPN and BPFRe beside other people's networks instead and write docs/benchmarks/peers.*.
    """
    if "--peers" in session.posargs:
        install(session, "peers")
        session.run("python", "packages/common/benchmarks/peers.py", env=ENVIRONMENT)
        return
    install(session, "test")
    folders = sorted({str(file.parent.relative_to(ROOT)) for file in ROOT.glob("packages/*/benchmarks/test_*.py")})
    session.run(
        *("python", "-m", "pytest", *folders, "--benchmark-only"),
        *("-p", "retouch_common.testing.benchmark_plugin", "--benchmark-json=docs/benchmarks/latest.json"),
        *session.posargs,
        env=ENVIRONMENT,
    )


if __name__ == "__main__":
    sys.exit("run `python -m nox -s NAME`; `python -m nox -l` lists the names")
