from __future__ import annotations

import json
import re
from dataclasses import FrozenInstanceError, dataclass, field
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retouch_common.config import (
    apply_overrides,
    dump_yaml,
    from_dict,
    load_yaml,
    option_names,
    parse_overrides,
    to_dict,
)


@dataclass(frozen=True, kw_only=True)
class Head:
    kind: Literal["plain", "wide", 3] = "plain"
    bias: bool = True


@dataclass(frozen=True, kw_only=True)
class Model:
    blend: Literal["neutral", "soft_light", "rgb"] = "neutral"
    channels: tuple[int, ...] = (16, 32)
    scales: tuple[float, ...] = ()
    head: Head = field(default_factory=Head)
    extra: Head | None = None

    def __post_init__(self):
        if len(self.channels) > 3:
            raise ValueError("at most 3 channels")


@dataclass(frozen=True, kw_only=True)
class Train:
    lr: float = 1e-3
    steps: int = 100
    note: str | None = None
    clip: float | None = 1.0
    bf16: bool = False


@dataclass(frozen=True, kw_only=True)
class Config:
    model: Model = field(default_factory=Model)
    train: Train = field(default_factory=Train)


def changed(*items: str) -> Config:
    return apply_overrides(Config(), parse_overrides(items))


@pytest.mark.parametrize("text", ["1e-3", "0.001", "+1.0E-3", ".1e-2"])
def test_scientific_notation_is_a_number(text):
    assert changed(f"train.lr={text}").train.lr == 1e-3


@pytest.mark.parametrize(
    ("item", "section", "name", "value"),
    [
        ("train.lr=5", "train", "lr", 5.0),
        ("train.lr=.inf", "train", "lr", float("inf")),
        ("train.steps=1_000", "train", "steps", 1000),
        ("train.steps=-4", "train", "steps", -4),
        ("train.note='on'", "train", "note", "on"),
        ("train.note=1e-3", "train", "note", "1e-3"),
        ("train.note='7'", "train", "note", "7"),
        ("train.note=a=b", "train", "note", "a=b"),
        ("train.note=", "train", "note", None),
        ("train.clip=null", "train", "clip", None),
        ("train.clip=2", "train", "clip", 2.0),
        ("train.bf16=true", "train", "bf16", True),
        ("train.bf16=no", "train", "bf16", False),
        ("model.blend=soft_light", "model", "blend", "soft_light"),
        ("model.channels=[1, 2, 3]", "model", "channels", (1, 2, 3)),
        ("model.scales=[1, 2.5]", "model", "scales", (1.0, 2.5)),
    ],
)
def test_override(item, section, name, value):
    result = getattr(getattr(changed(item), section), name)
    assert result == value
    assert type(result) is type(value)


def test_nested_sections_are_merged_not_replaced():
    config = apply_overrides(Config(), {"model": {"head": {"bias": False}}, "model.head.kind": "wide"})
    assert config.model.head == Head(kind="wide", bias=False)
    assert config.model.channels == (16, 32)


def test_a_section_of_later_overrides_keeps_what_earlier_ones_set_in_it():
    config = apply_overrides(Config(), {"train": {"lr": 0.5, "steps": 7}}, {"train": {"lr": 0.25}})
    assert (config.train.lr, config.train.steps) == (0.25, 7)


def test_an_optional_section_is_made_when_one_of_its_options_is_given_and_removed_by_null():
    config = changed("model.extra.bias=false")
    assert config.model.extra == Head(bias=False)
    assert apply_overrides(config, {"model.extra": None}).model.extra is None


def test_a_literal_number_is_a_number():
    assert changed("model.head.kind=3").model.head.kind == 3
    with pytest.raises(ValueError, match="one of plain, wide, 3"):
        changed("model.head.kind='3'")


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("model.blnd=rgb", "unknown option 'model.blnd'; did you mean 'model.blend'?"),
        ("lr=1", "unknown option 'lr'; did you mean 'train.lr'?"),
        ("model.lr=1", "unknown option 'model.lr'; did you mean 'train.lr'?"),
        ("stps=1", "unknown option 'stps'; did you mean 'train.steps'?"),
        ("train.lr.x=1", "unknown option 'train.lr.x'; did you mean 'train.lr'?"),
        ("zzzzzz=1", "unknown option 'zzzzzz'; the options are model.blend, "),
        (
            "model.blend=screen",
            "model.blend: 'screen' is not valid, expected one of neutral, soft_light, rgb",
        ),
        ("train.steps=1.5", "train.steps: 1.5 is not valid, expected a whole number"),
        ("train.steps=1e3", "train.steps: '1e3' is not valid, expected a whole number"),
        ("train.steps=true", "train.steps: True is not valid, expected a whole number"),
        ("train.lr=fast", "train.lr: 'fast' is not valid, expected a number"),
        ("train.lr=true", "train.lr: True is not valid, expected a number"),
        ("train.lr=.nan", "train.lr: nan is not valid, expected a number"),
        ("train.lr=null", "train.lr: None is not valid, expected a number"),
        ("train.bf16=1", "train.bf16: 1 is not valid, expected true or false"),
        ("train.note=on", "train.note: True is not valid, expected text or null"),
        ("train.note=3", "train.note: 3 is not valid, expected text or null"),
        ("model.channels=8", "model.channels: 8 is not valid, expected a list of a whole number"),
        ("model.channels=[8, x]", "model.channels: [8, 'x'] is not valid"),
        ("model=3", "model: 3 is not valid, expected a section with the options blend, channels"),
        ("model.channels=[1, 2, 3, 4]", "model: at most 3 channels"),
        ("train.steps", "'train.steps' is not of the form section.option=value"),
        ("=3", "'=3' is not of the form section.option=value"),
        ("train.note=[a", "train.note: '[a' is not a YAML value (line 1, column 3: expected ',' or ']'"),
        ("train.note=2026-13-01", "train.note: '2026-13-01' is not a YAML value (month must be in 1..12)"),
        (
            "train.note=!!python/object:os.system x",
            "train.note: '!!python/object:os.system x' is not a YAML value",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_the_option(item, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        changed(item)
    assert "\n" not in str(caught.value)


def test_the_last_of_two_values_counts():
    assert changed("train.steps=1", "train.steps=2").train.steps == 2


def test_the_given_configuration_is_not_changed():
    config = Config()
    assert apply_overrides(config, {"train.steps": 3}) != config
    assert config == Config()
    with pytest.raises(FrozenInstanceError):
        config.train.steps = 3  # type: ignore[misc]


def test_option_names_lists_leaves_also_of_optional_sections():
    assert option_names(Config)[:7] == [
        "model.blend",
        "model.channels",
        "model.scales",
        "model.head.kind",
        "model.head.bias",
        "model.extra.kind",
        "model.extra.bias",
    ]


def test_missing_option_without_default():
    @dataclass(frozen=True, kw_only=True)
    class Strict:
        name: str

    globals()["Strict"] = Strict
    with pytest.raises(ValueError, match="name: missing; it has no default"):
        from_dict(Strict, {})
    assert from_dict(Strict, {"name": "x"}) == Strict(name="x")


configs = st.builds(
    Config,
    model=st.builds(
        Model,
        blend=st.sampled_from(["neutral", "soft_light", "rgb"]),
        channels=st.lists(st.integers(), max_size=3).map(tuple),
        scales=st.lists(st.floats(allow_nan=False)).map(tuple),
        extra=st.none() | st.builds(Head, bias=st.booleans()),
    ),
    train=st.builds(
        Train,
        lr=st.floats(allow_nan=False),
        note=st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"])) | st.sampled_from(["1e-3", "007"]),
        clip=st.none() | st.floats(allow_nan=False),
    ),
)


@given(configs)
def test_round_trip_through_json(config):
    assert from_dict(Config, json.loads(json.dumps(to_dict(config)))) == config


@given(configs)
def test_round_trip_through_yaml(tmp_path_factory, config):
    path = tmp_path_factory.mktemp("yaml") / "config.yaml"
    path.write_text(dump_yaml(config), encoding="utf-8")
    assert apply_overrides(Config(), load_yaml(path)) == config


def test_yaml_file_with_sections_and_dotted_names(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("train:\n  lr: 2e-4\n  bf16: true\nmodel.head.kind: wide\n")
    config = apply_overrides(Config(), load_yaml(path))
    assert (config.train.lr, config.train.bf16, config.model.head.kind) == (2e-4, True, "wide")


def test_empty_yaml_file_changes_nothing(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("# nothing\n")
    assert load_yaml(path) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: [", "not a YAML file (line 1, column 9: expected the node content, but found '<stream end>')"),
        ("- a\n- b\n", "expected a mapping of option names to values"),
        ("3\n", "expected a mapping"),
        ("1: 2\n", "expected a mapping"),
        ("train:\n  lr: 1\n  lr: 2\n", "not a YAML file (line 3, column 3: the key 'lr' is given twice)"),
        ("a: &x [1]\nb: *x\n", "not a YAML file (line 2, column 4: aliases are not allowed here)"),
        ("a: " + "[" * 4000, "not a YAML file (line 1, column 11: nested deeper than 8 levels)"),
        ("? [a]\n: 1\n", "not a YAML file (line 1, column 3: found unhashable key)"),
    ],
)
def test_yaml_mistakes_name_the_file_and_the_line(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"config.yaml: {message}")) as caught:
        load_yaml(path)
    assert "\n" not in str(caught.value)


def test_binary_file_is_not_yaml(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ValueError, match=r"config\.yaml: not a YAML file"):
        load_yaml(path)


def test_missing_yaml_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_yaml(tmp_path / "none.yaml")


def test_retired_options_load_with_their_constant_only():
    @dataclass(frozen=True, kw_only=True)
    class Section:
        RETIRED: ClassVar[dict[str, Any]] = {"taps": (1, 2)}
        width: int = 3

    assert from_dict(Section, {"width": 4, "taps": [1, 2]}) == Section(width=4)
    with pytest.raises(ValueError, match=r"^taps: this release has only \(1, 2\), not \[1, 3\]"):
        from_dict(Section, {"taps": [1, 3]})


@pytest.mark.parametrize(
    "text",
    [
        "a: &x [1]\nb: *x", "a: !!timestamp x", "a: !!set [1]", "a: !!bool maybe", "a: !!int abc", "a: !own x",
        "a: !!python/object:os.system x", "? [1, 2]\n: 3", "? {a: 1}\n: 2", "{a: 1", "<<: 3", "--- a\n--- b", "\x00",
        "a: 0x_", "a: 2020-99-99", "a: 2001-12-14t21:59:43.1-99:99", "[1, 2]", "1: 2", f"a: {'9' * 5000}",
        "- " * 2000, f"a: {'[' * 3000}", "x" * 5000, f"? {'x' * 2000}\n: 1\n? {'x' * 2000}\n: 2",
    ],
)  # fmt: skip
def test_malformed_files_are_refused_in_one_short_line(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError) as refused:
        load_yaml(path)
    line = str(refused.value)
    assert line.startswith(f"{path}: ") and "\n" not in line and len(line) < len(str(path)) + 300


def test_a_huge_file_is_refused_before_it_is_parsed(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("".join(f"k{i}: 1\n" for i in range(100_000)))
    with pytest.raises(ValueError, match="larger than 200,000 bytes"):
        load_yaml(path)


@pytest.mark.parametrize(
    "item", [f"train.lr={'9' * 400}", f"train.steps={'x' * 5000}", f"{'x' * 5000}=1", f"train.note=[{'x' * 5000}",
             f"model.blend=[{'a, ' * 2000}]", "x" * 5000],
)  # fmt: skip
def test_long_values_are_refused_in_a_short_line(item):
    with pytest.raises(ValueError) as refused:
        changed(item)
    assert len(str(refused.value)) < 500
