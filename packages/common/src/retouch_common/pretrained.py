"""Base class of the networks: presets, and weights that carry their configuration.

class ABPN(Pretrained):
    presets, bundled = PRESETS, resources.files("abpn") / "weights"
    tags = ("face-retouching", "image-to-image")

    def __init__(self, config: ModelConfig | None = None) -> None: ...
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from retouch_common.config import from_dict, to_dict
from retouch_common.files import sha256, write_atomically
from retouch_common.weights import (
    CONFIG_KEY,
    FOLDER_FILE,
    Weights,
    load_state,
    resolve_weights,
    save_weights,
    tensor_shapes,
)

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

P = TypeVar("P", bound="Pretrained")
_RANDOM_FACTORIES = (torch.rand, torch.randn)
_FACTORIES = (torch.empty, torch.zeros, torch.ones, *_RANDOM_FACTORIES)
_RANDOM_FILLS = (  # these of nn.init are dispatched whole, its others by what they call
    torch.Tensor.normal_,
    torch.Tensor.uniform_,
    nn.init.normal_,
    nn.init.uniform_,
    nn.init.kaiming_uniform_,
)
_MAX_NUMBER = 1 << 16  # in a configuration: of channels, layers, steps or pixels
_SPARE = 50_000_000  # elements of buffers that are not stored
_PER_TENSOR = 10_000  # elements that count for a tensor of any size, so that endless layers of a few are refused, too


class Pretrained(nn.Module):
    """Network that is built from a configuration and saved as one safetensors file with it.

    Attributes:
        presets: Configurations by name, "recommended" among them; the class is built from their ``model``.
        bundled: Folder of the package's weights.
        tags: Of its repositories on the Hugging Face hub.
        config: Configuration of the network.
        metadata: Further text for the header of the weights' file, by key.
        weights_sha256: SHA-256 of the file that the weights were loaded from; None without one.
    """

    presets: ClassVar[Mapping[str, Any]]
    bundled: ClassVar[Traversable]
    tags: ClassVar[tuple[str, ...]] = ()
    config: Any
    metadata: Mapping[str, str] = MappingProxyType({})
    weights_sha256: str | None = None

    @classmethod
    def from_preset(cls: type[P], name: str) -> P:
        """Build the untrained network of a preset.

        Raises:
            ValueError: If there is no such preset.
        """
        if name not in cls.presets:
            raise ValueError(f"unknown preset {name!r}; choose from {', '.join(cls.presets)}")
        return cls(cls.presets[name].model)

    @classmethod
    def from_pretrained(cls: type[P], name: str | os.PathLike[str], *, device: str = "cpu") -> P:
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
        if _largest(weights.config) > _MAX_NUMBER:
            raise ValueError(f"{weights.path}: its configuration has an implausibly large number, above {_MAX_NUMBER}")
        model = cls._build_to_fit(config, weights)
        model.load_state_dict(load_state(weights, device=device))
        model.metadata = {key: text for key, text in weights.metadata.items() if key != CONFIG_KEY}
        model.weights_sha256 = sha256(weights.path)
        return model.to(device).eval()

    @classmethod
    def _build_to_fit(cls: type[P], config: Any, weights: Weights) -> P:
        """Build the network; refuse weights whose tensors do not fit, without the memory that a huge network takes."""
        refused = f"{weights.path}: its tensors do not fit its configuration"
        stored = tensor_shapes(weights)
        try:
            with warnings.catch_warnings(), _Unfilled(2 * sum(map(math.prod, stored.values())) + _SPARE):
                warnings.simplefilter("ignore")  # of layers without elements, which are refused below
                model = cls(config)
        except (RuntimeError, TypeError, ArithmeticError, MemoryError) as error:
            raise ValueError(f"{refused} ({' '.join(str(error).split())[:200]})") from error
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        other = [name for name in sorted(expected.keys() | stored.keys()) if expected.get(name) != stored.get(name)]
        if other:
            first, more = other[0], f" and {len(other) - 1} more" if other[1:] else ""
            raise ValueError(
                f"{refused} ({first}{more}: {_shape(stored.get(first))} in the file, {_shape(expected.get(first))} "
                "by the configuration)"
            )
        return model

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write ``model.safetensors``, with the configuration inside, and ``config.json`` to a folder.

        Raises:
            ValueError: If a tensor holds NaN or infinite values.
            OSError: If a file cannot be written.
        """
        folder, config = Path(folder), to_dict(self.config)
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(folder / FOLDER_FILE, self.state_dict(), config=config, metadata=self.metadata)
        write_atomically(folder / "config.json", json.dumps(config, sort_keys=True, indent=2).encode())

    def push_to_hub(self, repo_id: str, *, private: bool | None = None, token: str | None = None) -> str:
        """Upload what :meth:`save_pretrained` writes, and a card with the tags, to a hub repository; return its URL.

        Args:
            repo_id: ``owner/name``; created if it does not exist.
            private: Whether a new repository is private; None takes the owner's default.
            token: By default that of ``hf auth login``.

        Raises:
            huggingface_hub.errors.HfHubHTTPError: If the hub refuses it.
        """
        from huggingface_hub import HfApi, ModelCard, ModelCardData  # slow to import, and no photograph needs it

        library = type(self).__module__.partition(".")[0].replace("_", "-")
        about = ModelCardData(library_name=library, tags=list(self.tags), license="apache-2.0")
        api = HfApi(token=token)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            ModelCard(f"---\n{about}\n---\n\nWeights of `{type(self).__name__}`.\n").save(Path(folder) / "README.md")
            repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            return str(api.upload_folder(repo_id=repo_id, folder_path=folder))


class _Unfilled(TorchFunctionMode):
    """Leave random values out, since a file has them; the generator of random numbers does not advance.

    Tensors of more than ``elements`` in all are refused before their memory is allocated.
    """

    def __init__(self, elements: int) -> None:
        super().__init__()
        self._left = elements

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _FACTORIES:
            size = args[0] if args and isinstance(args[0], tuple | list) else args
            self._left -= math.prod(size) + _PER_TENSOR
            if self._left < 0:
                raise MemoryError("it describes a network that is much larger than the file")
            if func in _RANDOM_FACTORIES:
                return torch.empty(*args, **(kwargs or {}))
        if func in _RANDOM_FILLS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def _largest(value: Any) -> int:
    """Return the largest integer of a configuration, 0 without any."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return max(map(_largest, value), default=0)
    return value if isinstance(value, int) else 0


def _shape(shape: tuple[int, ...] | None) -> str:
    return "nothing" if shape is None else "x".join(map(str, shape)) or "a number"
