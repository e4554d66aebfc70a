import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from retouch_common.testing import golden
from retouch_common.testing.tolerances import TOLERANCES, assert_close
from retouch_common.weights import state_hash
from torch import nn


def a_state():
    return {
        "model": {"w": torch.arange(6.0).view(2, 3), "n": torch.tensor(3)},
        "step": 4,
        "lr": 0.5,
        "notes": ["x"],
    }


def test_equal_states_hash_alike_whatever_their_order():
    state = a_state()
    shuffled = {key: state[key] for key in reversed(state)}
    assert state_hash(state) == state_hash(shuffled)
    assert state_hash(torch.arange(6.0).view(2, 3).t().t()) == state_hash(state["model"]["w"])


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["model"]["w"].__setitem__((1, 2), torch.nextafter(torch.tensor(5.0), torch.tensor(9.0))),
        lambda s: s["model"].update(w=s["model"]["w"].view(3, 2)),
        lambda s: s["model"].update(w=s["model"]["w"].double()),
        lambda s: s["model"].update(v=s["model"].pop("w")),
        lambda s: s.update(step=4.0),
        lambda s: s.update(step=True),
        lambda s: s.update(lr=0.5000000001),
        lambda s: s["notes"].append("y"),
        lambda s: s.update(notes=None),
    ],
)
def test_any_change_changes_the_hash(change):
    state = a_state()
    change(state)
    assert state_hash(state) != state_hash(a_state())


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float64])
def test_every_format_has_a_hash(dtype):
    assert state_hash(torch.tensor(1).to(dtype)) != state_hash(torch.tensor(0).to(dtype))


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)


def _exact(value):
    """The value with its types, so that True, 1 and 1.0 differ."""
    if isinstance(value, dict):
        return ("dict", sorted((key, _exact(item)) for key, item in value.items()).__repr__())
    if isinstance(value, list):
        return ("list", [_exact(item) for item in value])
    return (type(value).__name__, value)


@given(_values, _values)
def test_hashes_are_equal_exactly_when_the_values_are(a, b):
    assert (state_hash(a) == state_hash(b)) == (_exact(a) == _exact(b))


def test_what_has_no_hash_is_refused():
    with pytest.raises(TypeError, match="set"):
        state_hash({"a": {1, 2}})


def a_model(width=4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width))


def test_schema_counts_and_needs_no_values():
    found = golden.schema(a_model())
    assert (found["tensors"], found["parameters"]) == (7, 4 * 27 + 4 + 8)
    with torch.device("meta"):
        assert golden.schema(a_model()) == found
    assert golden.schema(a_model(5))["sha256"] != found["sha256"]
    assert golden.schema(a_model().double())["sha256"] != found["sha256"]


@pytest.fixture
def update(monkeypatch):
    def switch(on):
        monkeypatch.setenv(golden.UPDATE_VARIABLE, "1" if on else "0")

    switch(False)
    return switch


def test_golden_schema(tmp_path, update):
    path = tmp_path / "golden" / "schema.json"
    with pytest.raises(AssertionError, match="golden -- --update"):
        golden.check_schema(path, {"tiny": a_model()})
    update(True)
    golden.check_schema(path, {"tiny": a_model()})
    update(False)
    golden.check_schema(path, {"tiny": a_model()})
    with pytest.raises(AssertionError, match="'tiny' changed"):
        golden.check_schema(path, {"tiny": a_model(5)})
    with pytest.raises(AssertionError, match="presets"):
        golden.check_schema(path, {"tiny": a_model(), "small": a_model()})


def forward(model, inputs):
    return {"y": model.eval()(inputs["x"])}


def test_golden_forward_brings_its_own_weights_and_inputs(tmp_path, update):
    path = tmp_path / "forward.safetensors"
    update(True)
    golden.check_forward(path, lambda: (a_model(), {"x": torch.rand(1, 3, 5, 5)}), forward)
    update(False)
    other = a_model()
    nn.init.zeros_(other[0].weight)
    golden.check_forward(path, lambda: (other, {"x": torch.zeros(1, 3, 5, 5)}), forward)


def test_golden_forward_finds_another_result(tmp_path, update):
    path = tmp_path / "forward.safetensors"
    update(True)
    golden.check_forward(path, lambda: (a_model(), {"x": torch.rand(1, 3, 5, 5)}), forward)
    update(False)
    with pytest.raises(AssertionError):
        golden.check_forward(path, lambda: (a_model(), {}), lambda m, i: {"y": forward(m, i)["y"] * 1.001})
    with pytest.raises(AssertionError, match="outputs are"):
        golden.check_forward(path, lambda: (a_model(), {}), lambda m, i: {"z": forward(m, i)["y"]})
    with pytest.raises(RuntimeError, match="size mismatch"):
        golden.check_forward(path, lambda: (a_model(5), {}), forward)


def test_golden_forward_stays_small(tmp_path, update):
    update(True)
    with pytest.raises(ValueError, match="200000"):
        golden.check_forward(tmp_path / "f", lambda: (a_model(), {"x": torch.rand(1, 3, 150, 150)}), forward)
    assert not (tmp_path / "f").exists()


def test_golden_curve(tmp_path, update):
    path = tmp_path / "curve.json"
    update(True)
    golden.check_curve(path, [1.0, 0.5, 1 / 3])
    assert json.loads(path.read_text()) == [1.0, 0.5, 0.3333333]
    update(False)
    golden.check_curve(path, [1.0009, 0.4996, 1 / 3])
    with pytest.raises(AssertionError, match="step 2"):
        golden.check_curve(path, [1.0, 0.501, 1 / 3])
    with pytest.raises(AssertionError, match="step 1"):
        golden.check_curve(path, [float("nan"), 0.5, 1 / 3])
    with pytest.raises(AssertionError, match="3 losses"):
        golden.check_curve(path, [1.0, 0.5])


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_tolerances_accept_the_rounding_of_their_format_and_little_more(dtype):
    exact = torch.linspace(0, 1, 101, dtype=torch.float64)
    assert_close(exact.to(dtype), exact)
    with pytest.raises(AssertionError, match="mask"):
        assert_close((exact + 0.1).to(dtype), exact, name="mask")
    with pytest.raises(AssertionError):
        assert_close(torch.full_like(exact, float("nan")).to(dtype), exact)
