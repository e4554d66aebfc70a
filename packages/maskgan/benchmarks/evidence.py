"""What maskgan promises, measured afresh: ``nox -s evidence -- maskgan``.

Two sets of weights are used here only and lie beside this file: ``judge``, a face parser of another seed and width that
no training of the networks has seen, and ``without_parsing``, the networks trained as the bundled ones but for Eq. 8.
"""

import json
import statistics
import subprocess
import sys
from functools import cache, partial
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from maskgan.config import PRESETS, LossConfig
from maskgan.data import open_data
from maskgan.evaluate import Evaluation, Options, evaluate
from maskgan.model import MaskGAN
from maskgan.objective import Objective
from retouch_common.demo import astronaut
from retouch_common.parsing.evaluate import evaluate as evaluate_parser
from retouch_common.parsing.finder import find_faces
from retouch_common.parsing.parser import FaceParser
from retouch_common.testing.evidence import Evidence, NotMeasured, data_folder
from retouch_common.training.schedule import learning_rate_factor

HERE = Path(__file__).parent
OURS, WITHOUT = "small", "without the parsing loss"
PAIRS = 200
STEPS = 200  # of learning by heart

# Pupils of scikit-image's astronaut and the middle between the corners of her mouth, read off by eye, in pixels.
ASTRONAUT = np.array([[204.0, 101.5], [246.5, 104.0], [224.0, 140.5]])

evidence = Evidence("maskgan")


@evidence.figure("eight faces learnt by heart: mean PSNR of their reconstruction", at_least=28, unit="dB")
def overfit():
    """The preset small from its start, 200 steps of Eq. 1 and 2, paired data, bf16; no game and no parser."""
    torch.manual_seed(0)
    config = PRESETS["small"]
    faces = open_data(f"faces:{data_folder('faces')}", size=config.model.size, split="train", seed=0, parser=None)
    chosen = [faces[12 * index] for index in range(8)]
    images = torch.stack([face["image"] for face in chosen]).contiguous(memory_format=torch.channels_last)
    labels = torch.stack([face["labels"] for face in chosen])
    model = MaskGAN(config.model).to(memory_format=torch.channels_last)
    loss = LossConfig(local=20.0, reconstruction=100.0, region=10.0, adversarial=0.0, parsing=0.0)
    objective = Objective(loss, None)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.9, 0.99))
    rate = partial(learning_rate_factor, steps=STEPS, warmup=20, schedule="cosine", step_at=STEPS)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    for step in range(STEPS):
        part = slice(0, 4) if step % 2 else slice(4, 8)
        x, m = images[part], labels[part]
        with torch.autocast("cpu", torch.bfloat16):
            output = model(x, m, x, m)
        optimizer.zero_grad()
        objective.total(objective(output, x, m, "paired")).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
    model.eval()
    with torch.no_grad():
        drawn = model.generate(model.encode(images, labels), images, labels).clamp(-1, 1)
    errors = ((drawn - images) / 2).square().mean(dim=(1, 2, 3))
    return float((-10 * errors.log10()).mean()), {"steps": STEPS}


@evidence.figure("face parser: pixel accuracy on people not trained on", at_least=0.95)
def parser_accuracy():
    """All portraits with templates of the held-out people, aligned."""
    found = _parser()
    return found["pixel_accuracy"], found


@evidence.figure("face parser: mean F1 of skin, brows, eyes, nose, lips and hair", at_least=0.80)
def parser_f1():
    return _parser()["f1_mean"]


@evidence.figure("eyes and mouth of the astronaut: largest error in eye distances", at_most=0.15)
def astronaut_found():
    """Found by the parser alone in her whole picture."""
    faces = find_faces(astronaut(), FaceParser("small", "cpu"))
    if not faces:
        return 9.9, {"faces": 0}
    points = np.stack([*faces[0].landmarks[:2], faces[0].landmarks[3:].mean(axis=0)])
    unit = np.hypot(*(ASTRONAUT[1] - ASTRONAUT[0]))
    errors = np.hypot(*(points - ASTRONAUT).T) / unit
    return float(errors.max()), {"faces": len(faces), "left eye, right eye, mouth": errors.round(3).tolist()}


@evidence.figure("size of the face parser's weights", at_most=8, unit="MB")
def parser_size():
    return _megabytes("retouch_common.parsing")


@evidence.figure("size of the bundled weights", at_most=40, unit="MB")
def size():
    return _megabytes("maskgan")


@evidence.figure("faces of people not trained on, drawn again: mean PSNR", at_least=24, unit="dB")
def reconstruction():
    row = _evaluated().rows[OURS]
    return row.means()["PSNR"], row.means() | {"faces": len(row.reconstruction)}


@evidence.figure("drawn faces agree with their masks, as a parser says that training did not see", at_least=0.93)
def agreement():
    """One held-out person's appearance after another's mask."""
    rows = {name: row.means()["agreement"] for name, row in _evaluated().rows.items()}
    return rows[OURS], rows


@evidence.figure("the parsing loss: gain in agreement over the same training without it", at_least=1e-6)
def parsing_loss():
    rows = _evaluated().rows
    return rows[OURS].means()["agreement"] - rows[WITHOUT].means()["agreement"]


@evidence.figure("another's mouth: share of pixels elsewhere that change by less than 8 levels", at_least=0.95)
def mouth_elsewhere():
    row = _evaluated().rows[OURS]
    return row.outside["mouth"], {"other components": row.outside}


@evidence.figure("another's mouth: mean change of the mouth itself", at_least=4, unit="levels")
def mouth_itself():
    row = _evaluated().rows[OURS]
    return row.inside["mouth"], {"other components": row.inside}


@evidence.figure("a stroke in the studio until its picture is there, two cores", at_most=1, unit="s")
def latency():
    """Median of ten renders, as PNG files, in a fresh process of two threads, as the server answers a stroke."""
    _bundled("maskgan")
    script = """
import json, tempfile, time
from pathlib import Path
import pyvips, torch
torch.set_num_threads(2)
from retouch_common.demo import astronaut
from maskgan.editor import Editor
from maskgan.studio.session import Edit, StoredFile, Studio
studio = Studio(Editor("small", device="cpu"))
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "astronaut.png"
    pyvips.Image.new_from_array(astronaut()).write_to_file(str(path))
    opened = studio.open(StoredFile(path, path.name, ours=False))
    times = []
    for number in range(11):
        labels = opened.portrait.labels.copy()
        labels[100:120, 60 + number : 90 + number] = 10
        start = time.perf_counter()
        studio.render(Edit(opened.id, labels))
        times.append(time.perf_counter() - start)
print(json.dumps(times[1:]))
"""
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    times = json.loads(finished.stdout.splitlines()[-1])
    return statistics.median(times), {"slowest": max(times)}


def _megabytes(package: str) -> float:
    return _bundled(package).stat().st_size / 1e6


@cache
def _parser() -> dict[str, float]:
    _bundled("retouch_common.parsing")
    return evaluate_parser("small", f"faces:{data_folder('faces')}", "val", device="cpu")


@cache
def _evaluated() -> Evaluation:
    _bundled("maskgan")
    weights = {OURS: "small", WITHOUT: _beside("without_parsing")}
    options = Options(pairs=PAIRS, judge=str(_beside("judge")), device="cpu")
    return evaluate(weights, f"faces:{data_folder('faces')}", options, report=lambda line: None)


def _bundled(package: str) -> Path:
    return _there(Path(str(resources.files(package))) / "weights" / "small.safetensors")


def _beside(name: str) -> Path:
    return _there(HERE / f"{name}.safetensors")


def _there(path: Path) -> Path:
    if not path.is_file():
        raise NotMeasured(f"{path} is missing")
    return path


if __name__ == "__main__":
    evidence.main()
