"""MoFRR: face retouching restoration by a mixture of diffusion models (Liu et al., ICCV 2025).

>>> from mofrr import Restorer
>>> restorer = Restorer("small")
>>> restorer.restore_file("photo.jpg", "restored.jpg")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mofrr.config import PRESETS, Config, ModelConfig
    from mofrr.model import MoFRR, Restoration
    from mofrr.restore import Restorer

__all__ = ["PRESETS", "Config", "MoFRR", "ModelConfig", "Restoration", "Restorer"]

_MODULES = {
    "MoFRR": "mofrr.model",
    "Restoration": "mofrr.model",
    "Restorer": "mofrr.restore",
    "PRESETS": "mofrr.config",
    "Config": "mofrr.config",
    "ModelConfig": "mofrr.config",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that ``import mofrr`` is fast."""
    if name not in _MODULES:
        raise AttributeError(f"module 'mofrr' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
