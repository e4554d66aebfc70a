"""Cutting a photo into windows that are read with a halo and written without it.

A network with a limited reach gives the same answer on a window as on the whole photo, provided that the
window is read with enough rows around it (the halo) and starts where the whole photo's grid does (the
alignment: a pyramid of l levels needs multiples of 2**l). The planning is one-dimensional.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """One step along an axis: what to read and which part of it to write, in pixels.

    Attributes:
        read_start: First pixel read, a multiple of the alignment.
        read_stop: One past the last pixel read.
        start: First pixel written.
        stop: One past the last pixel written.
    """

    read_start: int
    read_stop: int
    start: int
    stop: int

    @property
    def inner(self) -> slice:
        """The written part, counted from ``read_start``: ``block[window.inner]`` drops the halo."""
        return slice(self.start - self.read_start, self.stop - self.read_start)


def plan_stripes(length: int, step: int, *, align: int = 1, halo: int = 0) -> list[Window]:
    """Cover an axis by windows without gaps or overlaps in what they write.

    Args:
        length: Length of the axis in pixels, at least 1.
        step: Wanted number of pixels written per window; rounded up to a multiple of ``align``.
        align: Every window's ``start`` and ``read_start`` is a multiple of this.
        halo: Pixels read on both sides beyond what is written (less at the ends of the axis); rounded up to a
            multiple of ``align``.

    Returns:
        Windows in increasing order; their ``start``/``stop`` tile [0, length) exactly.

    Raises:
        ValueError: If a length, step or alignment is below 1 or the halo is negative.
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
