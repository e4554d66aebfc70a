"""Base class of the networks: presets, and weights that carry their configuration.

class ABPN(Pretrained, library_name="abpn", license="apache-2.0"):
    presets, bundled = PRESETS, resources.files("abpn") / "weights"

    def __init__(self, config: ModelConfig | None = None) -> None: ...
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from huggingface_hub import PyTorchModelHubMixin
from torch import nn

from retouch_common.config import from_dict, to_dict
from retouch_common.weights import CONFIG_KEY, FOLDER_FILE, load_state, resolve_weights, save_weights

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

P = TypeVar("P", bound="Pretrained")


class Pretrained(nn.Module, PyTorchModelHubMixin):
    """Network that is built from a configuration and saved as one safetensors file with it.

    Attributes:
        presets: Configurations by name, "recommended" among them; the class is built from their ``model``.
        bundled: Folder of the package's weights.
        config: Configuration of the network.
        metadata: Further text for the header of the weights' file, by key.
    """

    presets: ClassVar[Mapping[str, Any]]
    bundled: ClassVar[Traversable]
    config: Any
    metadata: Mapping[str, str] = MappingProxyType({})

    @classmethod
    def from_preset(cls: type[P], name: str) -> P:
        """Build the untrained network of a preset.

        Raises:
            ValueError: If there is no such preset.
        """
        if name not in cls.presets:
            raise ValueError(f"no preset {name!r}; there are {', '.join(cls.presets)}")
        return cls(cls.presets[name].model)

    @classmethod
    def from_pretrained(cls: type[P], name: str | os.PathLike[str], *, device: str = "cpu") -> P:  # type: ignore[override]
        """Load weights, in evaluation mode, by a name of :func:`retouch_common.weights.resolve_weights`.

        Raises:
            ValueError: If nothing has this name, or the weights are of another network.
        """
        weights = resolve_weights(name, bundled=cls.bundled)
        if weights.config is None:
            raise ValueError(f"{weights.path}: no configuration inside; these are not weights of {cls.__name__}")
        try:
            config = from_dict(type(cls.presets["recommended"].model), weights.config)
        except ValueError as error:
            raise ValueError(f"{weights.path}: not weights of {cls.__name__} ({error})") from error
        model = cls(config)
        try:
            model.load_state_dict(load_state(weights, device=device))
        except RuntimeError as error:
            raise ValueError(f"{weights.path}: its tensors do not fit its configuration ({error})") from error
        model.metadata = {key: text for key, text in weights.metadata.items() if key != CONFIG_KEY}
        return model.to(device).eval()

    def _save_pretrained(self, save_directory: Path) -> None:
        save_weights(
            save_directory / FOLDER_FILE, self.state_dict(), config=to_dict(self.config), metadata=self.metadata
        )
        self._hub_mixin_config = self.config  # of which the mixin writes config.json; it may have changed
