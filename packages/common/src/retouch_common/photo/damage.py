"""Damaged files: the exception, and what libvips says about them.

pyvips logs libvips' warnings to the logger "pyvips". They are kept from the terminal; where they matter, they become a
photo's exception.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

import pyvips


class DamageError(ValueError):
    """A file is damaged; the message says how, without the file's name."""


def reason(error: pyvips.Error) -> str:
    """Return the informative part of a libvips error in one line."""
    return _informative(str(error.detail or error.message)) or str(error.message)


def _informative(text: str) -> str:
    lines = [line.strip().removeprefix("VipsJpeg: ") for line in text.splitlines()]
    lines = [line for line in dict.fromkeys(lines) if line and not line.startswith("unable to call")]
    return "; ".join(lines[-2:])


class _Collector(logging.Filter):
    """Drop warnings, and collect those of a thread that asks for them."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            return True
        messages: list[str] | None = getattr(self._thread, "messages", None)
        if messages is not None:
            messages.append(_informative(record.getMessage().removeprefix("VIPS: ")))
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
    """Return a context that collects the warnings of libvips in this thread in a list."""
    return _COLLECTOR.collected()
