"""Click options and error handling shared by all commands.

    @click.command()
    @click.argument("inputs", nargs=-1, required=True)
    @weights_option()
    @device_option
    @version_option("abpn")
    @friendly_errors
    def retouch(inputs, weights, device): ...

Heavy libraries are imported when a command runs, so that `--help` is fast.
"""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from retouch_common.devices import BACKENDS, DEVICES, PRECISIONS
from retouch_common.errors import TRACEBACK_VARIABLE, error_line

F = TypeVar("F", bound=Callable[..., Any])

device_option = click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    show_default=True,
    help="Device; auto uses a GPU if there is one.",
)

precision_option = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="auto",
    show_default=True,
    help="Numeric precision of the network; auto is bf16 where the GPU or CPU computes in it, else fp32.",
)

backend_option = click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    default="auto",
    show_default=True,
    help="What runs the network: torch, or openvino on the CPU (extra openvino), whose results differ by up to one "
    "8-bit level; auto takes openvino for 100 photos and more where it is installed and the CPU computes in bf16.",
)

seed_option = click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Random seed; the same seed reproduces the run.",
)

overwrite_option = click.option("--overwrite", is_flag=True, help="Replace existing files.")

set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one value of the configuration, e.g. train.lr=3e-4; may be repeated.",
)


class CommaSeparated(click.ParamType):
    """Values of another type, separated by commas, as a tuple."""

    def __init__(self, item: click.ParamType) -> None:
        self.item = item
        self.name = f"{item.name},..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Convert every part."""
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(self.item.convert(part, param, ctx) for part in parts)


def option_group(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Return a decorator that adds options, in this order in the help."""

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def weights_option(*, default: str = "small") -> Callable[[F], F]:
    """Return the --weights option."""
    return click.option(
        "--weights",
        metavar="NAME|PATH|HUB_ID",
        default=default,
        show_default=True,
        help="Bundled weights by name, a safetensors file or folder, or owner/name on the Hugging Face hub.",
    )


def version_option(distribution: str) -> Callable[[F], F]:
    """Return the --version option, which prints the command's name and the distribution's version."""
    return click.version_option(package_name=distribution, message="%(prog)s %(version)s")


def friendly_errors(command: F) -> F:
    """Turn user errors into one line ``Error: …`` and exit status 1.

    ValueError, OSError and running out of memory are user errors; other exceptions are bugs and propagate.
    ``RETOUCH_TRACEBACK=1`` shows the traceback of user errors, too. Place it below all options.
    """

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot encode must not end the run
                stream.reconfigure(errors="backslashreplace")
        try:
            return command(*args, **kwargs)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            message = error_line(error)
            if message is None or os.environ.get(TRACEBACK_VARIABLE) == "1":
                raise
            raise click.ClickException(message) from error

    return wrapper  # type: ignore[return-value]
