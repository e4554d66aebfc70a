"""Weights by name: a bundled name, a file, a folder or a Hugging Face hub id.

All resolve to one verified safetensors file with the model's configuration. Nothing here unpickles.

    weights = resolve_weights("small", bundled=importlib.resources.files("abpn") / "weights")
    model.load_state_dict(load_state(weights))

A folder of bundled weights holds ``NAME.safetensors`` and ``SHA256SUMS``, which ``sha256sum -c`` reads, too.
"""

from __future__ import annotations

import atexit
import contextlib
import difflib
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from safetensors import SafetensorError, safe_open

from retouch_common import hub
from retouch_common.files import check_sha256, sha256, write_atomically

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    import torch

CONFIG_KEY = "config"  # metadata key of the configuration as JSON
FOLDER_FILE = "model.safetensors"  # written by save_pretrained, and the file of a hub repository
RUN_FOLDER = "weights"  # folder of that file in a finished training run
SUMS_FILE = "SHA256SUMS"

_PICKLES = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"}
_extracted = contextlib.ExitStack()  # bundled files that were extracted from a zip, until the process ends
atexit.register(_extracted.close)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A verified safetensors file.

    Attributes:
        path: Safetensors file on this machine.
        metadata: Metadata of the file's header.
        config: Configuration, from the metadata or the config.json beside the file; None if neither has it.
    """

    path: Path
    metadata: Mapping[str, str]
    config: Mapping[str, Any] | None


def bundled_names(bundled: Traversable | Path) -> list[str]:
    """Return the sorted names of a package's weights; empty if the folder is missing."""
    if not bundled.is_dir():
        return []
    files = (entry.name for entry in bundled.iterdir())
    return sorted(name.removesuffix(".safetensors") for name in files if name.endswith(".safetensors"))


def resolve_weights(name: str | os.PathLike[str], *, bundled: Traversable | Path) -> Weights:
    """Find and verify weights by name.

    A name is tried as a name in the folder ``bundled``, e.g. ``importlib.resources.files("abpn") / "weights"``; as a
    path (a safetensors file, a folder that holds one, or the folder of a finished training run); then as a hub id
    ``owner/name`` or ``owner/name@revision``, which is downloaded once and cached. Where a folder ``owner`` is here,
    ``owner/name`` is a path.

    Raises:
        ValueError: If nothing has this name, the file is a pickle or damaged, or the hub cannot be reached.
    """
    text = os.fspath(name)
    if isinstance(name, str) and text in bundled_names(bundled):
        return _from_bundled(text, bundled)
    path = Path(os.path.expanduser(text))
    if path.is_file():
        return _describe(path)
    if path.is_dir():
        return _describe(_file_in_folder(path))
    if isinstance(name, str) and hub.HUB_ID.fullmatch(text) and path.suffix != ".safetensors":
        if path.parent.is_dir() and "@" not in text:  # rather a mistyped path: asking the hub may take half a minute
            raise ValueError(
                f"weights {text!r}: the folder {path.parent} holds no {path.name}; "
                f"if you mean a repository on the Hugging Face hub, give its revision: {text}@main"
            )
        return _from_hub(text)
    raise ValueError(_unknown(text, bundled_names(bundled)))


def tensor_shapes(weights: Weights) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors of the file by name; only its header is read."""
    with safe_open(weights.path, framework="np") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no iterator)


def load_state(weights: Weights, *, device: str | torch.device = "cpu") -> dict[str, torch.Tensor]:
    """Return all tensors of the file by name.

    Raises:
        ValueError: If a tensor holds NaN or infinite values, or integers where weights are floating-point numbers.
    """
    from safetensors.torch import load_file

    state = load_file(weights.path, device=str(device))
    counter = "num_batches_tracked"  # of batch normalisation: the only integers in a network here
    integers = [name for name, tensor in state.items() if not (tensor.is_floating_point() or name.endswith(counter))]
    if integers:
        kind = str(state[integers[0]].dtype).removeprefix("torch.")
        raise ValueError(f"{weights.path}: tensor {integers[0]!r} is {kind}, not floating-point; get the file again")
    refuse_non_finite(state, str(weights.path))
    return state


def non_finite(state: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the names of the tensors that hold NaN or infinite values."""
    import torch

    return [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]


def refuse_non_finite(state: Mapping[str, torch.Tensor], where: str) -> None:
    """Refuse tensors with NaN or infinite values; ``where`` names their file in the message.

    Raises:
        ValueError: If a tensor holds such values; the first is named.
    """
    broken = non_finite(state)
    if broken:
        more = f" and {len(broken) - 1} more hold" if broken[1:] else " holds"
        raise ValueError(f"{where}: tensor {broken[0]!r}{more} NaN or infinite values; these weights are unusable")


def require_finite(output: torch.Tensor) -> torch.Tensor:
    """Return a network's output.

    Raises:
        ValueError: If it holds NaN or infinite values.
    """
    import torch

    if not torch.isfinite(output).all():
        raise ValueError(
            "the network's output holds NaN or infinite values; its weights are unusable, or need --precision fp32"
        )
    return output


def read_vgg(network: Literal["vgg16", "vgg19"], path: str | os.PathLike[str] | None = None) -> dict[str, torch.Tensor]:
    """Read torchvision's ImageNet weights of a VGG, .pth or .safetensors; nothing is downloaded.

    The file is that in the cache of torch.hub, or ``path``.

    Returns:
        The convolutions of ``features`` under torchvision's names.

    Raises:
        ValueError: If the file is missing (the message says which file goes where), damaged or of another network.
    """
    import torch
    import torchvision

    url: str = torchvision.models.get_model_weights(network).IMAGENET1K_V1.url
    name = os.path.basename(url)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    file = Path(path) if path is not None else cached
    if not file.is_file():
        raise ValueError(
            f"perceptual loss: the ImageNet weights of {network} are not at {file}; put torchvision's {name} "
            "there (TORCH_HOME moves the folder), give its path, or set the weight of this loss to 0"
        )
    if file.name == name and not sha256(file).startswith(name.removesuffix(".pth").rpartition("-")[2]):
        raise ValueError(f"{file}: damaged, its checksum is not the one in its name; download {name} again")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # both raise many kinds for a file that is not their own
        raise ValueError(f"{file}: not a file of weights ({str(error).splitlines()[0]})") from None
    features = {name: value for name, value in state.items() if name.startswith("features.")}
    if "features.0.weight" not in features:
        raise ValueError(f"{file}: not weights of torchvision's {network}, features.0.weight is missing")
    refuse_non_finite(features, str(file))
    return features


def save_weights(
    path: str | os.PathLike[str],
    state: Mapping[str, torch.Tensor],
    *,
    config: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file of tensors by name that carries its configuration (JSON values), atomically.

    Further ``metadata`` goes into the header, too.

    Raises:
        OSError: If the file cannot be written.
        ValueError: If ``metadata`` has the reserved key "config", or a tensor holds NaN or infinite values.
    """
    from safetensors.torch import save

    if metadata and CONFIG_KEY in metadata:
        raise ValueError(f"metadata key {CONFIG_KEY!r} is taken by the configuration; rename it")
    refuse_non_finite(state, os.fspath(path))
    header = {**(metadata or {}), CONFIG_KEY: json.dumps(config, sort_keys=True)}
    write_atomically(path, save(own_memory(state), metadata=header))


def own_memory(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return contiguous copies on the CPU, as safetensors needs them: names may share memory."""
    import torch

    form = torch.contiguous_format
    return {name: tensor.detach().to("cpu", memory_format=form, copy=True) for name, tensor in state.items()}


def state_hash(state: Any) -> str:
    """Return the SHA-256 of every bit of a state, 64 hexadecimal digits.

    A state is a tensor, number, string, None, bytes, or nested mappings and sequences of those; the order of a
    mapping's keys does not matter.
    """
    digest = hashlib.sha256()
    _feed(digest, state)
    return digest.hexdigest()


def _feed(digest: Any, state: Any) -> None:
    """Hash one value after its kind and size, so that different states never collide."""
    import torch

    if isinstance(state, torch.Tensor):
        tensor = state.detach().cpu().contiguous()
        digest.update(f"tensor {tensor.dtype} {list(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(state, Mapping):
        digest.update(f"mapping {len(state)};".encode())
        for key in sorted(state, key=str):
            _feed(digest, str(key))
            _feed(digest, state[key])
    elif isinstance(state, bytes):
        digest.update(f"bytes {len(state)};".encode() + state)
    elif isinstance(state, str):
        digest.update(f"str {len(state.encode())};".encode() + state.encode())
    elif isinstance(state, Sequence):
        digest.update(f"sequence {len(state)};".encode())
        for item in state:
            _feed(digest, item)
    elif state is None or isinstance(state, bool | int | float):
        digest.update(f"{type(state).__name__} {state!r};".encode())
    else:
        raise TypeError(f"a {type(state).__name__} has no hash here")


def _from_bundled(name: str, bundled: Traversable | Path) -> Weights:
    entry = bundled / f"{name}.safetensors"
    path = entry if isinstance(entry, Path) else _extracted.enter_context(resources.as_file(entry))
    sums_file = bundled / SUMS_FILE
    lines = sums_file.read_text(encoding="utf-8").splitlines() if sums_file.is_file() else []
    pairs = (line.split(maxsplit=1) for line in lines if line.strip())
    sums = {file.lstrip("*"): digest for digest, file in pairs}
    if entry.name not in sums:
        raise ValueError(f"bundled weights {name!r}: not listed in their {SUMS_FILE}; reinstall the package")
    check_sha256(path, sums[entry.name])
    return _describe(path)


def _file_in_folder(folder: Path) -> Path:
    for file in (folder / FOLDER_FILE, folder / RUN_FOLDER / FOLDER_FILE):
        if file.is_file():
            return file
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise ValueError(f"{folder}: no {FOLDER_FILE} in this folder; give one that save_pretrained wrote")
    if len(found) > 1:
        raise ValueError(f"{folder}: {len(found)} safetensors files, none is {FOLDER_FILE}; name one")
    return found[0]


def _from_hub(name: str) -> Weights:
    from huggingface_hub import errors

    path = hub.verified_file(name, FOLDER_FILE)
    with contextlib.suppress(errors.EntryNotFoundError):  # the configuration may be in the file itself
        hub.download(name, "config.json")
    return _describe(path)


def _describe(path: Path) -> Weights:
    if path.suffix.lower() in _PICKLES:
        raise ValueError(
            f"{path}: a pickled checkpoint can run code when it is loaded and is not read here; "
            "convert it to safetensors"
        )
    try:
        with safe_open(path, framework="np") as file:
            metadata = dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file, or cut short ({error})") from error
    return Weights(path=path, metadata=metadata, config=_config(path, metadata))


def _config(path: Path, metadata: Mapping[str, str]) -> dict[str, Any] | None:
    beside = path.with_name("config.json")
    if CONFIG_KEY in metadata:
        where, text = f"{path} (metadata key {CONFIG_KEY!r})", metadata[CONFIG_KEY]
    elif beside.is_file():
        where, text = str(beside), beside.read_text(encoding="utf-8", errors="replace")
    else:
        return None
    try:
        config = json.loads(text)
    except RecursionError:
        raise ValueError(f"{where}: the configuration is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{where}: the configuration is not JSON ({error})") from error
    if not isinstance(config, dict):
        raise ValueError(f"{where}: the configuration is not a JSON object but a {type(config).__name__}")
    return config


def _unknown(text: str, names: list[str]) -> str:
    if not re.fullmatch(r"[\w-]+", text):
        return f"weights {text!r}: no such file or folder, and not a hub id (owner/name)"
    close = difflib.get_close_matches(text, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    known = f"bundled are: {', '.join(names)}" if names else "this package bundles none"
    return f"weights {text!r}: {hint}{known}; else give a safetensors file, a folder or a hub id (owner/name)"
