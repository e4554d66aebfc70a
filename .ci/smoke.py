"""Use installed wheels as a user would: `python smoke.py --portrait FILE DISTRIBUTION…`.

Standard library only, besides what the wheels bring: nothing else may be installed where this runs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from importlib import metadata
from pathlib import Path

IMPORT_SECONDS = 0.3  # allowed beyond torch
FACE_BOX = "180,58,91,117"  # in the portrait: the face detector's weights are not in the wheels
ATTEMPTS = 3  # at an import in time, on a busy machine
TIME_IMPORT = """
import sys, time, torch
start = time.perf_counter()
module = __import__(sys.argv[1])
print(time.perf_counter() - start, module.__file__)
"""
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1"}


def run(*command: str) -> str:
    """Standard output of a command, which must succeed."""
    result = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    if result.returncode:
        sys.exit(f"FAILED {' '.join(command)}\n{result.stdout}{result.stderr}")
    return result.stdout


def script(name: str) -> str:
    """Path of an installed console script."""
    path = shutil.which(name, path=sysconfig.get_path("scripts"))
    return path or sys.exit(f"FAILED: the console script {name} is not installed")


def check_imports(distribution: str) -> None:
    """Every top-level package imports, from the environment and not from a checkout, and quickly."""
    files = metadata.files(distribution) or sys.exit(f"FAILED: {distribution} lists no files")
    for name in sorted({file.parts[0] for file in files if file.name == "__init__.py" and len(file.parts) == 2}):
        for _ in range(ATTEMPTS):
            time_taken, where = run(sys.executable, "-c", TIME_IMPORT, name).strip().split(" ", 1)
            if not Path(where).is_relative_to(sys.prefix):
                sys.exit(f"FAILED: {name} was imported from {where}, not from the installed wheel")
            seconds = float(time_taken)
            print(f"import {name}: {seconds:.3f} s beyond torch (at most {IMPORT_SECONDS})")
            if seconds < IMPORT_SECONDS:
                break
        else:
            sys.exit(f"FAILED: importing {name} is too slow")


def check_commands(distribution: str) -> list[str]:
    """Every console script answers --help and --version; returns their names."""
    names = [entry.name for entry in metadata.distribution(distribution).entry_points.select(group="console_scripts")]
    for name in names:
        start = time.perf_counter()
        if "Usage:" not in run(script(name), "--help"):
            sys.exit(f"FAILED: {name} --help shows no usage")
        seconds = time.perf_counter() - start
        answer = run(script(name), "--version").strip()
        if metadata.version(distribution) not in answer:
            sys.exit(f"FAILED: {name} --version answers {answer!r}")
        print(f"{answer}: --help in {seconds:.1f} s")
    return names


def painted_mask(portrait: Path) -> Path:
    """The labels of the portrait's face, with a stroke of hair across the forehead."""
    from retouch_common.parsing.labels import CLASSES, read_labels, write_labels

    run(script("maskgan-parse"), str(portrait), "-o", "masks", "--face-box", FACE_BOX, "--overwrite")
    mask = Path("masks") / f"{portrait.stem}.labels.png"
    labels = read_labels(mask)
    height, width = labels.shape
    labels[height // 4 : height // 3, width // 3 : 2 * width // 3] = CLASSES.index("hair")
    write_labels(mask, labels)
    return mask


def check_picture(command: str, portrait: Path, *options: str) -> None:
    """A portrait's face is changed with the default weights: same size, some pixels changed, most kept."""
    import numpy as np
    import pyvips

    output = Path("retouched.png").absolute()
    output.unlink(missing_ok=True)
    start = time.perf_counter()
    run(script(command), str(portrait), "-o", str(output), "--device", "cpu", "--face-box", FACE_BOX, *options)
    before, after = (pyvips.Image.new_from_file(str(path)).numpy().astype(float) for path in (portrait, output))
    if before.shape != after.shape:
        sys.exit(f"FAILED: {command} turned {before.shape} into {after.shape}")
    changed = np.abs(before - after).max(axis=-1) > 2
    seconds = time.perf_counter() - start
    print(f"{command}: {portrait.name} in {seconds:.1f} s, {changed.mean():.1%} of its pixels changed")
    if not changed.any() or changed.mean() > 0.5:
        sys.exit(f"FAILED: {command} changed {changed.mean():.1%} of the pixels")


def check_studio(portrait: Path) -> None:
    """The studio opens with a portrait and serves its page to the address that it prints, and to no other."""
    command = (script("retouch-studio"), str(portrait), "--no-browser", "--port", "0", "--device", "cpu")
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as studio:
        try:
            assert studio.stdout is not None
            line = studio.stdout.readline()
            address = next((word for word in line.split() if word.startswith("http://")), "")
            if not address:
                sys.exit(f"FAILED: retouch-studio prints no address but {line!r}")
            page = _get(address)
            if page[0] != 200 or 'http-equiv="refresh"' not in page[1]:
                sys.exit(f"FAILED: retouch-studio answers {page[0]} at its address")
            if (status := _get(address.partition("?")[0])[0]) != 403:
                sys.exit(f"FAILED: retouch-studio answers {status} without its token")
        finally:
            studio.terminate()
    print(f"retouch-studio: page in {time.perf_counter() - start:.1f} s")


def _get(address: str) -> tuple[int, str]:
    """Status and body of an address; cookies are kept on the way."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    try:
        for _ in range(100):
            try:
                with opener.open(address, timeout=10) as response:
                    return response.status, response.read().decode()
            except ConnectionRefusedError:
                time.sleep(0.1)
            except urllib.error.URLError as error:
                if not isinstance(error.reason, ConnectionRefusedError):
                    raise
                time.sleep(0.1)
    except urllib.error.HTTPError as error:
        return error.code, ""
    sys.exit(f"FAILED: nothing listens at {address}")


def main() -> None:
    """Check all distributions; ends at the first failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--portrait", type=Path, required=True)
    parser.add_argument("distributions", nargs="+")
    options = parser.parse_args()
    commands = []
    for distribution in options.distributions:
        check_imports(distribution)
        commands += check_commands(distribution)
    portrait = options.portrait.absolute()
    for command in sorted(commands):
        verb = command.partition("-")[2]
        if verb == "retouch":
            check_picture(command, portrait)
        elif verb == "restore":
            check_picture(command, portrait, "--experts", "white")
        elif verb == "edit":
            check_picture(command, portrait, "--mask", str(painted_mask(portrait)))
    check_studio(portrait)


if __name__ == "__main__":
    main()
