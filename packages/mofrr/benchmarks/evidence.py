"""What MoFRR promises, measured afresh: ``nox -s evidence -- mofrr``."""

import json
import math
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import restored_anywhere
import torch
from mofrr.config import OPERATIONS, PRESETS
from mofrr.data import open_retouched_faces
from mofrr.evaluate import MOFRR, PROTOCOL, Evaluation, EvaluationOptions, evaluate, means
from mofrr.model import MoFRR
from mofrr.restore import Restorer
from mofrr.sampling import Diffusion
from restored_anywhere import FULL_SIZE, MULTI, SIZES, Measured, mean_gain
from retouch_common.diffusion.ddim import ddim
from retouch_common.diffusion.schedule import make_schedule
from retouch_common.metrics import protocols
from retouch_common.metrics.evaluation import IDENTITY
from retouch_common.synthesis.retouching import STYLES
from retouch_common.testing.anywhere import portraits_with_mesh
from retouch_common.testing.commands import folder_of_portraits, time_command
from retouch_common.testing.evidence import ANYWHERE, STUDIO, Evidence, NotMeasured, bundled_weights, face_sets
from torch import Tensor

FACES = 42  # of every kind: each of the 21 photographs that are held out twice, retouched in two ways
PART = 10

evidence = Evidence("mofrr")


@evidence.figure("a perfect noise predictor: largest error of the sampled low band", at_most=1e-4)
def sampler():
    """Ten trailing steps of 1000 times from noise alone, 64 x 64."""
    config = replace(PRESETS["recommended"].model, warm_start=False)
    diffusion = Diffusion.from_config(config)
    y_0 = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def predict(y_t: Tensor, t: Tensor) -> Tensor:
        abar = diffusion.schedule.alpha_bar[t].view(-1, 1, 1, 1)
        return (y_t - abar.sqrt() * y_0) / (1 - abar).sqrt()

    sampled = diffusion.sample(predict, torch.zeros_like(y_0), [torch.Generator().manual_seed(1)])
    return (sampled - y_0).abs().max().item()


@evidence.figure("warm start: error of the mean brightness", at_most=1e-3)
def brightness():
    """The paper's 200 times, ten leading steps, the ideal predictor of pixels with mean 0.5 and deviation 0.1."""
    schedule, mean, variance = make_schedule(200), 0.5, 0.01
    noise = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise -= noise.mean()

    def ideal(y_t: Tensor, t: Tensor) -> Tensor:
        abar = schedule.alpha_bar[t].to(y_t).view(-1, 1, 1, 1)
        return (1 - abar).sqrt() * (y_t - abar.sqrt() * mean) / (abar * variance + 1 - abar)

    def error(guess: Tensor | None) -> float:
        return abs(ddim(ideal, noise, schedule, steps=10, spacing="leading", guess=guess).mean().item() - mean)

    return error(torch.full_like(noise, mean)), {"from noise alone": error(None)}


@evidence.figure("calls of networks whose operation the router does not find", at_most=0)
def inactive():
    """Two faces, "white" alone found: every other expert and estimator is counted."""
    torch.manual_seed(0)
    model = MoFRR(PRESETS["tiny"].model).eval()
    assert model.router is not None
    calls = dict.fromkeys(OPERATIONS, 0)

    def count(name: str) -> None:
        calls[name] += 1

    for name in OPERATIONS:
        expert = model.experts[name]
        for part in (model.estimators[name], expert.idem, expert.denoiser, *expert.hfcam):
            part.register_forward_pre_hook(lambda *_, name=name: count(name))
    model.router.forward = lambda image, traces: torch.tensor([[9.0, -9.0, -9.0, -9.0]]).expand(len(image), -1)
    model.restore(torch.rand(2, 3, 64, 64))
    if not calls["white"]:
        raise NotMeasured("the active expert was not called: nothing is counted")
    return sum(count for name, count in calls.items() if name != "white"), {
        "calls of the active expert": calls["white"]
    }


@evidence.figure("mofrr-restore, a JPEG of 1024x1024, one thread: processor time", at_most=3, unit="s")
def command():
    """From the shell to the file. The bar is ours."""
    with tempfile.TemporaryDirectory() as folder:
        (source,) = folder_of_portraits(Path(folder) / "photo", 1).iterdir()
        done = time_command("mofrr-restore", source, "-o", Path(folder) / "out.jpg")
    return done.cpu_seconds, {"seconds": done.seconds, "memory": done.peak / 1e9}


@evidence.figure("bundled weights: size", at_most=40, unit="MB")
def size():
    """The safetensors file in the package."""
    return bundled_weights("mofrr").stat().st_size / 1e6


@evidence.figure("studio people, several operations: gain over the input", at_least=3.77, unit="dB")
def gain_multi():
    """Means of PSNR (png8) over faces with two to four operations; the tables are in the details."""
    found = _evaluated()
    tables = {
        kind: {row: {name: round(value, 4) for name, value in means(measured, row).items()} for row in measured.rows}
        for kind, measured in found.kinds.items()
    }
    return _gain("multi"), {"kinds": tables, "active experts": found.active}


@evidence.figure("studio people, one operation: the least of the gains over the input", at_least=0.29, unit="dB")
def gain_single():
    """The same for every operation alone."""
    gains = {name: _gain(name) for name in OPERATIONS}
    return min(gains.values()), gains


@evidence.figure("router, studio people: the least accuracy", at_least=0.9)
def router():
    """Over the same faces: every operation alone, several and none."""
    accuracy = _evaluated().accuracy
    return min(accuracy.values()), accuracy


@evidence.figure("faces that nobody retouched: PSNR of what comes back", at_least=42, unit="dB")
def unretouched():
    """Of the squared error over all faces of people not trained on: no mean of decibels, most come back to the bit."""
    measured = _evaluated().kinds["clean"]
    faces = measured.clean[: FACES // 2]  # the second time around they are the same
    found = [image[MOFRR][protocols.PROTOCOLS[PROTOCOL].psnr] for image in faces]
    errors = [10 ** (-value / 10) if value < protocols.PSNR_CEILING else 0.0 for value in found]
    mean = statistics.mean(errors)
    return -10 * math.log10(mean) if mean else protocols.PSNR_CEILING, {
        "worst": min(found),
        "to the bit": errors.count(0.0),
        "faces": len(found),
    }


@evidence.figure("a 512x512 portrait, one expert, two cores, the default steps", at_most=20, unit="s")
def seconds():
    """Restoring alone, in a process of its own, the slower of the operations; loading is in the details."""
    script = f"""
import json, time
import numpy as np, torch
torch.set_num_threads(2)
from mofrr.restore import Restorer
image = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
times = {{}}
start = time.perf_counter()
for name in {OPERATIONS!r}:
    restorer = Restorer("small", device="cpu", experts=[name])
    times.setdefault("loading", time.perf_counter() - start)
    start = time.perf_counter()
    restorer(image, aligned=True)
    times[name] = time.perf_counter() - start
print(json.dumps(times))
"""
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    times = json.loads(finished.stdout.splitlines()[-1])
    return max(times[name] for name in OPERATIONS), times


def _gain(kind: str) -> float:
    measured = _evaluated().kinds[kind]
    return means(measured, MOFRR)["PSNR"] - means(measured, IDENTITY)["PSNR"]


@evidence.figure("people anywhere, whitened by another program: gain over the input", at_least=2.5, unit="dB")
def white_anywhere():
    """PSNR around the face; full-size photographs in and out, compressed as JPEG after retouching."""
    return _anywhere().gain("white")


@evidence.figure("people anywhere, smoothed by another program: gain over the input", at_least=-0.1, unit="dB")
def smooth_anywhere():
    return _anywhere().gain("smooth")


@evidence.figure("people anywhere, lifted by another program: gain over the input", at_least=1, unit="dB")
def lift_anywhere():
    return _anywhere().gain("lift")


@evidence.figure("people anywhere, eyes enlarged by another program: gain over the input", at_least=0.5, unit="dB")
def eye_anywhere():
    return _anywhere().gain("eye")


@evidence.figure("people anywhere, several operations of another program: gain over the input", at_least=2.5, unit="dB")
def several_anywhere():
    return _anywhere().gain(MULTI)


@evidence.figure("people anywhere, each expert named for its operation: the least of the gains", at_least=0, unit="dB")
def named_experts():
    """``--experts`` names the operation of another program that was applied; no router is asked. The bar is ours."""
    rows = restored_anywhere.named_experts(_restorer().network.model, portraits_with_mesh(face_sets(ANYWHERE)))
    gains = {name: mean_gain(photographs) for name, photographs in rows.items()}
    details = {name: {"gain": gain, **rest} for name, (gain, rest) in gains.items()}
    return min(gain for gain, _ in gains.values()), details


@evidence.figure("people anywhere, untouched photographs: share that comes back to the bit", at_least=0.9)
def untouched_anywhere():
    untouched = _anywhere().untouched
    return statistics.mean(untouched.values()), {"changed": [name for name, same in untouched.items() if not same]}


@evidence.figure(f"router, faces of {FULL_SIZE} pixels and more: found, the least of the operations", at_least=0.9)
def router_found():
    """Every operation alone, by another program at three strengths; Canada's held-out people too."""
    measured = _anywhere()
    found = {name: measured.found(name) for name in OPERATIONS}
    return min(found.values()), found


@evidence.figure(
    f"router, untouched faces of {FULL_SIZE} pixels and more: found, the most of the operations", at_most=0.05
)
def router_false():
    """As they are and compressed once more; beside the photographs to which another operation was applied."""
    measured = _anywhere()
    false = {name: measured.false(name) for name in OPERATIONS}
    return max(false.values()), false | {"after another one": {name: measured.mistaken(name) for name in OPERATIONS}}


def _promise_router(operation: str) -> None:
    """Register how often an operation is found in photographs of three sizes where it was applied, and untouched."""

    @evidence.figure(
        f"router at {_SIZES} times the size, {operation} applied: found, the least of the sizes",
        at_least=0.9,
        name=f"router_sizes_found_{operation}",
    )
    def found():
        """All held-out people; photographs of small faces are not reduced further, those of large ones not enlarged."""
        shares = {f"{size:g}": _anywhere().found(operation, size=size, full_size=False) for size in SIZES}
        return min(shares.values()), shares

    @evidence.figure(
        f"router at {_SIZES} times the size, untouched: {operation} found, the most of the sizes",
        at_most=0.05,
        name=f"router_sizes_false_{operation}",
    )
    def false():
        shares = {f"{size:g}": _anywhere().false(operation, size=size, full_size=False) for size in SIZES}
        return max(shares.values()), shares


_SIZES = ", ".join(f"{size:g}" for size in SIZES)
for _operation in OPERATIONS:
    _promise_router(_operation)


@evidence.figure("degree estimators, people not trained on: the least share of exact answers", at_least=0.65)
def degree_exact():
    """The likeliest of five classes, whose borders are those of training."""
    exact = {name: exact for name, (exact, _) in _degrees().items()}
    return min(exact.values()), exact


@evidence.figure("degree estimators, people not trained on: the least share within one degree", at_least=0.95)
def degree_near():
    near = {name: near for name, (_, near) in _degrees().items()}
    return min(near.values()), near


@evidence.figure("several operations: Combine Module over the sum of the experts' changes", at_least=0.2, unit="dB")
def combine():
    """People anywhere, aligned faces retouched by another program."""
    rows = _combined()
    return rows["combined"] - rows["sum"], rows


@evidence.figure(
    "several operations: what the removal of the shared expert costs; the bar is ours", at_least=0.01, unit="dB"
)
def shared_expert():
    rows = _combined()
    return rows["combined"] - rows["without the shared expert"]


@evidence.figure("several operations: two sampling steps over one", at_least=0, unit="dB")
def two_steps():
    rows = _combined()
    return rows["combined"] - rows["one step"]


@evidence.figure("an expert is withheld: Combine Module over the sum of the others' changes", at_least=0, unit="dB")
def withheld():
    """Every operation that was applied and found, in turn."""
    rows = _combined()
    return rows["withheld"] - rows["withheld, sum"]


@evidence.sheets
def sheets():
    """Every photograph with several operations, and untouched."""
    return restored_anywhere.sheet_rows(_restorer(), _people())


@cache
def _people():
    """Held-out people anywhere, and Canada's, whose faces are the largest."""
    return portraits_with_mesh(face_sets([*ANYWHERE, "canada"]))


@cache
def _restorer() -> Restorer:
    return Restorer(_small(), device="cpu")


@cache
def _anywhere() -> Measured:
    """Measured and kept in parts of some ten photographs: all of them take an hour."""
    parts = [_measured(start) for start in range(0, len(_people()), PART)]
    return restored_anywhere.joined(parts)


@evidence.kept
def _measured(start: int) -> Measured:
    return restored_anywhere.measure(_restorer(), _people()[start : start + PART], start)


@evidence.kept
def _combined() -> dict[str, float]:
    return restored_anywhere.combined(_restorer().network.model, _anywhere().faces)


@evidence.kept
def _degrees() -> dict[str, tuple[float, float]]:
    """Shares of exact answers and of those within one degree, by operation."""
    model, found = _small().eval(), {}
    edges = json.loads(model.metadata["degree_edges"])
    held_out = f"faces:{face_sets([*STUDIO, *ANYWHERE])}"
    for name in OPERATIONS:
        options = {"size": model.config.size, "seed": 0, "operations": OPERATIONS, "kind": "single", "operation": name}
        faces = open_retouched_faces(held_out, split="val", **options)
        faces.degree_edges = edges[name]
        errors = []
        for index in range(2 * len(faces)):  # the second time around retouched in another way
            sample = faces[index]
            with torch.inference_mode():
                logits = model.estimators[name](sample["retouched"][None], sample["traces"][None])
                answer = int(logits.argmax()) + 1
            errors.append(abs(answer - int(sample["degree"])))
        found[name] = (statistics.mean(e == 0 for e in errors), statistics.mean(e <= 1 for e in errors))
    return found


@evidence.kept
def _evaluated() -> Evaluation:
    return evaluate(
        "small", f"faces:{face_sets(STUDIO)}", EvaluationOptions(limit=FACES, styles=tuple(STYLES), device="cpu")
    )


@cache
def _small() -> MoFRR:
    return MoFRR.from_pretrained("small")


if __name__ == "__main__":
    evidence.main()
