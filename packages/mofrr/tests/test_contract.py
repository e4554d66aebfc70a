"""MoFRR keeps the contract of all models, as it is and with Table 4's parts left out."""

import pytest
import torch
from mofrr.config import OPERATIONS, PRESETS, ModelConfig
from mofrr.model import MoFRR
from retouch_common.config import apply_overrides
from retouch_common.testing.contract import ModelContract


class MoFRRContract(ModelContract):
    changes = ()
    # The heads see one token: a query has nothing to choose.
    without_gradient = frozenset(
        [f"router.heads.{name}.query" for name in OPERATIONS] + [f"estimators.{name}.head.query" for name in OPERATIONS]
    )

    def make_model(self):
        return MoFRR(apply_overrides(PRESETS["tiny"], {f"model.{k}": v for k, v in self.changes}).model)

    def run(self, model, image):
        """In use every expert restores; in training every part answers what its stage asks of it."""
        if not model.training:
            found = model.restore(image, experts=model.config.operations)
            shared = {} if found.shared is None else {"shared": found.shared}
            return {"result": found.result, "degrees": found.degrees, **found.experts, **shared}
        generator = torch.Generator().manual_seed(4)
        X, gates = 2 * image - 1, torch.ones(len(image), len(model.config.operations), dtype=torch.bool)
        t, z = torch.full((len(X),), 5), torch.full((len(X),), 0.6)
        outputs, experts, shared = {}, {}, None
        for name, expert in model.experts.items():
            noise = torch.randn(expert.low_size(X), generator=generator)
            passed = expert(X, 0.9 * X, z, t, noise)
            experts[name] = passed.restored
            outputs |= {f"answer {name}": passed.output, f"residual {name}": passed.residual}
            outputs |= {} if name not in model.estimators else {f"degree {name}": model.estimators[name](image)}
        if model.router is not None:
            outputs["router"] = model.router(image)
        if model.shared is not None:
            passed = model.shared(X, 0.9 * X, t, torch.randn(X.shape, generator=generator))
            shared = passed.restored
        outputs["result"] = model.combine(X, shared, experts, gates)
        return {name: value for name, value in outputs.items() if value is not None}

    def expected_shapes(self, batch, height, width):
        return {"result": (batch, 3, height, width)}


class TestTiny(MoFRRContract):
    pass


class TestWithoutParts(MoFRRContract):
    """Table 4: without IDEM, degree, HFCAM, shared expert and router at once."""

    sizes = ((64, 64),)
    changes = (("idem", False), ("degree", False), ("hfcam", False), ("shared", False), ("router", False))


def test_sizes_that_no_memory_holds_are_refused():
    """Weights from anyone may state them."""
    with pytest.raises(ValueError, match="at most 4096"):
        ModelConfig(size=8192)
