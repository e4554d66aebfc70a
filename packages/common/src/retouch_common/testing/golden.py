"""Golden files: small committed results that later versions must reproduce.

    schema      SHA-256 of names, shapes and formats, and the parameter count, per preset
    forward     weights, input and output of a tiny model in one safetensors file
    loss curve  the first losses of a short training run

Each `check_…` compares with its file, or writes it with RETOUCH_UPDATE_GOLDEN=1 in the environment, which
`nox -s golden -- --update` sets. Hashes of values are never committed: they differ between processors.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FORWARD_BYTES = 200_000  # largest golden forward
FORWARD_RTOL, FORWARD_ATOL = 1e-4, 1e-5
CURVE_RTOL = 1e-3
UPDATE_VARIABLE = "RETOUCH_UPDATE_GOLDEN"


def updating() -> bool:
    """Return whether golden files are written instead of compared."""
    return os.environ.get(UPDATE_VARIABLE) == "1"


def schema(model: nn.Module) -> dict[str, Any]:
    """Return the schema of a model, which may be on the meta device.

    Returns:
        "sha256" of the sorted (name, shape, format) of the state dict, its number of "tensors", and the number of
        "parameters".
    """
    entries = sorted(
        (name, list(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in model.state_dict().items()
    )
    return {
        "sha256": hashlib.sha256(json.dumps(entries).encode()).hexdigest(),
        "tensors": len(entries),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def check_schema(path: Path, models: Mapping[str, nn.Module]) -> None:
    """Compare the schemas of all presets' models with the golden file."""
    found = {name: schema(model) for name, model in models.items()}
    if updating():
        _write(path, json.dumps(found, indent=2, sort_keys=True) + "\n")
        return
    golden = json.loads(_existing(path).read_text(encoding="utf-8"))
    assert found.keys() == golden.keys(), f"{path.name} has presets {sorted(golden)}, the code {sorted(found)}"
    for name in found:
        assert found[name] == golden[name], (
            f"checkpoints of preset {name!r} changed: {golden[name]} -> {found[name]}; old weights may not "
            "load. If that is meant, run `nox -s golden -- --update` and say so in the changelog"
        )


def check_forward(
    path: Path,
    make: Callable[[], tuple[nn.Module, dict[str, Tensor]]],
    run: Callable[[nn.Module, dict[str, Tensor]], Mapping[str, Tensor]],
) -> None:
    """Compare a forward pass with the golden file, at most 200 kB: its weights and inputs must give its outputs.

    ``make`` returns a model and inputs by name, whose values matter only when the file is written; ``run`` returns the
    outputs by name. They may differ by rtol 1e-4, atol 1e-5.
    """
    from safetensors.torch import load, save

    model, inputs = make()
    if updating():
        with torch.inference_mode():
            outputs = run(model, inputs)
        parts = {"weight": model.state_dict(), "input": inputs, "output": outputs}
        tensors = {f"{part}/{k}": t.detach().clone().contiguous() for part, d in parts.items() for k, t in d.items()}
        data = save(tensors)
        if len(data) > FORWARD_BYTES:
            raise ValueError(f"{path.name} would have {len(data)} bytes; at most {FORWARD_BYTES}: use a smaller model")
        _write(path, data)
        return
    golden: dict[str, dict[str, Tensor]] = {"weight": {}, "input": {}, "output": {}}
    for key, tensor in load(_existing(path).read_bytes()).items():
        part, _, name = key.partition("/")
        golden[part][name] = tensor
    model.load_state_dict(golden["weight"])
    with torch.inference_mode():
        outputs = run(model, golden["input"])
    assert outputs.keys() == golden["output"].keys(), f"{path.name}: outputs are {sorted(outputs)}"
    for name, expected in golden["output"].items():
        torch.testing.assert_close(outputs[name], expected, rtol=FORWARD_RTOL, atol=FORWARD_ATOL)


def check_curve(path: Path, losses: Sequence[float]) -> None:
    """Compare the losses of a training run with the golden file's, each to rtol 1e-3."""
    if updating():
        _write(path, json.dumps([float(f"{loss:.7g}") for loss in losses], indent=1) + "\n")
        return
    golden = json.loads(_existing(path).read_text(encoding="utf-8"))
    assert len(losses) == len(golden), f"{path.name} has {len(golden)} losses, the run {len(losses)}"
    for step, (loss, expected) in enumerate(zip(losses, golden, strict=True), start=1):
        assert abs(loss - expected) <= CURVE_RTOL * abs(expected), (
            f"{path.name}: loss of step {step} is {loss:.7g}, golden {expected:.7g}"
        )


def _existing(path: Path) -> Path:
    assert path.is_file(), f"golden file {path} is missing; `nox -s golden -- --update` writes it"
    return path


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
