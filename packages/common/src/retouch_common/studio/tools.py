"""Tools of the studio and their discovery by entry points.

A package adds a tool by an entry point of the group ``retouch.studio``, a :data:`ToolFactory`:

    [project.entry-points."retouch.studio"]
    restore = "mofrr.studio:restore_tool"

The tool's folder holds ``tool.html``, the content of the page below its header, in which comments such as
``<!-- zoom -->`` stand for fragments of the shell; optionally ``actions.html``, buttons in the header; the entry module
``main.js``, and further modules, style sheets and images. They are served at ``/NAME/``, the modules of the shell at
``/shell/``, and the tool's routes below ``/NAME/``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Generic, TypeVar

from starlette.routing import Route

from retouch_common.studio.files import FileRegistry

GROUP = "retouch.studio"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ToolContext:
    """What the studio provides to its tools.

    Attributes:
        folder: Directory for uploads and temporary exports, removed when the studio ends.
        device: "auto", "cpu", "cuda" or another torch device.
        files: Files of open photos.
    """

    folder: Path
    device: str = "auto"
    files: FileRegistry = field(default_factory=FileRegistry)


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A tool of the studio.

    Attributes:
        name: Path prefix of its routes.
        title: Label of its tab.
        page: Folder of its HTML, scripts and styles.
        routes: Request handlers; paths are relative to ``/NAME``.
        prepare: Called in a background thread when the studio starts, to load networks ahead of the first photo.
        order: Sort key of the tabs.
    """

    name: str
    title: str
    page: Path
    routes: Sequence[Route]
    prepare: Callable[[], object] | None = None
    order: int = 0


class Lazy(Generic[T]):
    """A value that is created at the first call, once across threads; for the networks of tools."""

    def __init__(self, create: Callable[[], T]) -> None:
        self._create, self._lock = create, threading.Lock()
        self._value: list[T] = []

    def __call__(self) -> T:
        """Return the value."""
        with self._lock:
            if not self._value:
                self._value.append(self._create())
            return self._value[0]


ToolFactory = Callable[[ToolContext], Tool | None]
"""Creates a tool without loading networks; None if none of the packages it needs is installed."""


def installed_factories() -> dict[str, ToolFactory]:
    """Return the tool factories of installed packages by name."""
    return {entry.name: entry.load() for entry in entry_points(group=GROUP)}


def create_tools(factories: Mapping[str, ToolFactory], context: ToolContext) -> list[Tool]:
    """Create the tools, sorted by their position on the page.

    Raises:
        ValueError: If there is none.
    """
    tools = [tool for factory in factories.values() if (tool := factory(context)) is not None]
    if not tools:
        raise ValueError("no tool is installed for the studio: install abpn, bpfre, mofrr or maskgan")
    return sorted(tools, key=lambda tool: (tool.order, tool.name))
