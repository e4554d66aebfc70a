"""BPFRe: blemish-aware and progressive face retouching with few pairs (Xie et al., CVPR 2023).

>>> from bpfre import Retoucher
>>> retoucher = Retoucher("small")
>>> retoucher.retouch_file("photo.jpg", "retouched.jpg")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bpfre.config import PRESETS, Config, ModelConfig
    from bpfre.model import BPFRe, BPFReOutput
    from bpfre.retouch import Retoucher

__all__ = ["PRESETS", "BPFRe", "BPFReOutput", "Config", "ModelConfig", "Retoucher"]

_HOMES = {
    "BPFRe": "bpfre.model",
    "BPFReOutput": "bpfre.model",
    "Retoucher": "bpfre.retouch",
    "PRESETS": "bpfre.config",
    "Config": "bpfre.config",
    "ModelConfig": "bpfre.config",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import bpfre`` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'bpfre' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
