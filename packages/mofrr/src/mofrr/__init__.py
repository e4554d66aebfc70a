"""MoFRR: face retouching restoration by a mixture of diffusion models (Liu et al., ICCV 2025).

>>> from mofrr import Restorer
>>> restorer = Restorer("small")
>>> restorer.restore_file("photo.jpg", "restored.jpg")
"""

from typing import TYPE_CHECKING

from retouch_common.lazy import lazy_attributes

if TYPE_CHECKING:
    from mofrr.config import PRESETS, Config, ModelConfig
    from mofrr.model import MoFRR, Restoration
    from mofrr.restore import Restorer

__all__ = ["PRESETS", "Config", "MoFRR", "ModelConfig", "Restoration", "Restorer"]

__getattr__ = lazy_attributes(
    __name__,
    {"config": ["PRESETS", "Config", "ModelConfig"], "model": ["MoFRR", "Restoration"], "restore": ["Restorer"]},
)
