"""Damage of a file: how it is raised, what libvips says of it, and what it only warns about.

pyvips hands libvips' warnings to the logger "pyvips". They are kept from the terminal here: where they matter, they
become a photo's exception.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

import pyvips


class DamageError(ValueError):
    """A file is damaged; the message says how and does not name the file."""


def reason(error: pyvips.Error) -> str:
    """The telling part of a libvips error.

    Args:
        error: The error.

    Returns:
        One line.
    """
    return _telling(str(error.detail or error.message)) or str(error.message)


def _telling(text: str) -> str:
    lines = [line.strip().removeprefix("VipsJpeg: ") for line in text.splitlines()]
    lines = [line for line in dict.fromkeys(lines) if line and not line.startswith("unable to call")]
    return "; ".join(lines[-2:])


class _Collector(logging.Filter):
    """Drops warnings and remembers those of a thread that asked for them."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            return True
        messages: list[str] | None = getattr(self._thread, "messages", None)
        if messages is not None:
            messages.append(_telling(record.getMessage().removeprefix("VIPS: ")))
        return False

    @contextlib.contextmanager
    def collected(self) -> Iterator[list[str]]:
        messages: list[str] = []
        self._thread.messages = messages
        try:
            yield messages
        finally:
            self._thread.messages = None


_COLLECTOR = _Collector()
_LOGGER = logging.getLogger("pyvips")
_LOGGER.setLevel(logging.WARNING)  # a higher level would hide damage
_LOGGER.addFilter(_COLLECTOR)


def decoder_warnings() -> contextlib.AbstractContextManager[list[str]]:
    """Collect the warnings that libvips gives in this thread.

    Returns:
        A context that gives a list of messages, to which warnings are added until it ends.
    """
    return _COLLECTOR.collected()
