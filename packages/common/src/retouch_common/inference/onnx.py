"""Export of modules to ONNX by torch's exporter, and inference with onnxruntime."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

OPSET = 18
AXES = ("batch", "channels", "height", "width")
CHECK_TOLERANCE = 1e-3  # between onnxruntime and PyTorch


def require_onnx(package: str) -> None:
    """Refuse to export without the extra ``onnx`` of ``package``, or with a PyTorch that cannot export dynamic shapes.

    Raises:
        ValueError: If one of them is missing.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"exporting needs {', '.join(missing)}; install it with: pip install '{package}[onnx]'")
    if "prefer_deferred_runtime_asserts_over_guards" not in inspect.signature(torch.export.export).parameters:
        raise ValueError(
            f"exporting needs a newer torch than {torch.__version__}; install it with: pip install -U torch"
        )


def checked_output(out: str | os.PathLike[str]) -> Path:
    """Return the path of an ONNX file to write.

    Raises:
        ValueError: If it has another suffix or no folder.
    """
    out = Path(out)
    if out.suffix.lower() != ".onnx":
        raise ValueError(f"{out}: the output's name must end in .onnx")
    if not out.parent.is_dir():
        raise ValueError(f"{out}: the folder {out.parent} does not exist; create it first")
    return out


def check_graph(graph: bytes, inputs: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the largest difference between each output of a graph and PyTorch's.

    Raises:
        ValueError: If one is larger than ``CHECK_TOLERANCE``.
    """
    found = run_onnx(graph, inputs)
    differences = {name: float((found[name] - value).abs().max()) for name, value in expected.items()}
    for name, difference in differences.items():
        if not difference <= CHECK_TOLERANCE:
            raise ValueError(
                f"onnxruntime and PyTorch differ by {difference:.1g} in {name} on these weights; nothing was written"
            )
    return differences


def to_onnx(
    module: nn.Module,
    example: Mapping[str, Tensor],
    outputs: Sequence[str],
    *,
    free: Sequence[int],
    metadata: Mapping[str, str],
) -> bytes:
    """Export a module, called with the example's tensors by name, to a serialised graph with its weights.

    ``free`` are the dynamic dimensions of all inputs, which must not be 0 or 1 in the example; they are named batch,
    channels, height and width, with a number where inputs differ. ``outputs`` names the outputs.
    """
    dynamic = {name: dict.fromkeys(free, torch.export.Dim.DYNAMIC) for name in example}
    with _quiet(), torch.no_grad():
        # Guards such as "the padded input is not 64 wide" become run-time assertions, which ONNX leaves out.
        program = torch.onnx.export(
            torch.export.export(
                module.eval(),
                (),
                kwargs=dict(example),
                dynamic_shapes=dynamic,
                prefer_deferred_runtime_asserts_over_guards=True,
            ),
            dynamo=True,
            input_names=list(example),
            output_names=list(outputs),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    _name_dimensions(proto)
    for key, value in metadata.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    return bytes(proto.SerializeToString())


def _name_dimensions(proto: Any) -> None:
    """Name the dynamic dimensions of a model by their meaning; modified in place."""
    names: dict[str, str] = {}
    for value in proto.graph.input:
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
            symbol = dimension.dim_param
            if symbol and symbol not in names:
                name, number = AXES[axis], sum(given.startswith(AXES[axis]) for given in names.values()) + 1
                names[symbol] = name if number == 1 else f"{name}_{number}"
    pattern = re.compile("|".join(rf"\b{re.escape(symbol)}\b" for symbol in names) or r"(?!)")
    for value in (*proto.graph.input, *proto.graph.value_info, *proto.graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:  # a name, or an expression such as 2*s1
                dimension.dim_param = pattern.sub(lambda match: names[match[0]], dimension.dim_param)


def run_onnx(graph: bytes, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a graph's outputs by name, computed with onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, {name: value.numpy() for name, value in inputs.items()})
    return {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch.onnx and onnxscript log for their own developers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
