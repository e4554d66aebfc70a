"""Registry of face detectors, in the order in which they are tried.

A detector takes an (H, W, 3) uint8 RGB image and ``score_threshold`` and returns faces, largest first. It is loaded
when :func:`retouch_common.faces.detection.detect_faces` first needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retouch_common.faces.face import Face

Detector = Callable[..., "list[Face]"]

_loaders: dict[str, Callable[[], Detector]] = {}
_last_resorts: set[str] = set()


class DetectorUnavailable(RuntimeError):
    """The weights of a face detector are missing; the message says which file goes where."""


def register_detector(name: str, load: Callable[[], Detector], *, last_resort: bool = False) -> None:
    """Register a face detector, or replace the one of this name; a last resort is tried after all others.

    ``load`` returns the detector, or raises :class:`DetectorUnavailable`. It is called for every image, so it should
    cache.
    """
    _loaders[name] = load
    (_last_resorts.add if last_resort else _last_resorts.discard)(name)


def registered_detectors() -> dict[str, Callable[[], Detector]]:
    """Return the loaders by name, in the order in which they are tried."""
    return dict(sorted(_loaders.items(), key=lambda item: item[0] in _last_resorts))
