"""maskgan: mask-guided portrait editing with conditional GANs (Gu et al., CVPR 2019).

>>> from maskgan import Editor
>>> editor = Editor("small")
>>> portrait = editor.open(photo)
>>> edited = editor.render(portrait, painted_labels, portrait.codes)
>>> result = editor.paste(photo, portrait, edited)
"""

from typing import TYPE_CHECKING

from retouch_common.lazy import lazy_attributes

if TYPE_CHECKING:
    from maskgan.config import PRESETS, Config, ModelConfig
    from maskgan.editor import Editor, Portrait
    from maskgan.model import Codes, MaskGAN, MaskGANOutput

__all__ = ["PRESETS", "Codes", "Config", "Editor", "MaskGAN", "MaskGANOutput", "ModelConfig", "Portrait"]

__getattr__ = lazy_attributes(
    __name__,
    {
        "config": ["PRESETS", "Config", "ModelConfig"],
        "editor": ["Editor", "Portrait"],
        "model": ["Codes", "MaskGAN", "MaskGANOutput"],
    },
)
