"""ONNX graphs of BPFRe for applications without PyTorch.

``bpfre-export --weights small --out m.onnx`` writes one graph:

    m.onnx    image, x_raw (N, 3, S, S)  ->  coarse, x~ (N, 3, S, S); refined, x^ (N, 3, S, S);
                                             attention_coarse, M^{E2D} (N, 1, S, S); attention_refined, M^{D2G}

N is dynamic, S is the network's size (512 for the bundled weights). Pixels are RGB in [0, 1], fp32, of an aligned face:
eyes level, the face about 0.56 of the image wide. x~ and x^ may exceed [0, 1]: clamp them before rounding. Photographs
get the difference x^ - x_raw, resized to the face. The maps are each module's mean over its scales. Outputs of missing
parts are omitted. The metadata hold the configuration as JSON under ``config``, and ``size``.
"""

import json
import os
from collections.abc import Callable

import torch
from retouch_common.config import to_dict
from retouch_common.files import write_atomically
from retouch_common.inference.network import prepare_for_inference
from retouch_common.inference.onnx import check_graph, checked_output, require_onnx, to_onnx
from torch import Tensor, nn

from bpfre.attention import merged_map
from bpfre.model import BPFRe

OUTPUTS = ("coarse", "refined", "attention_coarse", "attention_refined")


def export(
    model: BPFRe, out: str | os.PathLike[str], *, report: Callable[[str], None] = lambda line: None
) -> dict[str, float]:
    """Write the network as ONNX, atomically.

    Args:
        model: Network to export.
        out: Output file, ``NAME.onnx``.
        report: Called with a line for the file.

    Returns:
        For each output the largest difference between onnxruntime and PyTorch on two random images.

    Raises:
        ValueError: If the extra ``onnx`` is not installed, ``out`` has another suffix or no folder, or the outputs of
            onnxruntime and PyTorch differ.
        OSError: If the file cannot be written.
    """
    require_onnx("bpfre")
    out = checked_output(out)
    network, size = _Whole(model), model.config.size
    graph = to_onnx(
        network,
        {"image": torch.zeros(2, 3, size, size)},
        network.names,
        free=(0,),
        metadata={"size": str(size), "config": json.dumps(to_dict(model.config), sort_keys=True)},
    )
    image = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = dict(zip(network.names, network(image), strict=True))
    differences = check_graph(graph, {"image": image}, expected)
    write_atomically(out, graph)
    report(f"{out}  {len(graph) / 1e6:.1f} MB; onnxruntime and PyTorch agree to {max(differences.values()):.1g}")
    return differences


class _Whole(nn.Module):
    """Both stages and both maps as a tuple, as far as they exist."""

    def __init__(self, model: BPFRe) -> None:
        super().__init__()
        self.model = prepare_for_inference(model, torch.device("cpu"), memory_format=torch.contiguous_format)
        config = model.config
        stages, attention = (config.decoder, config.generator), config.attention
        present = (*stages, *(stage and attention for stage in stages))
        self.names = [name for name, exists in zip(OUTPUTS, present, strict=True) if exists]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        output = self.model(image)
        values = []
        for name in self.names:
            value = getattr(output, name)
            values.append(merged_map(value, self.model.config.size) if name.startswith("attention") else value)
        return tuple(values)
