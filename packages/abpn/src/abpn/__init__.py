"""ABPN: adaptive blend pyramid network for local retouching of photographs of any size (Lei et al., CVPR 2022).

>>> from abpn import Retoucher
>>> retoucher = Retoucher("small")
>>> retouched = retoucher(photo)  # (H, W, 3) uint8 or uint16
>>> retoucher.retouch_file("photo.jpg", "retouched.jpg")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from abpn.config import PRESETS, Config, ModelConfig
    from abpn.model import ABPN, ABPNOutput
    from abpn.retouch import Retoucher

__all__ = ["ABPN", "PRESETS", "ABPNOutput", "Config", "ModelConfig", "Retoucher"]

_HOMES = {
    "ABPN": "abpn.model",
    "ABPNOutput": "abpn.model",
    "Retoucher": "abpn.retouch",
    "PRESETS": "abpn.config",
    "Config": "abpn.config",
    "ModelConfig": "abpn.config",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import abpn`` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'abpn' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
