"""User errors in one line."""

from __future__ import annotations

import re
from collections.abc import Iterable

TRACEBACK_VARIABLE = "RETOUCH_TRACEBACK"  # set to 1, an error shows its traceback: for developers

_MAX_NAMES = 20  # in a message
_MAX_LENGTH = 2000  # of a message
_TRACEBACK = "Original Traceback (most recent call last):"  # in the message that torch makes of a worker's error
_NO_MEMORY = "not enough memory; use a smaller size"
# Controls of terminals, line separators and marks of text direction, which names of files may hold.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Return text with control characters escaped, so that a file cannot steer the terminal, and shortened."""
    if len(text) > _MAX_LENGTH:
        text = f"{text[: _MAX_LENGTH // 2]} … {text[-_MAX_LENGTH // 2 :]}"
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def joined(names: Iterable[str], separator: str) -> str:
    """Return the first twenty different names, printable, and the number of the others, for a message."""
    different = list(dict.fromkeys(names))
    others = [f"{len(different) - _MAX_NAMES} more"] if len(different) > _MAX_NAMES else []
    return printable(separator.join([*different[:_MAX_NAMES], *others]))


def error_line(error: BaseException) -> str | None:
    """Return the message of a user error in one line, or None for an exception that is a bug."""
    line = _line(error)
    return None if line is None else printable(line)


def _line(error: BaseException) -> str | None:
    if isinstance(error, RuntimeError):
        import torch

        if isinstance(error, torch.OutOfMemoryError):
            return "not enough GPU memory; use --device cpu or a smaller size"
        return _NO_MEMORY if "DefaultCPUAllocator" in str(error) else None
    if isinstance(error, MemoryError):
        return _NO_MEMORY
    if isinstance(error, BrokenPipeError):
        return None  # the reader of our output left; click ends quietly
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, ValueError | OSError):
        text = str(error)
        if text.startswith("Caught ") and _TRACEBACK in text:  # of a data loading worker
            text = re.split(rf"\n(?:[\w.]+\.)?{type(error).__name__}: ", text)[-1]
        return " ".join(text.split()) or type(error).__name__
    return None
