"""A run directory belongs to one configuration: continuing it with another is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

# May differ between a run and its continuation: the length, and what changes neither weights nor data.
FREE_FIELDS = frozenset({"steps", "workers", "log_every", "sheet_every", "checkpoint_every"})


def refuse_other_run(saved: Mapping[str, Any], wanted: Mapping[str, Any], out: Path) -> None:
    """Refuse to continue a run under another configuration.

    Args:
        saved: Configuration of the checkpoint, sections of fields.
        wanted: Configuration that is asked for now.
        out: Run directory, for the message.

    Raises:
        ValueError: They differ in a field that is not in ``FREE_FIELDS``; names it.
    """
    for section, values in wanted.items():
        for name, value in values.items():
            before = saved.get(section, {}).get(name)
            before = tuple(before) if isinstance(before, list) else before
            value = tuple(value) if isinstance(value, list) else value
            if before != value and name not in FREE_FIELDS:
                raise ValueError(
                    f"{out} holds a run with {section}.{name}={before}, now {value} is asked for; "
                    "choose another --out, or repeat the command that started the run"
                )
