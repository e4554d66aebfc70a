"""What maskgan promises, measured afresh: ``nox -s evidence -- maskgan``.

Three sets of weights are used here only and lie beside this file, with their checksums: ``judge``, a face parser of
another seed and width that no training of the networks has seen, ``without_parsing``, the networks trained as the
bundled ones but for Eq. 8, and ``discriminators``, trained with the bundled ones.
"""

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from maskgan.config import PRESETS, LossConfig
from maskgan.data import open_faces
from maskgan.discriminator import Discriminators
from maskgan.editor import Editor, Portrait
from maskgan.evaluate import Evaluation, EvaluationOptions, evaluate
from maskgan.evaluate import agreement as judged_agreement
from maskgan.losses import discriminator_loss
from maskgan.model import MaskGAN
from maskgan.objective import Objective
from retouch_common.parsing.labels import CLASSES, coloured
from retouch_common.parsing.model import ParsingUNet
from retouch_common.testing.anywhere_figures import people_anywhere
from retouch_common.testing.evidence import STUDIO, Evidence, NotMeasured, bundled_weights, face_sets
from retouch_common.testing.portraits import psnr
from retouch_common.training.schedule import learning_rate_factor
from retouch_common.weights import bundled_names, load_state, resolve_weights
from scipy.ndimage import binary_dilation

HERE = Path(__file__).parent
OURS, WITHOUT = "small", "without the parsing loss"
PAIRS = 200
STEPS = 200  # of learning by heart
ADAPT = 80  # steps of adapting to a portrait

evidence = Evidence("maskgan")


@evidence.figure("eight faces, overfitted: mean PSNR of their reconstruction", at_least=28, unit="dB")
def overfit():
    """The preset small from its start, 200 steps of Eq. 1 and 2, paired data, bf16; no discriminators and no parser."""
    torch.manual_seed(0)
    config = PRESETS["small"]
    faces = open_faces(f"faces:{face_sets(STUDIO)}", size=config.model.size, split="train", seed=0, parser=None)
    chosen = [faces[12 * index] for index in range(8)]
    images = torch.stack([face["image"] for face in chosen]).contiguous(memory_format=torch.channels_last)
    labels = torch.stack([face["labels"] for face in chosen])
    model = MaskGAN(config.model).to(memory_format=torch.channels_last)
    loss = LossConfig(local=20.0, reconstruction=100.0, region=10.0, adversarial=0.0, parsing=0.0)
    objective = Objective(loss, None)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.9, 0.99))
    rate = partial(learning_rate_factor, steps=STEPS, warmup=20, schedule="cosine")
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


@evidence.figure("size of the bundled weights", at_most=40, unit="MB")
def size():
    return bundled_weights("maskgan").stat().st_size / 1e6


@evidence.figure("studio people, drawn again: mean PSNR; 0.3 below the first weights'", at_least=28.5, unit="dB")
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


@evidence.figure("people anywhere, drawn again from their own masks: mean PSNR", at_least=26, unit="dB")
def reconstruction_anywhere():
    """Found, aligned and parsed as ``maskgan-edit`` does it; the whole aligned picture, and the person's pixels."""
    values = [psnr(_levels(p.as_it_is), _levels(p.image)) for p in _portraits()]
    person = [psnr(_levels(p.as_it_is), _levels(p.image), p.labels != 0) for p in _portraits()]
    return statistics.mean(values), {
        "worst": min(values),
        "person": statistics.mean(person),
        "people": len(values),
    }


@evidence.figure("discriminators: their loss on people not trained on, over that of chance", at_most=0.9)
def discriminators():
    """Eq. 3 of drawn against real faces, studio people; at chance all logits are 0. The bar is ours."""
    model = MaskGAN.from_pretrained("small").eval()
    judges = Discriminators(model.config).eval()
    judges.load_state_dict(load_state(resolve_weights(_beside("discriminators"), bundled=None)))
    objective = Objective(replace(PRESETS["small"].loss, parsing=0.0, perceptual=0.0), None)
    faces = open_faces(f"faces:{face_sets(STUDIO)}", size=model.config.size, split="val", seed=0)
    losses = {}
    for situation in ("paired", "unpaired"):
        found, chance = [], []
        for index in range(len(faces)):
            target, source = (faces[number % len(faces)] for number in (index, index + (situation == "unpaired")))
            images = [face["image"][None] for face in (source, target)]
            labels = [face["labels"][None] for face in (source, target)]
            with torch.no_grad():
                drawn = model(images[0], labels[0], images[1], labels[1]).image
                found.append(float(objective.discriminator(judges, drawn, images[1], labels[1], situation)))
                nothing = [torch.zeros_like(logits) for logits in judges(images[1], labels[1], situation).logits]
                chance.append(float(discriminator_loss(nothing, nothing, objective.config.kind)))
        losses[situation] = statistics.mean(found) / statistics.mean(chance)
    return max(losses.values()), losses


@evidence.figure("adapted to the portrait, people anywhere, drawn again: mean PSNR", at_least=32, unit="dB")
def adapted_reconstruction():
    """Every other held-out person."""
    rows = _adapted()
    return statistics.mean(row.psnr for row in rows), {
        "before": statistics.mean(row.psnr_before for row in rows),
        "worst": min(row.psnr for row in rows),
        "people": len(rows),
    }


@evidence.figure("adapted to the portrait: seconds it takes on two cores, median", at_most=20, unit="s")
def adaptation_seconds():
    seconds = [row.seconds for row in _adapted()]
    return statistics.median(seconds), {"slowest": max(seconds)}


@evidence.figure("adapted to the portrait: agreement of edits with their masks, over that before", at_least=0)
def adapted_agreement():
    """Eyes larger, mouth open, hair over the forehead; as a parser says that training did not see.

    Of the edit as it is saved, with the photograph's detail; the details have that of the generator's own image.
    """
    rows = _adapted()
    before, after = (statistics.mean(values) for values in zip(*(row.agreement for row in rows), strict=True))
    generated = [row.generated_agreement[1] - row.generated_agreement[0] for row in rows]
    differences = [row.agreement[1] - row.agreement[0] for row in rows]
    return after - before, {
        "before": before,
        "after": after,
        "standard error": statistics.stdev(differences) / len(differences) ** 0.5,
        "of the generator's image": statistics.mean(generated),
    }


@evidence.sheets
def sheets():
    """Every face anywhere, its mask, drawn again, and with an edited mask."""
    for portrait in _portraits():
        labels = edited(portrait.labels)
        pictures = {"face": portrait.image, "drawn again": portrait.as_it_is}
        pictures["edited"] = _editor().render(portrait, labels, portrait.codes).finished
        masks = {"mask": portrait.labels, "edited mask": labels}
        yield {name: _levels(p) for name, p in pictures.items()} | {name: coloured(m) for name, m in masks.items()}


@evidence.figure("a stroke in the studio until its picture is there, two cores", at_most=1, unit="s")
def latency():
    """Median of ten renders, as PNG files, in a fresh process of two threads, as the server answers a stroke."""
    script = """
import json, tempfile, time
from pathlib import Path
import pyvips, torch
torch.set_num_threads(2)
from retouch_common.inference.demo import astronaut
from maskgan.editor import Editor
from maskgan.studio.session import Edit, EditSession
from retouch_common.studio.files import StoredFile
studio = EditSession(Editor("small", device="cpu"))
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "astronaut.png"
    pyvips.Image.new_from_array(astronaut()).write_to_file(str(path))
    opened = studio.open(StoredFile(path, path.name, owned=False))
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


@dataclass(frozen=True)
class _Adapted:
    """PSNR of a face drawn again, in dB, and agreement of an edit with its mask, before and after; and the time."""

    psnr_before: float
    psnr: float
    agreement: tuple[float, ...]
    generated_agreement: tuple[float, ...]
    seconds: float


@evidence.kept
def _adapted() -> list[_Adapted]:
    editor = _editor()
    judge, rows = ParsingUNet.from_pretrained(str(_beside("judge"))).eval(), []
    for portrait in _portraits()[::2]:
        start = time.perf_counter()
        adaptation = editor.adaptation(portrait, steps=ADAPT)
        for _ in adaptation:
            pass
        tuned = editor.adapted(portrait, adaptation)
        seconds, labels = time.perf_counter() - start, edited(portrait.labels)
        edits = [editor.render(one, labels, one.codes) for one in (portrait, tuned)]
        saved, generated = (
            tuple(_agreement(judge, getattr(edit, kind), labels) for edit in edits) for kind in ("finished", "image")
        )
        before, after = (psnr(_levels(one.as_it_is), _levels(one.image)) for one in (portrait, tuned))
        rows.append(_Adapted(before, after, saved, generated, seconds))
    return rows


def _agreement(judge: ParsingUNet, picture: np.ndarray, labels: np.ndarray) -> float:
    image = torch.from_numpy(picture).permute(2, 0, 1)[None]
    return judged_agreement(judge, 2 * image - 1, torch.from_numpy(labels.astype(np.int64))[None])


def edited(labels: np.ndarray) -> np.ndarray:
    """A mask with larger eyes, an open mouth and a fringe."""
    result, size = labels.copy(), len(labels)
    for name in ("eye_left", "eye_right"):
        part = labels == CLASSES.index(name)
        result[binary_dilation(part, iterations=max(1, size // 100))] = CLASSES.index(name)
    lips = np.isin(labels, [CLASSES.index(name) for name in ("upper_lip", "mouth", "lower_lip")])
    rows, columns = np.nonzero(lips)
    if len(rows):
        y, x = np.mgrid[:size, :size]
        across = (x - columns.mean()) / (0.4 * np.ptp(columns) + 1)
        down = (y - rows.mean()) / (0.3 * np.ptp(rows) + 1)
        result[(across**2 + down**2 < 1) & lips] = CLASSES.index("mouth")
    brows = np.nonzero(np.isin(labels, [CLASSES.index("brow_left"), CLASSES.index("brow_right")]))[0]
    if len(brows):
        above = np.arange(size)[:, None] < brows.min() - size // 40
        result[above & (labels == CLASSES.index("skin"))] = CLASSES.index("hair")
    return result


def _levels(picture: np.ndarray) -> np.ndarray:
    return np.rint(255 * picture).clip(0, 255).astype(np.uint8)


@cache
def _editor() -> Editor:
    return Editor("small", device="cpu")


@cache
def _portraits() -> list[Portrait]:
    """Faces of held-out people anywhere, opened as ``maskgan-edit`` does it."""
    return [_editor().open(person.levels) for person in people_anywhere()]


@evidence.kept
def _evaluated() -> Evaluation:
    weights = {OURS: "small", WITHOUT: _beside("without_parsing")}
    options = EvaluationOptions(pairs=PAIRS, judge=str(_beside("judge")), device="cpu")
    return evaluate(weights, f"faces:{face_sets(STUDIO)}", options, report=lambda line: None)


def _beside(name: str) -> Path:
    if name not in bundled_names(HERE):
        raise NotMeasured(f"{HERE / name}.safetensors is missing")
    return resolve_weights(name, bundled=HERE).path


if __name__ == "__main__":
    evidence.main()
