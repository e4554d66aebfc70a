"""ABPN: adaptive blend pyramid network for local retouching of photographs of any size (Lei et al., CVPR 2022).

>>> from abpn import Retoucher
>>> retoucher = Retoucher("small")
>>> retouched = retoucher(photo)  # (H, W, 3) uint8 or uint16
>>> retoucher.retouch_file("photo.jpg", "retouched.jpg")
"""

from typing import TYPE_CHECKING

from retouch_common.lazy import lazy_attributes

if TYPE_CHECKING:
    from abpn.config import PRESETS, Config, ModelConfig
    from abpn.model import ABPN, ABPNOutput
    from abpn.retouch import Retoucher

__all__ = ["ABPN", "PRESETS", "ABPNOutput", "Config", "ModelConfig", "Retoucher"]

__getattr__ = lazy_attributes(
    __name__,
    {"config": ["PRESETS", "Config", "ModelConfig"], "model": ["ABPN", "ABPNOutput"], "retouch": ["Retoucher"]},
)
