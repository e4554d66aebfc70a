"""Devices, number formats and inference backends by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
BACKENDS = ("auto", "torch", "openvino")


def resolve_device(name: str | torch.device) -> torch.device:
    """Return a torch device by name: "auto" (the first GPU, else the CPU), "cpu", "cuda", "cuda:1", or a device.

    Raises:
        ValueError: If torch does not know the device or finds no such GPU.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is unknown; choose one of {', '.join(DEVICES)}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' was asked for, but torch finds no CUDA GPU here; use auto or cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {str(device)!r} does not exist; there are {torch.cuda.device_count()} GPUs")
    return device


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype of a precision, one of ``PRECISIONS``, on a device.

    "auto" is bf16 where the hardware computes in it (GPUs of compute capability 8.0 and up, CPUs with AMX or AVX-512
    BF16), else fp32.

    Raises:
        ValueError: If the name is unknown or the device does not compute in this format.
    """
    import torch

    if name not in PRECISIONS:
        raise ValueError(f"precision {name!r} is unknown; choose one of {', '.join(PRECISIONS)}")
    if name == "auto":
        return torch.bfloat16 if computes_in_bf16(device) else torch.float32
    if name == "bf16" and device.type == "cuda" and not computes_in_bf16(device):
        raise ValueError("precision bf16 needs a GPU of compute capability 8.0 or newer; use fp16 or fp32")
    if name == "fp16" and device.type == "cpu":
        raise ValueError("precision fp16 needs a GPU; use fp32 or bf16 on the CPU")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def computes_in_bf16(device: torch.device) -> bool:
    """Return whether a GPU or the CPU has bf16 instructions; without them bf16 convolutions are slower than fp32."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    tests = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # torch has no public name for them yet
    return any(getattr(torch.cpu, name, bool)() for name in tests)
