"""How close is equal: one table of tolerances for all tests, by floating-point format."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Tolerance(NamedTuple):
    """|actual - expected| <= atol + rtol * |expected|."""

    rtol: float
    atol: float


TOLERANCES = {
    torch.float64: Tolerance(rtol=1e-7, atol=1e-9),
    torch.float32: Tolerance(rtol=1e-4, atol=1e-5),
    torch.float16: Tolerance(rtol=1e-2, atol=5e-3),
    torch.bfloat16: Tolerance(rtol=5e-2, atol=3e-2),
}


def assert_close(
    actual: torch.Tensor, expected: torch.Tensor, *, dtype: torch.dtype | None = None, name: str = "tensor"
) -> None:
    """Assert that two tensors agree within the tolerance of ``dtype``, by default the format of ``actual``."""
    tolerance = TOLERANCES[dtype or actual.dtype]
    torch.testing.assert_close(
        actual.detach().cpu().double(),
        expected.detach().cpu().double(),
        rtol=tolerance.rtol,
        atol=tolerance.atol,
        msg=lambda text: f"{name}: {text}",
    )
