"""maskgan: mask-guided portrait editing with conditional GANs (Gu et al., CVPR 2019).

>>> from maskgan import Editor
>>> editor = Editor("small")
>>> portrait = editor.open(photograph)
>>> edited = editor.render(portrait, painted_labels, portrait.codes)
>>> result = editor.paste(photograph, portrait, edited)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskgan.config import PRESETS, Config, ModelConfig
    from maskgan.editor import Editor, Portrait
    from maskgan.model import Codes, MaskGAN, MaskGANOutput

__all__ = ["PRESETS", "Codes", "Config", "Editor", "MaskGAN", "MaskGANOutput", "ModelConfig", "Portrait"]

_HOMES = {
    "Codes": "maskgan.model",
    "MaskGAN": "maskgan.model",
    "MaskGANOutput": "maskgan.model",
    "Editor": "maskgan.editor",
    "Portrait": "maskgan.editor",
    "PRESETS": "maskgan.config",
    "Config": "maskgan.config",
    "ModelConfig": "maskgan.config",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import maskgan`` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'maskgan' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
