"""User errors in one line."""

from __future__ import annotations

TRACEBACK_VARIABLE = "RETOUCH_TRACEBACK"  # set to 1, an error shows its traceback: for developers


def error_line(error: BaseException) -> str | None:
    """Return the message of a user error in one line, or None for an exception that is a bug."""
    if isinstance(error, RuntimeError):
        import torch

        out_of_memory = isinstance(error, torch.OutOfMemoryError)
        return "not enough GPU memory; use --device cpu or a smaller size" if out_of_memory else None
    if isinstance(error, MemoryError):
        return "not enough memory; use a smaller size"
    if isinstance(error, BrokenPipeError):
        return None  # the reader of our output left; click ends quietly
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, ValueError | OSError):
        return " ".join(str(error).split()) or type(error).__name__
    return None
