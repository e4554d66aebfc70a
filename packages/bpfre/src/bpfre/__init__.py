"""BPFRe: blemish-aware and progressive face retouching with few pairs (Xie et al., CVPR 2023).

>>> from bpfre import Retoucher
>>> retoucher = Retoucher("small")
>>> retoucher.retouch_file("photo.jpg", "retouched.jpg")
"""

from typing import TYPE_CHECKING

from retouch_common.lazy import lazy_attributes

if TYPE_CHECKING:
    from bpfre.config import PRESETS, Config, ModelConfig
    from bpfre.model import BPFRe, BPFReOutput
    from bpfre.retouch import Retoucher

__all__ = ["PRESETS", "BPFRe", "BPFReOutput", "Config", "ModelConfig", "Retoucher"]

__getattr__ = lazy_attributes(
    __name__,
    {"config": ["PRESETS", "Config", "ModelConfig"], "model": ["BPFRe", "BPFReOutput"], "retouch": ["Retoucher"]},
)
