"""Windows along an axis that are read with a halo and written without it.

A network with a limited receptive field computes the same on a window as on the whole photograph if the window is read
with enough pixels around it (the halo) and starts on the photograph's grid (a pyramid of l levels: multiples of 2**l).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Pixels [read_start, read_stop) to read, of which [start, stop) are written."""

    read_start: int
    read_stop: int
    start: int
    stop: int

    @property
    def inner(self) -> slice:
        """Return the written part relative to ``read_start``: ``block[window.inner]`` drops the halo."""
        return slice(self.start - self.read_start, self.stop - self.read_start)


def plan_stripes(length: int, step: int, *, align: int = 1, halo: int = 0) -> list[Window]:
    """Cover an axis with windows that write each pixel once, in increasing order.

    Args:
        length: Length of the axis in pixels.
        step: Pixels written per window, rounded up to a multiple of ``align``.
        align: Divides every window's ``start`` and ``read_start``.
        halo: Pixels read on both sides of a window, except beyond the ends of the axis; rounded up to a multiple of
            ``align``.

    Raises:
        ValueError: If ``length``, ``step`` or ``align`` is below 1 or the halo is negative.
    """
    if length < 1 or step < 1 or align < 1 or halo < 0:
        raise ValueError(
            f"length, step and align must be at least 1 and halo at least 0; got {length}, {step}, {align} and {halo}"
        )
    step = -(-step // align) * align
    halo = -(-halo // align) * align
    return [
        Window(max(0, start - halo), min(length, start + step + halo), start, min(length, start + step))
        for start in range(0, length, step)
    ]
