"""What ABPN promises, measured afresh: ``nox -s evidence -- abpn``."""

import json
import statistics
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pyvips
import torch
from abpn.blend import make_blend
from abpn.model import ABPN
from abpn.retouch import Retoucher
from abpn_cases import plain_retouch
from retouch_common.inference.demo import FACE, astronaut, draw_blemishes
from retouch_common.ranges import to_levels
from retouch_common.synthesis.blemish_canvas import Canvas
from retouch_common.synthesis.blemish_shapes import NoisePool
from retouch_common.synthesis.blemish_spots import mole
from retouch_common.testing import portraits
from retouch_common.testing.anywhere import Retouch, through_files
from retouch_common.testing.anywhere_figures import promise_anywhere
from retouch_common.testing.commands import large_portrait, seconds_per_photo, time_command
from retouch_common.testing.evidence import STUDIO, Evidence, NotMeasured, bundled_weights, face_sets
from retouch_common.testing.machine import Finished, run_measured
from retouch_common.testing.portraits import gains, psnr, visible

evidence = Evidence("abpn")


@evidence.figure("R-ABM inverts ABM, largest error", at_most=1e-5)
def inversion():
    """Every blend that has an inverse, on random images and results in fp32, and the bundled coefficients."""
    generator = torch.Generator().manual_seed(0)
    I, R = torch.rand(2, 4, 3, 512, 512, generator=generator)
    blends = {mode: make_blend(mode) for mode in ("rgb", "addition", "neutral")} | {"small": _small().blend}
    errors = {name: (blend(I, blend.reverse(I, R)) - R).abs().max().item() for name, blend in blends.items()}
    # Soft light, where the learned blend starts, has no inverse at black and white.
    for mode in ("soft_light", "adaptive"):
        blend, inner = make_blend(mode), 0.05 + 0.9 * I
        errors[mode] = (blend(inner, blend.reverse(inner, R)) - R).abs().max().item()
    return max(errors.values()), errors


@evidence.figure("pixels outside the retouched face that changed in a file, 8 and 16 bit", at_most=0, unit="pixels")
def untouched_pixels():
    """abpn-retouch on PNG and TIFF files; how many pixels of the face changed is in the details."""
    details, worst = {}, 0
    for dtype in (np.uint8, np.uint16):
        photo = astronaut() if dtype == np.uint8 else astronaut().astype(np.uint16) * 257
        for ending in ("png", "tif"):
            with tempfile.TemporaryDirectory() as folder:
                source, result = Path(folder) / f"photo.{ending}", Path(folder) / f"out.{ending}"
                pyvips.Image.new_from_array(photo).write_to_file(str(source))
                box = ("--face-box", ",".join(map(str, FACE)))
                _run(_command("abpn-retouch"), str(source), "-o", str(result), *box)
                found = pyvips.Image.new_from_file(str(result)).numpy()
            changed = (found != photo).any(axis=-1)
            left, top, width, height = FACE
            side = portraits.MARGIN * max(width, height) / 2 + 1
            y, x = np.mgrid[: photo.shape[0], : photo.shape[1]]
            outside = (abs(x - left - width / 2) > side) | (abs(y - top - height / 2) > side)
            if not changed.any():
                raise NotMeasured("the network changed nothing at all, so nothing is shown")
            name = f"{ending} {np.dtype(dtype).name}"
            details[name] = {"outside": int((changed & outside).sum()), "inside": int(changed.sum())}
            worst = max(worst, details[name]["outside"])
    return worst, details


@evidence.figure("stripes and tiles against the whole image, largest difference", at_most=1, unit="8-bit levels")
def stripes():
    """Sizes with every kind of remainder, fp32, the bundled weights and a photograph."""
    model, worst, details = _small(), 0, {}
    retoucher = Retoucher(model, device="cpu", precision="fp32", postprocess=False)
    for height, width in ((1024, 1024), (1203, 1501), (3001, 2003), (701, 2999)):
        photo = _tiled(height, width)
        with torch.inference_mode():
            whole = plain_retouch(model, photo, torch.device("cpu"))
        details[f"{height}x{width}"] = int(np.abs(retoucher(photo).astype(int) - whole.astype(int)).max())
        worst = max(worst, details[f"{height}x{width}"])
    return worst, details


@evidence.figure("4096x4096 on two cores: times faster than plain eager NCHW fp32", at_least=5, unit="times")
def speed():
    """Array to array, both in this run, medians; the reference runs the whole image through the module."""
    script = f"""
import json, sys
import torch
torch.set_num_threads(2)
sys.path.insert(0, {str(Path(__file__).parent)!r})
from evidence import _small, _tiled
from abpn.retouch import Retoucher
from abpn_cases import plain_retouch
from retouch_common.testing.machine import device_seconds
photo, model, cpu = _tiled(4096, 4096), _small(), torch.device("cpu")
retoucher = Retoucher(model, device="cpu")
with torch.inference_mode():
    fast = device_seconds(lambda: retoucher(photo), cpu, rounds=5, warmup=1)
    plain = device_seconds(lambda: plain_retouch(model, photo, cpu), cpu, rounds=2, warmup=1)
print(json.dumps({{"fast": fast, "plain": plain}}))
"""
    times = json.loads(_run(sys.executable, "-c", script)[0].splitlines()[-1])
    fast, plain = statistics.median(times["fast"]), statistics.median(times["plain"])
    return plain / fast, {"seconds": fast, "seconds_plain": plain, **times}


@evidence.figure("4096x4096 array to array: peak memory of the process", at_most=1.0, unit="GB")
def memory():
    """Largest resident size of a fresh process; beside it the plain reference, the imports and torch's part of them."""
    script = """
import sys
sys.path.insert(0, {folder!r})
from evidence import _small, _tiled
from abpn.retouch import Retoucher
from abpn_cases import plain_retouch
import torch
torch.set_num_threads(2)
photo = _tiled(4096, 4096)
with torch.inference_mode():
    {call}
"""
    peaks = {}
    for name, call in (
        ("abpn", 'Retoucher("small", device="cpu")(photo)'),
        ("plain", 'plain_retouch(_small(), photo, torch.device("cpu"))'),
        ("imports", "pass"),
    ):
        filled = script.format(folder=str(Path(__file__).parent), call=call)
        peaks[name] = _run(sys.executable, "-c", filled)[1]
    peaks["torch"] = _run(sys.executable, "-c", "import torch")[1]
    return peaks["abpn"], peaks


@evidence.figure("20000x20000 photograph through abpn-retouch: peak memory of the process", at_most=2, unit="GB")
def huge():
    """A JPEG of 400 megapixels, the whole photo retouched, the output opened and checked."""
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "huge.jpg", Path(folder) / "out.jpg"
        tile = pyvips.Image.new_from_array(astronaut())
        tile.replicate(40, 40).crop(0, 0, 20000, 20000).write_to_file(str(source), Q=90)
        options = ("--region", "photo", "--device", "cpu")
        peak = _run(_command("abpn-retouch"), str(source), "-o", str(result), *options)[1]
        written = pyvips.Image.new_from_file(str(result))
        assert (written.width, written.height) == (20000, 20000)
    return peak


@evidence.figure("abpn-retouch, a 27-megapixel JPEG with one face, one thread: processor time", at_most=4.5, unit="s")
def command():
    """From the shell to the file."""
    done = _large()
    return done.cpu_seconds, {"seconds": done.seconds}


@evidence.figure("abpn-retouch, the same: peak memory of the process", at_most=0.7, unit="GB")
def command_memory():
    """A process that only imports torch is in the details."""
    return _large().peak / 1e9, {"torch": _run(sys.executable, "-c", "import torch")[1]}


@evidence.figure("abpn-retouch, the same on two cores: time from the shell to the file", at_most=3, unit="s")
def command_seconds():
    done = _large(threads=2)
    return done.seconds, {"cpu_seconds": done.cpu_seconds}


@evidence.figure("abpn-retouch --region photo, the same photograph, one thread: processor time", at_most=3.5, unit="s")
def command_photo():
    done = _large("--region", "photo")
    return done.cpu_seconds, {"seconds": done.seconds, "memory": done.peak / 1e9}


@evidence.figure(
    "abpn-retouch on a folder, one thread: processor time of each further 1024x1024", at_most=0.16, unit="s"
)
def command_folder():
    with tempfile.TemporaryDirectory() as folder:
        return seconds_per_photo("abpn-retouch", Path(folder))


@evidence.figure("bundled weights: size", at_most=15, unit="MB")
def size():
    """The safetensors file in the package."""
    return bundled_weights("abpn").stat().st_size / 1e6


@evidence.figure("drawn blemishes, studio people: gain over identity, whole image", at_least=3.26, unit="dB")
def gain_whole():
    """1024x1024 face crops, uint8; mean PSNR gain over pictures. The bar is 0.3 dB below the first weights'."""
    figures = _drawn()
    return figures["gain_whole"], figures


@evidence.figure("drawn blemishes, studio people: gain over identity, inside the mask", at_least=6, unit="dB")
def gain_inside():
    """The same pictures, pixels that the blemishes change by more than 5 levels."""
    figures = _drawn()
    return figures["gain_inside"], figures


@evidence.figure("a portrait without blemishes: PSNR to itself, mean", at_least=42, unit="dB")
def self_similarity():
    """The clean portraits; the worst one and the natural ones are in the details."""
    retoucher = Retoucher("small")
    clean = {portrait.name: psnr(retoucher(portrait.clean), portrait.clean) for portrait in _portraits()}
    natural = [
        (psnr(retoucher(portrait.natural), portrait.clean), psnr(portrait.natural, portrait.clean))
        for portrait in _portraits()
    ]
    return statistics.mean(clean.values()), {
        "worst": min(clean.values()),
        "natural_to_clean": statistics.mean(after for after, _ in natural),
        "natural_to_clean_identity": statistics.mean(before for _, before in natural),
        "portraits": len(clean),
    }


@evidence.figure("moles: share of their contrast that stays", at_least=0.75)
def moles():
    """Six drawn moles a portrait; how far they stand out from the skin after, divided by before. The bar is ours."""
    retoucher, kept = Retoucher("small"), []
    for seed, portrait in enumerate(_portraits()):
        raw = _with_moles(portrait, seed)
        spots = np.abs(raw.astype(int) - portrait.clean).max(axis=-1) > 30
        before = (portrait.clean[spots].astype(float) - raw[spots]).mean()
        base = retoucher(portrait.clean)[spots].astype(float)  # what the skin below became counts for neither
        kept.append((base - retoucher(raw)[spots]).mean() / before)
    return statistics.mean(kept), {"worst": min(kept), "portraits": len(kept)}


@evidence.figure("blemishes of an unrelated program: gain over identity, inside the mask", at_least=0, unit="dB")
def plain_blemishes():
    """Ellipses, discs and scratches drawn by a few lines of numpy. No bar was promised, only a gain."""
    figures = gains(
        Retoucher("small"), [(_with_plain_blemishes(p, seed), p.clean) for seed, p in enumerate(_portraits())]
    )
    return figures["gain_inside"], figures


@evidence.figure("demo: gain inside the drawn blemishes of the astronaut, offline", at_least=0.1, unit="dB")
def demo():
    """``python -m abpn.demo`` with the network switched off; its picture is written and its table has a gain."""
    with tempfile.TemporaryDirectory() as folder:
        offline = {"HF_HUB_OFFLINE": "1", "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
        _run(sys.executable, "-m", "abpn.demo", folder, environment=offline)
        assert (Path(folder) / "astronaut.png").stat().st_size > 10_000
        retouched = pyvips.Image.new_from_file(str(Path(folder) / "with_drawn_blemishes.png")).numpy()
    blemished, _ = draw_blemishes(astronaut())
    inside = visible(blemished, astronaut())
    return psnr(retouched, astronaut(), inside) - psnr(blemished, astronaut(), inside)


@cache
def _as_a_file() -> Retouch:
    """A photograph through ``abpn-retouch --region faces``, with its other defaults."""
    retoucher = Retoucher(_small())
    return through_files(lambda source, target: retoucher.retouch_file(source, target, region="faces"))


promise_anywhere(evidence, _as_a_file)


@cache
def _large(*options: str, threads: int = 1) -> Finished:
    with tempfile.TemporaryDirectory() as folder:
        source = large_portrait(Path(folder))
        return time_command("abpn-retouch", source, "-o", Path(folder) / "out.jpg", *options, threads=threads)


def _with_moles(portrait: portraits.Portrait, seed: int) -> np.ndarray:
    """Return the clean portrait with six drawn moles, uint8."""
    generator = np.random.default_rng(seed)
    image = portrait.clean.astype(np.float32) / 255
    canvas = Canvas(image, portrait.skin, np.array([0.6, 0.8]), 1.0, NoisePool())
    places = np.argwhere(portrait.skin > 0.95)
    for y, x in places[generator.integers(len(places), size=6)]:
        mole(canvas, float(y), float(x), generator.uniform(3.0, 8.0) * portrait.scale, generator)
    return to_levels(canvas.image)


def _with_plain_blemishes(portrait: portraits.Portrait, seed: int) -> np.ndarray:
    """Return 25 blemishes as another program draws them: tinted ellipses, discs and lines, sharp or soft."""
    generator = np.random.default_rng(seed)
    image = portrait.clean.astype(np.float32)
    places = np.argwhere(portrait.skin > 0.95)
    rows, columns = np.mgrid[: len(image), : len(image)].astype(np.float32)
    for y, x in places[generator.integers(len(places), size=25)]:
        radius, angle = generator.uniform(2, 14), generator.uniform(0, np.pi)
        along = (rows - y) * np.sin(angle) + (columns - x) * np.cos(angle)
        across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
        flat = generator.choice([1.0, 1.5, 6.0])  # disc, ellipse, scratch
        distance = np.hypot(along / radius, across * flat / radius)
        soft = generator.uniform(0.1, 1.0)
        alpha = np.clip((1 + soft / 2 - distance) / soft, 0, 1) * generator.uniform(0.3, 0.8)
        tint = np.array(generator.choice([[170, 60, 60], [110, 70, 50], [220, 190, 170], [140, 40, 70]]), np.float32)
        image += (alpha * (portrait.skin > 0.5))[..., None] * (tint - image)
    return np.rint(image).clip(0, 255).astype(np.uint8)


@cache
def _drawn() -> dict[str, float]:
    draws = ((seed, portrait) for seed, portrait in enumerate(_portraits() * 2))
    return gains(
        Retoucher("small"), [(portraits.with_blemishes(portrait, seed), portrait.clean) for seed, portrait in draws]
    )


@cache
def _portraits() -> list[portraits.Portrait]:
    return list(portraits.held_out(face_sets(STUDIO)))


@cache
def _small() -> ABPN:
    return ABPN.from_pretrained("small")


def _tiled(height: int, width: int) -> np.ndarray:
    """A photograph of any size: the astronaut, enlarged and repeated."""
    image = np.repeat(np.repeat(astronaut(), 2, axis=0), 2, axis=1)
    return np.tile(image, (-(-height // 1024), -(-width // 1024), 1))[:height, :width].copy()


def _command(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _run(*command: str, environment: dict[str, str] | None = None) -> tuple[str, float]:
    """Run a child process; returns what it printed and its peak resident memory in GB."""
    finished = run_measured(command, environment=environment)
    if finished.status:
        raise RuntimeError(f"{command[0]} exited with {finished.status}: {finished.stderr[-500:]}")
    return finished.stdout, finished.peak / 1e9


if __name__ == "__main__":
    evidence.main()
