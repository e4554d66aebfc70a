"""What the studio's recipes and runs over many photographs promise; evidence.py registers it.

Throughput is ``abpn-retouch``'s, with its bundled weights, from the first finished photograph on: loading networks and
starting Ray are left out, and are in the details. Photographs per core-hour count the worker's processor time, which
other programs on the machine change little. Memory is the largest resident set of a worker process, with shared pages.
"""

import contextlib
import functools
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pyvips
from pyarrow import parquet
from retouch_common.inference.demo import astronaut
from retouch_common.studio.retouch.networks import installed_networks
from retouch_common.studio.retouch.server import retouch_tool
from retouch_common.studio.tools import ToolContext
from retouch_common.testing.evidence import Evidence, NotMeasured
from starlette.applications import Starlette
from starlette.testclient import TestClient

LARGE = 200  # photographs of 1024 x 1024 pixels with a face, for throughput
FULL = 10  # photographs of 6000 x 4000 pixels with a face
SMALL = 5000  # drawn photographs of 96 x 64 pixels, for losses
KILLED = 3  # workers
EXPORTS = {  # file, factor by which the astronaut is enlarged, suffix of the export
    "PNG": ("portrait.png", 1, ".png"),
    "PNG as AVIF": ("portrait.png", 1, ".avif"),
    "JPEG of 2560 pixels": ("large.jpg", 5, ".jpg"),
    "TIFF of 16 bits": ("deep.tif", 1, ".tif"),
}
ENGINES = {"one core": ["--workers", "1"], "local": ["--workers", "2"], "ray": ["--workers", "2", "--engine", "ray"]}


@dataclass(frozen=True)
class Run:
    """A run of the command.

    Attributes:
        seconds: Time of the whole run.
        rate: Photographs per second, from the first finished one on.
        processor_seconds: Processor time of the workers per photograph, from the first finished one on.
        peak: Largest resident memory of a worker, in MB.
        killed: Number of workers that were killed.
        table: Rows of the results table.
        files: Outputs by name.
    """

    seconds: float
    rate: float
    processor_seconds: float
    peak: float
    killed: int
    table: list[dict]
    files: dict[str, bytes]


def promise(evidence: Evidence) -> None:
    """Register the figures."""

    @evidence.figure("studio: recipes whose replay differs from the export in any byte", at_most=0)
    def recipe_bytes():
        return replayed_differently()

    @evidence.figure("many photographs: files that differ between the engines local and ray", at_most=0)
    def engines_differ():
        local, ray = throughput("local").files, throughput("ray").files
        differing = sum(local.get(name) != ray.get(name) for name in local.keys() | ray.keys())
        return differing, {"files": len(local)}

    @evidence.figure("many photographs: throughput of two processes over that of one", at_least=1.8)
    def local_scaling():
        return throughput("local").rate / throughput("one core").rate, rates("one core", "local")

    @evidence.figure("many photographs: throughput of the engine ray over that of local", at_least=0.85)
    def ray_over_local():
        return throughput("ray").rate / throughput("local").rate, rates("local", "ray")

    @evidence.figure("many photographs: of 1024 x 1024 pixels per core-hour", at_least=1500)
    def per_core_hour():
        small, full = throughput("one core").processor_seconds, full_size().processor_seconds
        details = {"processor seconds, 1024 x 1024": small, "processor seconds, 6000 x 4000": full}
        details["of 6000 x 4000 pixels per core-hour"] = 3600 / full
        return 3600 / small, {name: round(value, 2) for name, value in details.items()}

    for engine in ("local", "ray"):
        title = f"many photographs, engine {engine}: lost of {SMALL} with {KILLED} workers killed"
        evidence.figure(title, at_most=0, name=f"lost_{engine}")(functools.partial(lost, engine))

    @evidence.figure("many photographs: resident memory of a worker, largest", at_most=1500, unit="MB")
    def worker_memory():
        runs = {f"{engine}, {LARGE} of 1024 x 1024": throughput(engine) for engine in ENGINES}
        runs |= {f"{engine}, {SMALL} of 96 x 64": with_deaths(engine) for engine in ("local", "ray")}
        return max(run.peak for run in runs.values()), {name: round(run.peak) for name, run in runs.items()}


@functools.cache
def throughput(engine: str) -> Run:
    """Retouch photographs with faces."""
    return retouch(portrait, LARGE, engine)


@functools.cache
def full_size() -> Run:
    """Retouch photographs as cameras take them, in one process."""
    return retouch(camera_portrait, FULL, "one core")


@functools.cache
def with_deaths(engine: str) -> Run:
    """Retouch drawn photographs, and kill workers."""
    return retouch(drawn, SMALL, engine, "--region", "photo", deaths=KILLED)


def retouch(draw: Callable[[int], np.ndarray], count: int, engine: str, *options: str, deaths: int = 0) -> Run:
    """Run the command on photographs that are drawn by number."""
    require(engine)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            save(Path(folder) / "in", number, draw(number))
        return run(Path(folder), *ENGINES[engine], *options, deaths=deaths)


def lost(engine: str) -> tuple[int, dict[str, int]]:
    """Count photographs that are not done or have no output."""
    found = with_deaths(engine)
    if found.killed < KILLED:
        raise NotMeasured(f"only {found.killed} workers were killed before the run ended")
    done = sum(row["status"] == "done" for row in found.table)
    return SMALL - min(done, len(found.files)), {"done": done, "files": len(found.files), "killed": found.killed}


def rates(*engines: str) -> dict[str, float]:
    """Return photographs per hour, and seconds of the whole run, by engine."""
    runs = {engine: throughput(engine) for engine in engines}
    hourly = {f"{engine}, photographs per hour": round(3600 * found.rate) for engine, found in runs.items()}
    return hourly | {f"{engine}, seconds with start": round(found.seconds, 1) for engine, found in runs.items()}


def run(folder: Path, *options: str, deaths: int = 0) -> Run:
    """Run the command on the photographs in ``folder``/in; kill ``deaths`` workers, evenly spread over the run."""
    photos = len(list((folder / "in").iterdir()))
    command = [sys.executable, "-c", "from abpn.cli import retouch; retouch()", "--manifest", folder / "in"]
    command += ["-o", folder / "out", "--results", folder / "results.parquet", "--provenance", "off", *options]
    with open(folder / "log", "wb") as log:
        began = time.perf_counter()
        process = psutil.Popen([str(part) for part in command], stdout=log, stderr=log)
        finished = []  # times, numbers of photographs, and processor seconds of the workers
        peak, sampled, killed = 0.0, began, 0
        for done in progress(process, folder / "results.parquet.journal"):
            now = time.perf_counter()
            if done and (not finished or done > finished[-1][1]) and (there := workers(process)):
                finished.append((now, done, sum(map(processor_seconds, there))))
            if now > sampled + 1:
                peak, sampled = max([peak, *map(resident, workers(process))]), now
            if killed < deaths and done > (killed + 1) * photos / (deaths + 1) and (there := workers(process)):
                there[killed % len(there)].kill()
                killed += 1
        seconds = time.perf_counter() - began
    if process.returncode not in (0, 1) or not finished:
        raise NotMeasured(f"the command failed: {(folder / 'log').read_text()[-300:]}")
    (first, before, used), (last, after, used_at_last) = finished[0], finished[-1]
    table = parquet.read_table(folder / "results.parquet").to_pylist()
    files = {path.name: path.read_bytes() for path in (folder / "out").glob("[!.]*")}
    count = max(after - before, 1)
    return Run(seconds, count / max(last - first, 1e-9), (used_at_last - used) / count, peak, killed, table, files)


def progress(process: psutil.Popen, journal: Path) -> Iterator[int]:
    """Yield the number of finished photographs, 20 times a second, until a process ends."""
    done, file = 0, None
    while process.poll() is None:
        time.sleep(0.05)
        if file is None and journal.exists():
            file = journal.open(encoding="utf-8")
        if file is not None:
            done += file.read().count('"done"')
        yield done


def workers(process: psutil.Popen) -> list[psutil.Process]:
    """Return the worker processes of a run, by either engine."""
    found = []
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(name in " ".join(child.cmdline()) for name in ("spawn_main", "(_Actor)")):
                found.append(child)
    return found


def resident(process: psutil.Process) -> float:
    """Return the resident memory of a process in MB; 0 if it has ended."""
    with contextlib.suppress(psutil.Error):
        return process.memory_info().rss / 1e6
    return 0.0


def processor_seconds(process: psutil.Process) -> float:
    """Return the processor time of a process; 0 if it has ended."""
    with contextlib.suppress(psutil.Error):
        times = process.cpu_times()
        return times.user + times.system
    return 0.0


def require(engine: str) -> None:
    """Refuse to measure an engine that is not installed, or cannot be compared on this machine."""
    if engine == "ray" and importlib.util.find_spec("ray") is None:
        raise NotMeasured("needs Ray: pip install 'retouch-common[ray]'")
    if len(psutil.Process().cpu_affinity()) < 2:
        raise NotMeasured("needs two cores")


def save(folder: Path, number: int, pixels: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    pyvips.Image.new_from_array(pixels).write_to_file(str(folder / f"{number:05}.jpg"), Q=92)


def portrait(number: int) -> np.ndarray:
    """Return the astronaut, enlarged to 1024 x 1024 pixels, with noise of her own in each photograph."""
    enlarged = np.asarray(pyvips.Image.new_from_array(astronaut()).resize(2))
    noise = np.random.default_rng(number).normal(0, 2, enlarged.shape)
    return np.clip(np.rint(enlarged + noise), 0, 255).astype(np.uint8)


def camera_portrait(number: int) -> np.ndarray:
    """Return a photograph of 6000 x 4000 pixels with the astronaut in it, and noise of its own."""
    frame = pyvips.Image.black(6000, 4000, bands=3).linear(1, [120, 130, 140])
    frame = frame.insert(pyvips.Image.new_from_array(astronaut()).resize(6), 1200, 500)
    noise = np.random.default_rng(number).normal(0, 4, (400, 600, 3))
    return np.asarray((frame + pyvips.Image.new_from_array(noise).resize(10, kernel="nearest")).cast("uchar"))


def drawn(number: int) -> np.ndarray:
    """Return skin with spots, 64 x 96 pixels."""
    generator = np.random.default_rng(number)
    y, x = np.mgrid[:64, :96]
    cover = np.zeros((64, 96))
    for _ in range(4):
        cover += np.exp(-((y - generator.uniform(0, 64)) ** 2 + (x - generator.uniform(0, 96)) ** 2) / 18)
    pixels = np.array([205.0, 160, 140]) - cover[..., None] * [40, 70, 60] + generator.normal(0, 3, (64, 96, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def recipes() -> list[tuple[str, str]]:
    """Return the installed networks, each with every region that it retouches."""
    networks = installed_networks().items()
    whole = [(name, "photo") for name, network in networks if hasattr(network, "photo_change")]
    return [*((name, "faces") for name, _ in networks), *whole]


def replayed_differently() -> tuple[int, dict[str, str]]:
    """Export the astronaut from the studio after steps of every kind, and replay the recipes by the commands."""
    results = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_astronauts(folder)
        context = ToolContext(folder=folder, device="cpu")
        with TestClient(Starlette(routes=list(retouch_tool(context).routes))) as studio:
            for title, (file, scale, suffix) in EXPORTS.items():
                photo = folder / file
                opened = studio.post("/api/photos", params={"name": file}, content=photo.read_bytes()).json()
                for network, region in recipes():
                    asked = {"photo": opened["id"], "network": network, "time": "2026-01-02T03:04:05+00:00"}
                    asked["steps"] = recipe_steps(studio, asked, region, scale)
                    options = {"format": None if suffix == photo.suffix else suffix[1:]}
                    exported = studio.post("/api/export", json={**asked, "options": options})
                    recipe, replayed = folder / "recipe.json", folder / f"{title}.{network}.{region}{suffix}"
                    recipe.write_bytes(studio.post("/api/recipe", json=asked).content)
                    replay(network, photo, recipe, replayed)
                    same = exported.status_code == 200 and replayed.read_bytes() == exported.content
                    steps = f"{len(asked['steps'])} steps, {'same' if same else 'OTHER'} bytes"
                    results[f"{title}, {network}, {region}"] = steps
    if not results:
        raise NotMeasured("no network of the Retouch tool is installed")
    return sum("OTHER" in result for result in results.values()), results


def replay(network: str, photo: Path, recipe: Path, target: Path) -> None:
    """Run a network's command with a recipe."""
    script = f"from {network}.cli import retouch; retouch()"
    command = [sys.executable, "-c", script, photo, "-o", target, "--recipe", recipe, "--device", "cpu"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def save_astronauts(folder: Path) -> None:
    """Write the photographs of ``EXPORTS``."""
    portrait = pyvips.Image.new_from_array(astronaut())
    portrait.write_to_file(str(folder / "portrait.png"))
    portrait.resize(5).write_to_file(str(folder / "large.jpg"), Q=92)
    deep = pyvips.Image.new_from_array(astronaut().astype(np.uint16) * 257)
    deep.copy(interpretation="rgb16").write_to_file(str(folder / "deep.tif"))


def recipe_steps(studio: TestClient, asked: dict, region: str, scale: int) -> list[dict]:
    """Return one of every kind of step: another face framed over hers, a third switched off, places, brushes."""

    def scaled(*values: float) -> list[float]:
        return [scale * value for value in values]

    steps = [{"step": "region", "value": region}, {"step": "strength", "value": 0.8}]
    steps += [{"step": "add_face", "box": scaled(*box)} for box in ((188, 64, 80, 104), (380, 40, 60, 70))]
    found = studio.post("/api/state", json={**asked, "steps": steps}).json()
    if not found["blemishes"]:
        raise NotMeasured(f"{asked['network']} changes no place of the astronaut")
    place = found["blemishes"][0]
    return [
        *steps,
        {"step": "face", "face": len(found["faces"]) - 1, "on": False},
        {"step": "size", "size": "small", "on": False},
        {"step": "blemish", "at": place["at"], "on": place["size"] == "small"},
        {"step": "protect", "radius": scale * 9.5, "points": [scaled(200, 130), scaled(212.25, 134)]},
        {"step": "restore", "radius": scale * 3, "points": [scaled(206, 132)]},
    ]
