"""maskgan: mask-guided portrait editing with conditional GANs (Gu et al., CVPR 2019).

>>> from maskgan import Editor
>>> editor = Editor("small")
>>> portrait = editor.open(photo)
>>> edited = editor.render(portrait, painted_labels, portrait.codes)
>>> result = editor.paste(photo, portrait, edited)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskgan.config import PRESETS, Config, ModelConfig
    from maskgan.editor import Editor, Portrait
    from maskgan.model import Codes, MaskGAN, MaskGANOutput

__all__ = ["PRESETS", "Codes", "Config", "Editor", "MaskGAN", "MaskGANOutput", "ModelConfig", "Portrait"]

_MODULES = {
    "maskgan.model": ("Codes", "MaskGAN", "MaskGANOutput"),
    "maskgan.editor": ("Editor", "Portrait"),
    "maskgan.config": ("PRESETS", "Config", "ModelConfig"),
}


def __getattr__(name: str) -> Any:
    """Import public names lazily, so that ``import maskgan`` is fast."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'maskgan' has no attribute {name!r}")
