"""What BPFRe promises, measured afresh: ``nox -s evidence -- bpfre``."""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pyvips
import torch
from bpfre.attention import merged_map
from bpfre.config import PRESETS
from bpfre.model import BPFRe, BPFReOutput
from bpfre.objective import Objective
from bpfre.retouch import Retoucher
from bpfre.strokes import brush_strokes, paint_white
from retouch_common.config import apply_overrides
from retouch_common.devices import resolve_precision
from retouch_common.faces.alignment import align
from retouch_common.inference.demo import astronaut
from retouch_common.inference.openvino import is_installed
from retouch_common.testing import portraits
from retouch_common.testing.anywhere import MeshPortrait, Retouch, mesh_square, portraits_with_mesh, through_files
from retouch_common.testing.anywhere_figures import promise_anywhere
from retouch_common.testing.evidence import ANYWHERE, STUDIO, Evidence, NotMeasured, bundled_weights, face_sets
from retouch_common.testing.portraits import Portrait, gains, psnr, visible
from torch import Tensor
from torchmetrics.functional.classification import binary_average_precision

MARGIN = 1.37  # side of a crop over a face's longer side: faces as wide as aligned ones, 0.56 of the crop

evidence = Evidence("bpfre")


@evidence.figure("eight pairs, overfitted: error of stage two over that of stage one", at_most=0.97)
def overfit_second():
    """90 steps of the preset tiny at 32 x 32 without adversary, squared errors; below 1 stage two adds something."""
    identity, coarse, refined = _overfitted()
    return refined / coarse, {"identity": identity, "coarse": coarse, "refined": refined}


@evidence.figure("eight pairs, overfitted: error of stage one over that of doing nothing", at_most=0.5)
def overfit_first():
    """The same run."""
    identity, coarse, _ = _overfitted()
    return coarse / identity


@evidence.figure("512x512 on two cores: times faster than grouped, NCHW, fp32, eager", at_least=1.5, unit="times")
def speed():
    """One face, the bundled weights in both forms, in this run, medians; the largest difference is in the details."""
    script = """
import json
import torch
torch.set_num_threads(2)
from bpfre.model import BPFRe
from retouch_common.inference.network import InferenceModel
from retouch_common.testing.machine import device_seconds
from retouch_common.testing.modulation import use_grouped
image, cpu = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(0)), torch.device("cpu")
plain = use_grouped(BPFRe.from_pretrained("small"))
fast = InferenceModel(BPFRe.from_pretrained("small"), cast_convolutions=True, device="cpu")
with torch.inference_mode():
    times = {"plain": device_seconds(lambda: plain(image), cpu, rounds=7, warmup=1)}
    times["fast"] = device_seconds(lambda: fast(image), cpu, rounds=7, warmup=1)
    difference = (plain(image).result - fast(image).result).abs().max().item()
print(json.dumps({"difference": difference, **times}))
"""
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    times = json.loads(finished.stdout.splitlines()[-1])
    return statistics.median(times["plain"]) / statistics.median(times["fast"]), times


@evidence.figure("512x512 on one thread: CPU-seconds of a face, OpenVINO", at_most=0.12, unit="s")
def openvino_seconds():
    """The bundled weights in bf16, least of 15 calls in turns with PyTorch's, whose seconds are in the details."""
    _require_openvino()
    script = """
import json, time
import torch
torch.set_num_threads(1)
from bpfre.inference import InferenceBPFRe
from bpfre.model import BPFRe
image = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(0))
model = BPFRe.from_pretrained("small")
networks = {name: InferenceBPFRe(model, "cpu", backend=name) for name in ("torch", "openvino")}
first, least = {}, dict.fromkeys(networks, float("inf"))
for _ in range(16):
    for name, network in networks.items():
        start = time.process_time()
        network(image)
        seconds = time.process_time() - start
        if name not in first:  # OpenVINO is imported, and loads from its cache or compiles
            first[name] = seconds
        else:
            least[name] = min(least[name], seconds)
print(json.dumps({**least, **{f"{name}, first face": seconds for name, seconds in first.items()}}))
"""
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    times = json.loads(finished.stdout.splitlines()[-1])
    return times["openvino"], times | {"times as fast": times["torch"] / times["openvino"]}


@evidence.figure("OpenVINO: largest difference from PyTorch, every fourth portrait", at_most=1, unit="levels")
def openvino_difference():
    """Aligned faces of people anywhere and in studios, retouched as bpfre-retouch does it; against fp32 and bf16."""
    _require_openvino()
    compiled = Retoucher(_small(), device="cpu", backend="openvino")
    references = {precision: Retoucher(_small(), device="cpu", precision=precision) for precision in ("fp32", "bf16")}
    largest, changed = dict.fromkeys(references, 0), dict.fromkeys(references, 0.0)
    people = list(portraits_with_mesh(face_sets([*STUDIO, *ANYWHERE])))[::4]
    for person in people:
        face = _framed(person, _small().config.size)
        found = compiled(face, aligned=True).astype(int)
        for precision, retoucher in references.items():
            difference = np.abs(found - retoucher(face, aligned=True))
            largest[precision] = max(largest[precision], int(difference.max()))
            changed[precision] = max(changed[precision], float((difference > 0).mean()))
    return max(largest.values()), {"largest": largest, "largest share of values": changed, "portraits": len(people)}


@evidence.figure("bundled weights: size", at_most=20, unit="MB")
def size():
    """The safetensors file in the package."""
    return bundled_weights("bpfre").stat().st_size / 1e6


@evidence.figure("drawn blemishes, studio people: gain over identity, whole image", at_least=2.38, unit="dB")
def gain_whole():
    """Face crops at the network's size, uint8; means of the PSNR's gain. The bar is 0.3 dB below the first weights'."""
    figures = gains(_retouch, _drawn())
    return figures["gain_whole"], figures


@evidence.figure("drawn blemishes, studio people: gain over identity, inside the mask", at_least=5.12, unit="dB")
def gain_inside():
    """The same pictures, pixels that the blemishes change by more than 5 levels; stage one's gain is in the details."""
    figures = gains(_retouch, _drawn())
    coarse = gains(lambda raw: _levels(_output(raw).coarse), _drawn())
    return figures["gain_inside"], figures | {"coarse_gain_inside": coarse["gain_inside"]}


@evidence.figure("M^{E2D} against its true difference: area under the precision-recall curve", at_least=0.5)
def attention_coarse():
    """Eq. 4's: what the blemishes change by more than 5 levels. Scales enlarged and averaged; mean over pictures."""
    return _average_precision("attention_coarse", lambda raw: raw)


@evidence.figure("M^{D2G} against its true difference: area under the precision-recall curve", at_least=0.5)
def attention_refined():
    """Eq. 5's: where stage one is still off by more than 5 levels. Against M^{E2D}'s truth it is in the details."""
    value, details = _average_precision("attention_refined", lambda raw: _levels(_output(raw).coarse))
    other, _ = _average_precision("attention_refined", lambda raw: raw)
    return value, details | {"against the blemishes": other}


@evidence.figure("inpainting weights: size", at_most=20, unit="MB")
def inpainting_size():
    """The safetensors file in the package."""
    return bundled_weights("bpfre", "inpainting").stat().st_size / 1e6


@evidence.figure("inpainting, people not trained on: PSNR under the strokes over doing nothing", at_least=10, unit="dB")
def inpainting_gain():
    """Section 4.7, Table 4: one to three white strokes over aligned faces, uint8. The bar is ours.

    Identity is the picture with its strokes. Studio people and people anywhere are beside it, and whole pictures too.
    """
    model, found = BPFRe.from_pretrained(str(bundled_weights("bpfre", "inpainting"))).eval(), {}
    for title, folders in (("studio", STUDIO), ("anywhere", ANYWHERE)):
        rows = []
        for seed, portrait in enumerate(portraits_with_mesh(face_sets(folders))):
            truth = _framed(portrait, model.config.size)
            mask = brush_strokes(*truth.shape[:2], np.random.default_rng((0x7AB4, seed))) > 0.5
            raw = paint_white(truth, mask.astype(np.float32))
            with torch.inference_mode():
                result = _levels(model(torch.from_numpy(raw).permute(2, 0, 1)[None].float() / 255).result)
            rows.append([psnr(picture, truth, where) for picture in (raw, result) for where in (mask, None, ~mask)])
        titles = ("identity, strokes", "identity, whole", "identity, elsewhere", "strokes", "whole", "elsewhere")
        found[title] = dict(zip(titles, np.mean(rows, axis=0).tolist(), strict=True)) | {"faces": len(rows)}
    return min(row["strokes"] - row["identity, strokes"] for row in found.values()), found


@evidence.figure("bpfre-inpaint as it comes: share of the painted pixels that stay white", at_most=0.01)
def inpainting_command():
    """A white square on the astronaut's cheek, the default weights and detector."""
    bundled_weights("bpfre", "inpainting")
    mask = np.zeros(astronaut().shape, np.uint8)
    mask[115:135, 240:260] = 255
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for title, picture in (("photo", astronaut()), ("mask", mask)):
            pyvips.Image.new_from_array(picture).write_to_file(str(folder / f"{title}.png"))
        arguments = ["photo.png", "-o", "out.png", "--mask", "mask.png"]
        command = [str(Path(sys.executable).with_name("bpfre-inpaint")), *arguments]
        finished = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if finished.returncode:
            raise NotMeasured(f"bpfre-inpaint exited with {finished.returncode}: {finished.stderr.strip()[-300:]}")
        painted = pyvips.Image.new_from_file(str(folder / "out.png")).numpy()[mask.any(axis=-1)]
    return float((painted.min(axis=-1) > 245).mean())


@evidence.figure("a portrait without blemishes: PSNR to itself, mean", at_least=42, unit="dB")
def self_similarity():
    """The clean portraits. The bar is ours."""
    clean = [psnr(_retouch(portrait.clean), portrait.clean) for portrait in _portraits()]
    return statistics.mean(clean), {"worst": min(clean), "portraits": len(clean)}


@cache
def _as_a_file() -> Retouch:
    """A photograph through ``bpfre-retouch`` with its defaults."""
    return through_files(Retoucher(_small()).retouch_file)


promise_anywhere(evidence, _as_a_file)


@cache
def _overfitted() -> tuple[float, float, float]:
    """Squared errors of doing nothing, stage one and stage two."""
    torch.manual_seed(0)
    overrides = {"model.size": 32, "model.norm": "none", "loss.adversarial": 0.0, "loss.emphasis": 5.0}
    config = apply_overrides(PRESETS["tiny"], overrides)
    model, objective = BPFRe(config.model), Objective(config.loss)
    raw, target = _eight_pairs(32)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 90)
    for _ in range(90):
        objective.total(objective(model(raw), raw, target)).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    with torch.no_grad():
        output = model.eval()(raw)
    identity, coarse, refined = (
        (image - target).square().mean().item() for image in (raw, output.coarse, output.refined)
    )
    return identity, coarse, refined


def _eight_pairs(side: int) -> tuple[Tensor, Tensor]:
    """Smooth colour gradients with four dark spots each, and without; (8, 3, S, S) in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(side) / side, torch.arange(side) / side, indexing="ij")
    base = 0.25 + 0.5 * torch.rand(8, 3, 1, 1, generator=generator)
    target = base + torch.tensor([0.1, 0.0, -0.1]).view(3, 1, 1) * x + torch.tensor([0.0, 0.1, 0.05]).view(3, 1, 1) * y
    raw = target.clone()
    for image in raw:
        for cy, cx in 0.15 + 0.7 * torch.rand(4, 2, generator=generator):
            image[:, torch.hypot(y - cy, x - cx) < 3 / 32] *= 0.5
    return raw, target


def _average_precision(name: str, base: Callable[[np.ndarray], np.ndarray]) -> tuple[float, dict[str, float]]:
    """Of a map against where ``base`` of the raw picture differs visibly from the truth: mean over pictures."""
    values, pixels = [], []
    for raw, truth in _drawn():
        wanted = torch.from_numpy(visible(base(raw), truth))
        maps = getattr(_output(raw), name)
        found = merged_map(maps, len(raw))[0, 0]
        pixels.append((found.flatten(), wanted.flatten().long()))
        values.append(float(binary_average_precision(*pixels[-1])))
    all_found, all_wanted = (torch.cat(parts) for parts in zip(*pixels, strict=True))
    return statistics.mean(values), {
        "worst": min(values),
        "chance": float(all_wanted.float().mean()),
        "one curve over all pictures": float(binary_average_precision(all_found, all_wanted)),
        "pictures": len(values),
    }


@cache
def _drawn() -> list[tuple[np.ndarray, np.ndarray]]:
    draws = ((seed, portrait) for seed, portrait in enumerate(_portraits() * 2))
    return [(portraits.with_blemishes(portrait, seed), portrait.clean) for seed, portrait in draws]


@cache
def _portraits() -> list[Portrait]:
    return list(portraits.held_out(face_sets(STUDIO), side=_small().config.size, margin=MARGIN))


def _retouch(raw: np.ndarray) -> np.ndarray:
    """The picture after the last stage, with all its changes; bpfre-retouch leaves out those of up to a level."""
    return _levels(_output(raw).result)


@torch.inference_mode()
def _output(raw: np.ndarray) -> BPFReOutput:
    return _small()(torch.from_numpy(raw).permute(2, 0, 1)[None].float() / 255)


def _levels(image: Tensor) -> np.ndarray:
    return (image[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def _framed(portrait: MeshPortrait, size: int) -> np.ndarray:
    """A face framed as FFHQ's by its mesh, (S, S, 3) uint8."""
    return np.rint(255 * align(portrait.levels, mesh_square(portrait), size)).clip(0, 255).astype(np.uint8)


@cache
def _small() -> BPFRe:
    return BPFRe.from_pretrained("small")


def _require_openvino() -> None:
    if not is_installed():
        raise NotMeasured("OpenVINO is not installed; install it with: pip install 'bpfre[openvino]'")
    if resolve_precision("auto", torch.device("cpu")) != torch.bfloat16:
        raise NotMeasured("this CPU does not compute in bf16")


if __name__ == "__main__":
    evidence.main()
