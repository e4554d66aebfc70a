"""Time commands on photographs, as a user waits for them: from the shell to the file."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyvips

from retouch_common.inference.demo import astronaut
from retouch_common.testing.machine import Finished, run_measured

LARGE = (6000, 4500)  # width and height: 27 megapixels
GRAIN = 4.0  # standard deviation in 8-bit levels: an enlarged photograph without grain is too easy to decode
FEW, MANY = 4, 24  # photographs in a folder
ROUNDS = 3


def large_portrait(folder: Path) -> Path:
    """Write a 27-megapixel JPEG with one face, the astronaut enlarged and with grain."""
    width, height = LARGE
    photo = pyvips.Image.new_from_array(astronaut())
    photo = photo.resize(width / photo.width, vscale=height / photo.height, kernel="lanczos3")
    grain = np.random.default_rng(0).normal(0, GRAIN, (512, 512)).astype(np.float32)
    tiles = pyvips.Image.new_from_array(grain).replicate(-(-width // 512), -(-height // 512))
    path = folder / "large.jpg"
    (photo + tiles.crop(0, 0, width, height)).cast("uchar").write_to_file(str(path), Q=92)
    return path


def folder_of_portraits(folder: Path, count: int) -> Path:
    """Write so many JPEGs of 1024 x 1024 pixels with one face each, which differ in brightness."""
    folder.mkdir()
    photo = pyvips.Image.new_from_array(astronaut()).resize(2)
    for index in range(count):
        (photo + index % 7).cast("uchar").write_to_file(str(folder / f"{index:03}.jpg"), Q=92)
    return folder


def time_command(name: str, *arguments: object, threads: int = 1) -> Finished:
    """Run an installed command several times; return the run of median processor time.

    Raises:
        RuntimeError: If it fails.
    """
    command = [str(Path(sys.executable).with_name(name)), *map(str, arguments), "--overwrite"]
    runs = []
    for _ in range(ROUNDS):
        runs.append(run_measured(command, environment={"OMP_NUM_THREADS": str(threads)}))
        if runs[-1].status:
            raise RuntimeError(f"{name} exited with {runs[-1].status}: {runs[-1].stderr[-500:]}")
    return sorted(runs, key=lambda run: run.cpu_seconds)[ROUNDS // 2]


def seconds_per_photo(name: str, folder: Path) -> tuple[float, dict[str, float]]:
    """Return the processor time of each further photograph of a folder, without the command's start, and both runs'."""
    times = {}
    for count in (FEW, MANY):
        source = folder_of_portraits(folder / str(count), count)
        times[f"{count} photographs"] = time_command(name, source, "-o", folder / f"{count}.out").cpu_seconds
    few, many = times.values()
    return (many - few) / (MANY - FEW), times
