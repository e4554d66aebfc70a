"""BPFRe prepared for inference, by PyTorch or OpenVINO."""

from typing import Any

import torch
from retouch_common.inference.network import InferenceModel
from retouch_common.inference.openvino import CompiledModule, require_openvino
from torch import Tensor, nn

from bpfre.model import BPFRe, BPFReOutput, Stage


class InferenceBPFRe(InferenceModel):
    """A copy of a BPFRe for inference; its convolutions run in its precision.

    Args:
        model: Network, not modified.
        device: "auto", "cpu", "cuda" or a torch device.
        precision: "auto", "fp32", "bf16" or "fp16".
        backend: "torch" or, on the CPU in bf16, "openvino".

    Raises:
        ValueError: If device, precision or backend is unknown or not available.
    """

    def __init__(self, model: BPFRe, device: str = "auto", precision: str = "auto", *, backend: str = "torch") -> None:
        if backend not in ("torch", "openvino"):
            raise ValueError(f"backend must be torch or openvino, not {backend!r}")
        super().__init__(model, device, precision, cast_convolutions=backend == "torch")
        self.backend = backend
        self._compiled: dict[Stage, CompiledModule] = {}
        if backend == "openvino":
            require_openvino("bpfre", self.device, self.dtype)
            stages: tuple[Stage, ...] = ("coarse", "refined")
            self._compiled = {stage: CompiledModule(_Outputs(self.model, stage)) for stage in stages}

    @torch.inference_mode()
    def forward(self, image: Tensor, *, stage: Stage = "refined", **options: Any) -> BPFReOutput:
        """Retouch faces (N, 3, S, S) in [0, 1]; see :meth:`bpfre.model.BPFRe.forward`."""
        if not self._compiled:
            return super().forward(image, stage=stage, **options)
        found = self._compiled[stage](image)
        tensors = iter(found if isinstance(found, tuple) else (found,))
        coarse = next(tensors) if self.model.decoder is not None else None
        refined = next(tensors) if self.model.generator is not None and stage == "refined" else None
        maps, attention = list(tensors), self.model.attention_coarse
        count = 0 if attention is None else len(attention.scales)
        return BPFReOutput(coarse, refined, maps[:count], maps[count:])


class _Outputs(nn.Module):
    """A BPFRe with its outputs as a tuple: the images, then the maps."""

    def __init__(self, model: BPFRe, stage: Stage) -> None:
        super().__init__()
        self.model, self.stage = model, stage

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        found = self.model(image, stage=self.stage)
        images = (image for image in (found.coarse, found.refined) if image is not None)
        return *images, *found.attention_coarse, *found.attention_refined
