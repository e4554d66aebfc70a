import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import peers

    yield peers
    for name in ("peers", "peer_networks"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("name", "parameters"), [("LPTN", 616_215), ("U-Net of ModelScope's size", 13_395_459)])
def test_peers_have_the_sizes_of_the_published_networks(peers, name, parameters):
    model = peers.PEERS[name][0]().eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    with torch.inference_mode():
        assert model(torch.rand(1, 3, 64, 96)).shape == (1, 3, 64, 96)


def test_lptn_without_its_networks_reconstructs_the_image(peers):
    model = peers.PEERS["LPTN"][0]().eval()
    image = torch.rand(1, 3, 64, 64)
    for part, value in ((model.low, 0.0), (model.mask, 0.0), (model.refine_mask, 0.0)):
        for parameter in part.parameters():
            parameter.data.fill_(value)
    for refine in model.refine_mask:
        refine[-1].bias.data.fill_(1.0)  # masks of ones keep the high bands
    low = image
    for _ in range(3):
        low = model._blur(low)[..., ::2, ::2]
    shrunk = torch.tanh(low) - low  # the paper's tanh of the low band
    for _ in range(3):
        shrunk = model._expand(shrunk)
    with torch.inference_mode():
        assert torch.allclose(model(image), image + shrunk, atol=1e-5)


def test_table_has_ratios_and_reasons(peers):
    rows = [
        peers.Row("ABPN", "array", 2.6, {512: 0.2, 4096: 1.0}, {512: 10**9}),
        peers.Row("BPFRe", "array", 4.2, {512: 0.1, 4096: 0.5}, {512: 10**9}),
        peers.Row("LPTN", "fp32", 0.6, {512: 0.3, 4096: "out of memory"}, {512: 2 * 10**9}),
        peers.Row("GFPGAN", "fp32", 86.4, {512: 4.0}, {512: 3 * 10**9}),
    ]
    lines = peers.as_markdown(rows).splitlines()
    assert lines[4] == "| LPTN | fp32 | 0.6 | 0.3 | 3 | out of memory |  | 2.0 |"
    assert lines[5] == "| GFPGAN | fp32 | 86.4 | 4 | 40 | faces only |  | 3.0 |"
