"""Tools of the studio, and how those of installed packages are found.

A package adds a tool by an entry point of the group ``retouch.studio``, a function that takes a :class:`Desk`:

    [project.entry-points."retouch.studio"]
    restore = "mofrr.studio:restore_tool"

The tool's folder holds ``desk.html``, what the page shows below its bar, and optionally ``actions.html``, buttons in
the bar; ``main.js``, the module that runs it, and other modules, style sheets and pictures. They are served at
``/NAME/``, the modules of the frame at ``/shell/``, and the tool's routes below ``/NAME/``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Generic, TypeVar

from starlette.routing import Route

from retouch_common.studio.files import Files

GROUP = "retouch.studio"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What the studio gives to its tools.

    Attributes:
        folder: For uploads and temporary exports; removed when the studio ends.
        device: Where to compute: "auto", "cpu", "cuda" or a torch device.
        files: Files of open photos.
    """

    folder: Path
    device: str = "auto"
    files: Files = field(default_factory=Files)


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A tool of the studio.

    Attributes:
        name: Its part of addresses.
        title: Its name on the page.
        page: Folder of its files.
        routes: Its requests; paths are below ``/NAME``.
        prepare: Called in a thread when the studio starts, so that the first photo need not wait.
        order: Position among the tools.
    """

    name: str
    title: str
    page: Path
    routes: Sequence[Route]
    prepare: Callable[[], None] | None = None
    order: int = 0


class Lazy(Generic[T]):
    """A value that is made when it is first called for, once, by whichever thread; for networks of tools."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._made: list[T] = []

    def __call__(self) -> T:
        """Return the value."""
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]


ToolFactory = Callable[[Desk], Tool | None]
"""Makes a tool, quickly: networks are loaded when they are used. None if nothing it needs is installed."""


def installed_factories() -> dict[str, ToolFactory]:
    """Return what makes the tools of installed packages, by name."""
    return {entry.name: entry.load() for entry in entry_points(group=GROUP)}


def make_tools(factories: Mapping[str, ToolFactory], desk: Desk) -> list[Tool]:
    """Make tools in their order on the page.

    Raises:
        ValueError: If there is none.
    """
    tools = [tool for factory in factories.values() if (tool := factory(desk)) is not None]
    if not tools:
        raise ValueError("no tool is installed for the studio: install abpn, bpfre, mofrr or maskgan")
    return sorted(tools, key=lambda tool: (tool.order, tool.name))
