"""Configuration by nested frozen dataclasses, YAML files and ``--set section.option=value``.

Fields are ``int``, ``float``, ``bool``, ``str``, ``Literal[...]``, ``tuple[T, ...]`` of those, ``T | None``, or another
such dataclass. An option is named by its dotted path (``train.lr``). Unknown names, wrong types and wrong choices raise
a one-line ``ValueError`` that names the option and says what is expected.

YAML is read by PyYAML's safe loader; in addition, ``1e-3`` is a number where the option is one.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

T = TypeVar("T")


MAX_BYTES = 200_000  # of a configuration file
_SHOWN = 80  # characters of a value or a name in a message


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases, tags, duplicate keys and nesting deeper than a configuration's."""

    max_depth = 8
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed here", mark)
        if getattr(event, "tag", None) is not None:  # PyYAML fails on some values with various exceptions
            raise yaml.composer.ComposerError(None, None, "tags are not allowed here", mark)
        if self._depth >= self.max_depth:
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {self.max_depth} levels", mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):  # other keys are refused by the constructor
                if key.value in seen:
                    problem = f"the key {_short(key.value)} is given twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def option_names(cls: type, prefix: str = "") -> list[str]:
    """Return the dotted names of all options of a configuration class, leaves only, in order."""
    names = []
    for name, hint in _hints(cls).items():
        section = _section(hint)
        names += option_names(section, f"{prefix}{name}.") if section else [prefix + name]
    return names


def parse_overrides(items: Iterable[str]) -> dict[str, Any]:
    """Parse ``["model.blend=soft_light", "train.lr=1e-3"]`` into ``{"model.blend": "soft_light", ...}``.

    Values are YAML; the last value of a repeated name wins.

    Raises:
        ValueError: If an item is not of the form ``name=value`` or its value is not YAML.
    """
    overrides: dict[str, Any] = {}
    for item in items:
        name, equals, text = item.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ValueError(f"{_short(item)} is not of the form section.option=value")
        try:
            overrides[name] = yaml.load(text, Loader=_Loader)
        except (yaml.YAMLError, ValueError) as error:  # the latter: a date or a number that does not exist
            raise ValueError(f"{_cut(name)}: {_short(text)} is not a YAML value ({_one_line(error)})") from None
    return overrides


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file of nested sections or dotted names, for :func:`apply_overrides`.

    Raises:
        ValueError: If the file is not a regular file, not YAML, not a mapping of option names or larger than
            ``MAX_BYTES``.
        OSError: If the file cannot be read.
    """
    if Path(path).exists() and not Path(path).is_file():
        raise ValueError(f"{path}: is not a regular file")  # a named pipe would block for ever
    if Path(path).stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: larger than {MAX_BYTES:,} bytes; this is not a file of options")
    try:
        data = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path}: not a YAML file ({_one_line(error)})") from None
    if data is None:
        return {}
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise ValueError(f"{path}: expected a mapping of option names to values")
    return data


def apply_overrides(config: T, *overrides: Mapping[str, Any]) -> T:
    """Return a configuration with options replaced, by dotted name or by nested mappings of a section; later ones win.

    Raises:
        ValueError: If a name is unknown, or a value has a wrong type or is no valid choice.
    """
    data = to_dict(config)
    for changes in overrides:
        for name, value in changes.items():
            _merge(data, name.split("."), value)
    return from_dict(type(config), data)


def to_dict(config: Any) -> dict[str, Any]:
    """Return the configuration as nested dicts of JSON values (tuples become lists)."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def from_dict(cls: type[T], data: Mapping[str, Any]) -> T:
    """Build a configuration of class ``cls``; missing options keep their defaults.

    A section may list former options that are constants now in a class variable ``RETIRED``, from names to those
    constants. Weights and runs that carry them still load if the values agree.

    Raises:
        ValueError: If a name is unknown, a value is invalid, an option without default is missing, or a retired option
            has another value.
    """
    return _build(cls, data, "", option_names(cls))


def dump_yaml(config: Any) -> str:
    """Return the configuration as YAML text that :func:`load_yaml` reads back to the same values."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def _hints(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def _options(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union; any other hint is its only member."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _section(hint: Any) -> type | None:
    """Return the dataclass in ``hint`` (also ``Section | None``), or None for a leaf."""
    return next((option for option in _options(hint) if dataclasses.is_dataclass(option)), None)  # type: ignore[return-value]


def _merge(data: dict[str, Any], path: list[str], value: Any) -> None:
    """Set ``value`` at ``path`` in nested dicts; mappings are merged key by key."""
    for key in path[:-1]:
        inner = data.get(key)
        if not isinstance(inner, dict):  # an unknown name or a section that was None: _build judges it
            inner = data[key] = {}
        data = inner
    if isinstance(value, Mapping):
        inner = data.get(path[-1])
        if not isinstance(inner, dict):
            inner = data[path[-1]] = {}
        for key, item in value.items():
            _merge(inner, str(key).split("."), item)
    else:
        data[path[-1]] = value


def _build(cls: type[T], data: Mapping[str, Any], prefix: str, known: list[str]) -> T:
    hints = _hints(cls)
    retired: Mapping[str, Any] = getattr(cls, "RETIRED", {})
    for key, constant in retired.items():
        if key in data and _plain(data[key]) != _plain(constant):
            raise ValueError(f"{prefix}{key}: this release has only {constant!r}, not {_short(data[key])}")
    data = {key: value for key, value in data.items() if key not in retired}
    for key in data:
        if key not in hints:
            raise ValueError(_unknown(f"{prefix}{key}", known))
    values = {key: _convert(hints[key], value, prefix + key, known) for key, value in data.items()}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if field.init and required and field.name not in values:
            raise ValueError(f"{prefix}{field.name}: missing; it has no default")
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{prefix[:-1]}: {error}" if prefix else str(error)) from None


def _unknown(name: str, known: list[str]) -> str:
    name = _cut(name)
    leaf = name.rpartition(".")[2]
    near = [option for option in known if option.rpartition(".")[2] == leaf]
    near = near or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if not near:
        leaves = {option.rpartition(".")[2]: option for option in known}
        near = [leaves[match] for match in difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.6)]
    if near:
        return f"unknown option '{name}'; did you mean '{near[0]}'?"
    return f"unknown option '{name}'; the options are {', '.join(known)}"


def _convert(hint: Any, value: Any, name: str, known: list[str]) -> Any:
    """Convert ``value`` to the type ``hint``, or raise a ValueError that names the option."""
    section = _section(hint)
    if section is not None and isinstance(value, Mapping):
        return _build(section, value, f"{name}.", known)
    if isinstance(value, Mapping) and value:
        raise ValueError(_unknown(f"{name}.{next(iter(value))}", known))
    for option in _options(hint):
        converted = _match(option, value)
        if converted is not _NO:
            return converted
    raise ValueError(f"{name}: {_short(value)} is not valid, expected {_describe(hint)}")


_SCIENTIFIC = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")  # text to YAML 1.1 without a point or a sign
_NO = object()  # "this value is not of that type"; None is a value


def _match(hint: Any, value: Any) -> Any:
    if hint is type(None):
        return None if value is None else _NO
    if get_origin(hint) is Literal:
        same = [choice for choice in get_args(hint) if choice == value and type(choice) is type(value)]
        return same[0] if same else _NO
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            return _NO
        items = [_match(get_args(hint)[0], item) for item in value]
        return _NO if any(item is _NO for item in items) else tuple(items)
    if hint is float and isinstance(value, str) and _SCIENTIFIC.fullmatch(value):
        return float(value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return _NO if math.isnan(value) else float(value)
        except OverflowError:  # an integer of hundreds of digits
            return _NO
    return value if hint in (int, bool, str) and type(value) is hint else _NO


def _describe(hint: Any) -> str:
    if len(_options(hint)) > 1:
        return " or ".join(_describe(option) for option in _options(hint))
    if hint is type(None):
        return "null"
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list of {_describe(get_args(hint)[0])}, such as [1, 2]"
    if dataclasses.is_dataclass(hint):
        return "a section with the options " + ", ".join(field.name for field in dataclasses.fields(hint))
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(hint, str(hint))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _one_line(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {_cut(str(error.problem), 2 * _SHOWN)}"
    return _cut(" ".join(str(error).split()), 2 * _SHOWN)


def _short(value: Any) -> str:
    """Return the representation of a value for a message, cut off if it is long."""
    return _cut(repr(value))


def _cut(text: str, length: int = _SHOWN) -> str:
    return text if len(text) <= length else f"{text[:length]}…"
