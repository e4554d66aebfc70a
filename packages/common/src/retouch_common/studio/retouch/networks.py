"""Networks of the Retouch tool and their discovery by entry points.

A package adds a network by an entry point of the group ``retouch.studio.networks``, a class that implements
:class:`StudioNetwork`:

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
from retouch_common.inference.recipe_retouching import RecipeNetwork
from retouch_common.photo.io import Photo

GROUP = "retouch.studio.networks"


@dataclass(frozen=True)
class Overlay:
    """A visualisation of a network's internals over a part of a photo.

    Attributes:
        box: (x, y, w, h) in pixels of the photo.
        image: (h', w') float32 in [0, 1], shown as a heat map, or (h', w', 3), shown instead of the photo.
    """

    box: tuple[int, int, int, int]
    image: np.ndarray


class StudioNetwork(RecipeNetwork, Protocol):
    """Interface of a paper's network; constructed with a device at the first use."""

    title: ClassVar[str]
    """Name on the page."""
    overlays: ClassVar[Mapping[str, str]]
    """Titles of its overlays by name."""

    def __init__(self, device: str) -> None: ...

    def overlay(self, name: str, photo: Photo, faces: Sequence[Face]) -> list[Overlay]:
        """Return an overlay for every face."""


def installed_networks() -> dict[str, type[StudioNetwork]]:
    """Return the network classes of installed packages by name, without importing torch."""
    return {entry.name: entry.load() for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)}
