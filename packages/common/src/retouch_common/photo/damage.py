"""Damaged files: the exception, and what libvips says about them.

pyvips logs libvips' warnings to the logger "pyvips". They are kept from the terminal; where they matter, they become a
photo's exception.

libvips has one buffer of error messages for all threads, so that an error may hold messages of another thread, or none.
Operations that may fail run in ``messages.shared()``; after a failure, ``messages.reason`` repeats them alone.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

import pyvips


class DamageError(ValueError):
    """A file is damaged; the message says how, without the file's name."""


def reason(error: pyvips.Error) -> str:
    """Return the informative part of a libvips error in one line."""
    return _informative(str(error.detail or error.message)) or "its pixels cannot be decoded"


class _Messages:
    """Access to libvips' buffer of error messages."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._num_users = 0
        self._is_taken = False

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Run operations that may fail, while other threads do."""
        with self._condition:
            self._condition.wait_for(lambda: not self._is_taken)
            self._num_users += 1
        try:
            yield
        finally:
            with self._condition:
                self._num_users -= 1
                self._condition.notify_all()

    def reason(self, error: pyvips.Error, repeat: Callable[[], object]) -> str:
        """Return the reason of an error in one line: that of ``repeat``, while no other thread is in :meth:`shared`.

        Must not be called in :meth:`shared`.
        """
        with self._condition:
            self._condition.wait_for(lambda: not self._is_taken and not self._num_users)
            self._is_taken = True
        try:
            pyvips.vips_lib.vips_error_clear()
            repeat()
        except DamageError as found:
            return str(found)
        except pyvips.Error as found:
            return reason(found)
        finally:
            with self._condition:
                self._is_taken = False
                self._condition.notify_all()
        return reason(error)


messages = _Messages()


def _informative(text: str) -> str:
    lines = [line.strip().removeprefix("VipsJpeg: ") for line in text.splitlines()]
    lines = [
        line for line in dict.fromkeys(lines) if line and not line.startswith(("unable to call", "unable to fetch"))
    ]
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
        """Collect the warnings of libvips in this thread in a list."""
        messages: list[str] = []
        self._thread.messages = messages
        try:
            yield messages
        finally:
            self._thread.messages = None


_COLLECTOR = _Collector()
decoder_warnings = _COLLECTOR.collected
_LOGGER = logging.getLogger("pyvips")
_LOGGER.setLevel(logging.WARNING)  # a higher level would hide damage
_LOGGER.addFilter(_COLLECTOR)
