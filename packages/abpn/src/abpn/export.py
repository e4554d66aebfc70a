"""ONNX graphs of ABPN for applications without PyTorch.

``abpn-export --weights small --out m.onnx`` writes the whole network with l fixed (``--levels``):

    m.onnx             image, I_0 (1, 3, H, W)  ->  result, R_0 (1, 3, H, W); mask, M (1, 1, h / 4, w / 4)

H and W are dynamic; the graph pads by repeating the edge, and crops. The network expects a thumbnail whose long side is
near the metadata's ``thumbnail``, so a graph suits photographs from about ``thumbnail * 2^(l - 0.5)`` to
``thumbnail * 2^(l + 0.5)`` pixels.

``--parts`` also writes the parts, for any l, and for photographs in stripes:

    m.down.onnx        fine, I_i (1, 3, 2h, 2w)  ->  coarse, I_{i+1} (1, 3, h, w)
    m.thumbnail.onnx   thumbnail, I_l (1, 3, h, w), any h and w  ->  blend, B_l (1, 3, h, w); mask as above
    m.level.onnx       blend, B_{i+1} (1, 3, h, w); fine, I_i (1, 3, 2h, 2w); coarse, I_{i+1} (1, 3, h, w)
                       ->  refined, B_i (1, 3, 2h, 2w)
    m.blend.onnx       image, I_0; blend, B_0 (1, 3, H, W)  ->  result, R_0 (1, 3, H, W)

    l = max(0, round(log2(max(H, W) / thumbnail)))
    pad I_0 at the bottom and the right to multiples of 2^l by repeating the edge
    I_{i+1} = down(I_i) for i = 0 ... l - 1
    B_l, M = thumbnail(I_l)
    B_{l-1} ... B_0 = level(B_{i+1}, I_i, I_{i+1}) for i = l - 1 ... 0
    R_0 = blend(I_0, B_0), cropped to H x W

Pixels are RGB in [0, 1], fp32. R_0 may exceed [0, 1]: clamp it before rounding. Half strength is I_0 + 0.5 (R_0 - I_0).
M is a probability and covers I_l padded to multiples of 64. The metadata hold the configuration as JSON under
``config`` and, as text, ``part``, ``thumbnail``, ``blend``, ``neutral``, ``min_slope``, ``pyramid`` and, in m.onnx,
``levels``.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import torch
from retouch_common.config import to_dict
from retouch_common.files import write_atomically
from retouch_common.inference.network import prepare_for_inference
from retouch_common.inference.onnx import check_graph, checked_output, require_onnx, to_onnx
from torch import Tensor, nn

from abpn.blend import MIN_SLOPE
from abpn.blend_pyramid import down, high_frequencies, up
from abpn.model import ABPN, pad_to_multiple

MAX_LEVELS = 7
PARTS = ("down", "thumbnail", "level", "blend")
CHECK_SIZE = (203, 331)  # odd, to check padding and cropping too


def export(
    model: ABPN,
    out: str | os.PathLike[str],
    *,
    levels: int | None = None,
    parts: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Write the network as ONNX, each file atomically.

    Args:
        model: Network to export.
        out: Output file of the whole network, ``NAME.onnx``.
        levels: l of the whole network; that of a 1024x1024 photograph if None.
        parts: Also write ``NAME.down.onnx``, ``NAME.thumbnail.onnx``, ``NAME.level.onnx`` and ``NAME.blend.onnx``.
        report: Called with a line for each file.

    Returns:
        The files.

    Raises:
        ValueError: If the extra ``onnx`` is not installed, ``out`` has another suffix, ``levels`` is out of range, or
            the outputs of onnxruntime and PyTorch differ.
        OSError: If a file cannot be written.
    """
    require_onnx("abpn")
    out = checked_output(out)
    levels = model.num_levels(1024, 1024) if levels is None else levels
    if not 0 <= levels <= MAX_LEVELS:
        raise ValueError(f"--levels must lie between 0 and {MAX_LEVELS}, not {levels}")
    model = prepare_for_inference(model, torch.device("cpu"), memory_format=torch.contiguous_format)
    whole = whole_network(model, levels)
    image = torch.rand(1, 3, *CHECK_SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = {"result": model(image, levels).results[0]}
    difference = check_graph(whole, {"image": image}, expected)["result"]
    graphs = {out: whole}
    if parts:
        graphs |= {out.with_suffix(f".{name}.onnx"): graph for name, graph in network_parts(model).items()}
    for path, graph in graphs.items():
        write_atomically(path, graph)
        report(f"{path}  {len(graph) / 1e6:.1f} MB")
    report(f"l = {levels}; onnxruntime and PyTorch agree to {difference:.1g}")
    return list(graphs)


def whole_network(model: ABPN, levels: int) -> bytes:
    """Return the whole network with l = ``levels`` as a serialised ONNX model."""
    step = 2**levels  # the example's thumbnail needs padding, too
    example = {"image": torch.zeros(1, 3, 67 * step - levels, 131 * step - levels)}
    names = ["result", "mask"] if model.config.mask_branch else ["result"]
    metadata = _metadata(model, "whole", levels=levels)
    return to_onnx(_Whole(model, levels), example, names, free=(2, 3), metadata=metadata)


def network_parts(model: ABPN) -> dict[str, bytes]:
    """Return the parts down, thumbnail, level and blend as serialised ONNX models."""
    fine, coarse = torch.zeros(1, 3, 22, 34), torch.zeros(1, 3, 11, 17)
    mask = ["mask"] if model.config.mask_branch else []
    table: list[tuple[str, nn.Module, dict[str, Tensor], list[str]]] = [
        ("down", _Down(model), {"fine": fine}, ["coarse"]),
        ("thumbnail", _Thumbnail(model), {"thumbnail": torch.zeros(1, 3, 67, 131)}, ["blend", *mask]),
        ("level", _Level(model), {"blend": coarse, "fine": fine, "coarse": coarse.clone()}, ["refined"]),
        ("blend", _Blend(model), {"image": fine, "blend": fine.clone()}, ["result"]),
    ]
    return {
        name: to_onnx(module, example, outputs, free=(2, 3), metadata=_metadata(model, name))
        for name, module, example, outputs in table
    }


class _Whole(nn.Module):
    """I_0 to R_0 and M: :meth:`ABPN.forward` without the outputs that only training needs."""

    def __init__(self, model: ABPN, levels: int) -> None:
        super().__init__()
        self.model, self.levels = model, levels
        self.down, self.thumbnail, self.level = _Down(model), _Thumbnail(model), _Level(model)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        images = [pad_to_multiple(image, 2**self.levels)]
        for _ in range(self.levels):
            images.append(self.down(images[-1]))
        B, *mask = self.thumbnail(images[-1])
        for i in reversed(range(self.levels)):
            B = self.level(B, images[i], images[i + 1])
        result = self.model.blend(images[0], B)
        return result[..., : image.shape[-2], : image.shape[-1]], *mask


class _Down(nn.Module):
    """I_i to I_{i+1}: :func:`abpn.blend_pyramid.down`."""

    def __init__(self, model: ABPN) -> None:
        super().__init__()
        self.kernel = model.config.pyramid

    def forward(self, fine: Tensor) -> Tensor:
        return down(fine, self.kernel)


class _Thumbnail(nn.Module):
    """I_l to B_l and, if there is a mask branch, M."""

    def __init__(self, model: ABPN) -> None:
        super().__init__()
        self.model = model

    def forward(self, thumbnail: Tensor) -> tuple[Tensor, ...]:
        R_l, logits = self.model.retouch_thumbnail(thumbnail)
        B_l = self.model.blend.reverse(thumbnail, R_l)
        return (B_l,) if logits is None else (B_l, torch.sigmoid(logits))


class _Level(nn.Module):
    """B_{i+1}, I_i and I_{i+1} to B_i: :meth:`BlendPyramid.expand` without assignment to a slice (ScatterND)."""

    def __init__(self, model: ABPN) -> None:
        super().__init__()
        self.refining, self.kernel = model.blend_pyramid.refining, model.config.pyramid

    def forward(self, blend: Tensor, fine: Tensor, coarse: Tensor) -> Tensor:
        blend = up(blend, self.kernel)
        if self.refining is None:
            return blend
        return self.refining(torch.cat([blend, high_frequencies(fine, coarse, self.kernel)], dim=1))


class _Blend(nn.Module):
    """I_0 and B_0 to R_0."""

    def __init__(self, model: ABPN) -> None:
        super().__init__()
        self.blend = model.blend

    def forward(self, image: Tensor, blend: Tensor) -> Tensor:
        return self.blend(image, blend)


def _metadata(model: ABPN, part: str, **more: int) -> dict[str, str]:
    config = model.config
    values = {
        "part": part,
        "thumbnail": config.thumbnail,
        "blend": config.blend,
        "neutral": 0.0 if config.blend == "neutral" else "",
        "min_slope": MIN_SLOPE,
        "pyramid": config.pyramid,
        "config": json.dumps(to_dict(config), sort_keys=True),
    } | more
    return {key: str(value) for key, value in values.items()}
