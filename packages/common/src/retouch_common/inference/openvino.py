"""Inference with OpenVINO on CPUs instead of PyTorch: the backend "openvino", an extra.

A paper's package wraps the modules that take its time in :class:`CompiledModule`; everything else stays in PyTorch.
Compiling takes seconds, so the result is kept in the user's cache folder. Loading it takes about half a second, which
only many photographs repay: see :func:`choose_backend`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import inspect
import logging
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from retouch_common.devices import BACKENDS, resolve_device, resolve_precision
from retouch_common.files import cache_folder, write_atomically

logger = logging.getLogger(__name__)

MANY_PHOTOS = 100  # with a face each: they repay compiling, too


def choose_backend(name: str, package: str, *, num_photos: int | None, device: str, precision: str) -> str:
    """Return the backend of a command, "torch" or "openvino".

    "auto" is OpenVINO where it is installed and faster: on a CPU that computes in bf16, for ``MANY_PHOTOS`` or more. A
    photograph's pixels depend on the backend by up to one 8-bit level, and so on the number of photographs.

    Args:
        name: One of ``BACKENDS``.
        package: Package whose extra ``openvino`` installs it.
        num_photos: Number of photographs that the command is given; None for many.
        device: Device by name.
        precision: Precision by name.

    Raises:
        ValueError: As of :func:`require_openvino`; or the backend, device or precision is unknown or not available.
    """
    if name not in BACKENDS:
        raise ValueError(f"backend {name!r} is unknown; choose one of {', '.join(BACKENDS)}")
    where = resolve_device(device)
    dtype = resolve_precision(precision, where)
    if name == "auto":
        many = num_photos is None or num_photos >= MANY_PHOTOS
        faster = where.type == "cpu" and dtype == torch.bfloat16
        return "openvino" if many and faster and is_installed() else "torch"
    if name == "openvino":
        require_openvino(package, where, dtype)
    return name


def is_installed() -> bool:
    """Return whether OpenVINO is installed, without importing it."""
    return importlib.util.find_spec("openvino") is not None


def require_openvino(package: str, device: torch.device, dtype: torch.dtype) -> None:
    """Refuse the backend "openvino" where it is not installed, on a GPU, and in another precision than bf16.

    OpenVINO 2026.4 ends the process with a segmentation fault when it compiles some networks in fp32: group
    normalisation, squeeze-and-excitation and a residual connection.

    Raises:
        ValueError: If so; the message says how to install it by the extra of ``package``.
    """
    if not is_installed():
        raise ValueError(
            "backend openvino needs openvino, which is not installed; install it with: "
            f"pip install '{package}[openvino]'"
        )
    if device.type != "cpu":
        raise ValueError("backend openvino computes on the CPU; use --device cpu, or --backend torch for the GPU")
    if dtype != torch.bfloat16:
        raise ValueError(
            "backend openvino computes in bf16, which --precision excludes or this CPU does not have; "
            "use --backend torch"
        )


class CompiledModule(nn.Module):
    """A module that OpenVINO compiles at the first call, for the shapes of its inputs, to compute in bf16.

    Calls take tensors on the CPU, floating-point ones of any precision, and return a tensor or a tuple of them, fp32.
    They may come from several threads, and run one after the other.

    Args:
        module: Module on the CPU in fp32 that takes tensors by position and returns a tensor or a tuple of tensors.
            Its parameters must not change after the first call.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.eval()
        self._config = {
            "INFERENCE_PRECISION_HINT": "bf16",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        self._requests: dict[str, Any] = {}  # by shapes of the inputs
        self._lock = threading.Lock()

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run the compiled module."""
        values = tuple((value.float() if value.is_floating_point() else value).contiguous() for value in inputs)
        signature = " ".join(f"{value.dtype}{tuple(value.shape)}" for value in values)
        with self._lock:
            if signature not in self._requests:
                self._requests[signature] = self._load(signature, values).create_infer_request()
            request = self._requests[signature]
            found = request.infer([value.numpy() for value in values], share_inputs=True, share_outputs=True)
            outputs = tuple(torch.from_numpy(value.copy()) for value in found.values())
        return outputs[0] if len(outputs) == 1 else outputs

    def _load(self, signature: str, inputs: tuple[Tensor, ...]) -> Any:
        """Return the compiled module, from the cache if it is there."""
        openvino = _import_openvino()
        with _making_core:
            core = _core()
        processor = core.get_property("CPU", "FULL_DEVICE_NAME"), core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        path = cache_folder("openvino") / f"{self._key(openvino.__version__, *processor, signature)}.blob"
        if path.is_file():
            try:
                return core.import_model(path.read_bytes(), "CPU", self._config)
            except (OSError, RuntimeError) as error:
                logger.debug("%s: is compiled anew: %s", path, error)
        compiled = core.compile_model(self._convert(openvino, inputs), "CPU", self._config)
        with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, compiled.export_model().getvalue())
        return compiled

    def _convert(self, openvino: Any, inputs: tuple[Tensor, ...]) -> Any:
        """Return OpenVINO's model of the module."""
        with torch.no_grad(), torch.autocast("cpu", enabled=False), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # shapes become constants, as they should
            traced = torch.jit.trace(self.module, inputs, check_trace=False)
            return openvino.convert_model(traced, example_input=inputs, input=[tuple(value.shape) for value in inputs])

    def _key(self, *about: object) -> str:
        """Return a digest of parameters, attributes and source files of all layers, and of ``about``."""
        digest = hashlib.sha256(repr((torch.__version__, self._config, *about)).encode())
        modules = dict(self.module.named_modules())
        parts = {name: part for name, part in modules.items() if not type(part).__module__.startswith("torch.")}
        for file in sorted({inspect.getfile(type(part)) for part in parts.values()}):
            digest.update(Path(file).read_bytes())
        for name, part in parts.items():  # such as the stage whose output is asked for
            plain = {key: value for key, value in vars(part).items() if isinstance(value, int | float | str | tuple)}
            digest.update(f"{name}{type(part).__qualname__}{sorted(plain.items())}".encode())
        for name, tensor in self.module.state_dict().items():
            digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy())
        return digest.hexdigest()


_making_core = threading.Lock()


@functools.cache
def _core() -> Any:
    """Return the only ``Core`` of this process: OpenVINO 2026 may end a process that makes a second one.

    See https://github.com/ultralytics/ultralytics/pull/25864.
    """
    return _import_openvino().Core()


def _import_openvino() -> Any:
    # Its telemetry would report every import to a server; without that package it does not.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
