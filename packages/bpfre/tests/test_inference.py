"""The prepared network computes what the plain one does."""

import pytest
import torch
from bpfre.model import BPFRe
from retouch_common.inference.network import InferenceModel


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 0.03)])
def test_agrees_with_the_plain_network(precision, tolerance):
    torch.manual_seed(0)
    model, image = BPFRe.from_preset("tiny").eval(), torch.rand(2, 3, 64, 64)
    fast = InferenceModel(model, "cpu", precision, cast_convolutions=True)
    with torch.no_grad():
        expected = model(image)
    output = fast(image)
    assert output.result.dtype == torch.float32
    for name in ("coarse", "refined"):
        assert torch.allclose(getattr(output, name), getattr(expected, name), atol=tolerance)
    assert fast(image, stage="coarse").refined is None
