"""Networks of the Retouch tool, and how those of installed packages are found.

A package adds a network by an entry point of the group ``retouch.studio.networks``, a class as :class:`StudioNetwork`:

    [project.entry-points."retouch.studio.networks"]
    abpn = "abpn.studio:StudioABPN"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import ClassVar, Protocol

import numpy as np

from retouch_common.faces.face import Face
from retouch_common.inference.recipe import RecipeNetwork
from retouch_common.photo.io import Photo

GROUP = "retouch.studio.networks"


@dataclass(frozen=True)
class Overlay:
    """A picture of what a network sees in a part of a photo.

    Attributes:
        box: (x, y, w, h) in pixels of the photo.
        image: (h', w') float32 in [0, 1], shown as heat over the photo, or (h', w', 3), shown instead of it.
    """

    box: tuple[int, int, int, int]
    image: np.ndarray


class StudioNetwork(RecipeNetwork, Protocol):
    """Interface of a paper's network; made with the name of a device, when it is used first."""

    title: ClassVar[str]
    """Name on the page."""
    overlays: ClassVar[Mapping[str, str]]
    """Titles of its overlays by name."""

    def __init__(self, device: str) -> None: ...

    def overlay(self, name: str, photo: Photo, faces: Sequence[Face]) -> list[Overlay]:
        """Return an overlay of every face."""


def installed_networks() -> dict[str, type[StudioNetwork]]:
    """Return the networks of installed packages by name; nothing heavy is imported."""
    return {entry.name: entry.load() for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)}
