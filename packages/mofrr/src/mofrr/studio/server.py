"""Requests of the Restore tool's page, below ``/restore``, those of :mod:`retouch_common.studio.photos`.

A request is {"photo": ID, "steps": [...]}; steps are {"step": "share", "face": index, "name": operation, "value": 0..1}
and {"step": "strength", "value": 0..1}. Its state is the strength and, for every face and operation, the probability,
degree and share.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from retouch_common.studio.photos import PhotoHandlers, parse_steps
from retouch_common.studio.tools import Lazy, Tool, ToolContext

from mofrr.restore import CAUTION, RestoreOptions
from mofrr.studio.session import RestoreSession

PAGE = Path(__file__).parent / "page"
TITLES = {"white": "Whitening", "smooth": "Smoothing", "lift": "Face lifting", "eye": "Eye enlarging"}


def restore_tool(context: ToolContext) -> Tool:
    """Create the Restore tool."""

    def load() -> RestoreSession:
        from mofrr.restore import Restorer

        return RestoreSession(Restorer("small", device=context.device))

    return create_tool(load, context)


def create_tool(load: Callable[[], RestoreSession], context: ToolContext) -> Tool:
    """Create the Restore tool; ``load`` returns its session, at the first use."""
    session = Lazy(load)
    routes = _Handlers(session, context).routes
    return Tool(name="restore", title="Restore", page=PAGE, routes=routes, prepare=session, order=2)


class _Handlers(PhotoHandlers):
    """Handlers of the page's requests."""

    options = RestoreOptions

    def parse(self, content: dict[str, Any]) -> tuple[str, list[Any]]:
        return parse_steps(content)

    def about(self) -> dict[str, Any]:
        operations = [{"name": name, "title": TITLES.get(name, name)} for name in self._session.operations]
        return {"caution": CAUTION, "operations": operations}
