"""Times of ABPN and BPFRe beside the networks that people would use instead: ``nox -s benchmark -- --peers``.

Each network runs on random pixels in a process of its own, with all cores: seconds are medians after a warm-up, memory
is the operating system's. Ours map arrays of bytes to arrays of bytes with the bundled weights; of the others only the
network is timed, on tensors that are ready: as published (eager, fp32) and with the number format of ours ("bf16",
channels last where the network allows it). Detection, decoding and encoding are left out.

    python peers.py                      all, to docs/benchmarks/peers.json, .md and .svg
    python peers.py NAME SIZE FORMAT     one, as a line of JSON
"""

import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from peer_networks import FACE, PEERS
from retouch_common.metrics.environment import environment
from retouch_common.testing.machine import device_seconds, run_measured

PHOTO = 4096
OUT = Path(__file__).parents[3] / "docs/benchmarks"
SECONDS = 6.0  # of measuring; at least 3 and at most 20 rounds
OURS = ("ABPN", "ABPN, plain", "BPFRe")


@dataclass(frozen=True)
class Row:
    """A network in a number format, "array" for ours; seconds and bytes by side, or the reason why there are none."""

    name: str
    format: str
    million_parameters: float
    seconds: dict[int, float | str]
    peak: dict[int, int]


def _ours(name: str, size: int) -> tuple[Callable[[], object], int]:
    """Return a call that retouches a photograph, and its number of parameters."""
    photo = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    if name == "BPFRe":
        from bpfre.retouch import Retoucher as FaceRetoucher

        faces = FaceRetoucher("small", device="cpu")
        return lambda: faces(photo, aligned=True, confine=False), _num_parameters(faces.network)
    from abpn.model import ABPN
    from abpn.retouch import Retoucher

    if name == "ABPN":
        retoucher = Retoucher("small", device="cpu")
        return lambda: retoucher(photo), _num_parameters(retoucher.model)
    model = ABPN.from_pretrained("small").requires_grad_(False)
    image = torch.from_numpy(photo).permute(2, 0, 1)[None]
    return lambda: model(image.float().contiguous() / 255).results[0].mul(255).round().byte(), _num_parameters(model)


def _peer(name: str, size: int, format: str) -> tuple[Callable[[], object], int]:
    torch.manual_seed(0)
    build, any_size = PEERS[name]
    model, image = build().eval().requires_grad_(False), torch.rand(1, 3, size, size)
    if format == "bf16" and any_size:  # spandrel's reshape activations in a way that channels last forbids
        model, image = (x.to(memory_format=torch.channels_last) for x in (model, image))

    def call() -> object:
        with torch.autocast("cpu", torch.bfloat16, enabled=format == "bf16"):
            return model(image)

    return call, _num_parameters(model)


def _num_parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@torch.inference_mode()
def measure(name: str, size: int, format: str) -> dict[str, object]:
    """Time one network in this process."""
    call, parameters = _ours(name, size) if name in OURS else _peer(name, size, format)
    first = device_seconds(call, torch.device("cpu"), rounds=1, warmup=1)[0]
    times = device_seconds(call, torch.device("cpu"), rounds=max(3, min(20, int(SECONDS / first))), warmup=0)
    return {"seconds": statistics.median(times), "rounds": len(times), "parameters": parameters}


def compare() -> list[Row]:
    """Time all networks, one after the other."""
    cases = [(name, "array", (FACE, PHOTO)) for name in OURS]
    cases += [
        (name, format, (FACE, PHOTO) if any_size else (FACE,))
        for name, (_, any_size) in PEERS.items()
        for format in ("fp32", "bf16")
    ]
    rows = []
    for name, format, sizes in cases:
        seconds: dict[int, float | str] = {}
        peak, parameters = {}, float("nan")
        for size in sizes:
            done = run_measured([sys.executable, __file__, name, str(size), format])
            if done.status:
                lines = done.stderr.strip().splitlines()
                seconds[size] = lines[-1][:120] if lines else f"ended by signal {-done.status} (memory)"
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            seconds[size], peak[size], parameters = found["seconds"], done.peak, found["parameters"] / 1e6
        rows.append(Row(name, format, parameters, seconds, peak))
        print(rows[-1], flush=True)
    return rows


def as_markdown(rows: list[Row]) -> str:
    """Return the table, with times beside those of ABPN and, for faces, of BPFRe."""
    own = {row.name: row.seconds for row in rows if row.name in OURS}
    lines = [
        f"| network | format | parameters, millions | {FACE}² face, s | times BPFRe "
        f"| {PHOTO}² photo, s | times ABPN | GB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        face, photo = row.seconds[FACE], row.seconds.get(PHOTO, "faces only")
        cells = [row.name, row.format, f"{row.million_parameters:.1f}"]
        cells += [_number(face), _ratio(face, own["BPFRe"][FACE])]
        cells += [_number(photo), _ratio(photo, own["ABPN"][PHOTO])]
        cells += [f"{max(row.peak.values()) / 1e9:.1f}" if row.peak else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"


def _ratio(value: float | str, own: float | str) -> str:
    return "" if isinstance(value, str) or isinstance(own, str) else f"{value / own:.2g}"


def plot(rows: list[Row], file: Path) -> None:
    """Draw the seconds of both sizes as bars on a logarithmic axis."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    names = [row.name if row.format == "array" else f"{row.name}, {row.format}" for row in rows]
    for axis, size in zip(axes, (FACE, PHOTO), strict=True):
        values = [row.seconds.get(size) for row in rows]
        shown = [value if isinstance(value, float) else 0 for value in values]
        axis.barh(names, shown, color=["tab:orange" if row.name in OURS else "tab:blue" for row in rows])
        axis.set(xscale="log", xlabel=f"seconds for {size} x {size} pixels")
        axis.grid(axis="x", alpha=0.4)
    axes[0].invert_yaxis()
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    """Compare all networks and write the results."""
    rows = compare()
    results = {"environment": environment(), "rows": [vars(row) for row in rows]}
    (OUT / "peers.json").write_text(json.dumps(results, indent=1) + "\n")
    (OUT / "peers.md").write_text(as_markdown(rows))
    plot(rows, OUT / "peers.svg")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
