"""The click options, error manners and progress bar that all commands share.

    @click.command()
    @click.argument("inputs", nargs=-1, required=True)
    @weights_option(default="small")
    @device_option
    @precision_option
    @version_option("abpn")
    @friendly_errors
    def retouch(inputs, weights, device, precision): ...

Heavy libraries load when a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    import torch
    from rich.progress import Progress

F = TypeVar("F", bound=Callable[..., Any])

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
TRACEBACK_VARIABLE = "RETOUCH_TRACEBACK"  # set to 1, an error shows its traceback: for developers


device_option = click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    show_default=True,
    help="Where to compute; auto takes the GPU if there is one.",
)

precision_option = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="auto",
    show_default=True,
    help="Number format inside the network; auto is bf16 where the GPU or CPU computes in it, else fp32.",
)

seed_option = click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Start of every random choice; the same seed repeats the run.",
)

overwrite_option = click.option("--overwrite", is_flag=True, help="Replace files that are there already.")

set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one value of the configuration, e.g. model.blend=soft_light; may be repeated.",
)


def weights_option(*, default: str | None = "small") -> Callable[[F], F]:
    """The --weights option; where there is no default it must be given."""
    fallback: dict[str, Any] = {"required": True} if default is None else {"default": default}
    return click.option(
        "--weights",
        metavar="NAME|PATH|HUB_ID",
        **fallback,
        show_default=True,
        help="Bundled weights by name, a safetensors file or folder, or owner/name on the Hugging Face hub.",
    )


def version_option(distribution: str) -> Callable[[F], F]:
    """The --version option: prints the command's name and the version of the installed distribution."""
    return click.version_option(package_name=distribution, message="%(prog)s %(version)s")


def resolve_device(name: str | torch.device) -> torch.device:
    """The device that a user's choice stands for.

    Args:
        name: "auto" (the first GPU, else the CPU), "cpu", "cuda", "cuda:1", or a torch device.

    Raises:
        ValueError: not a device torch knows, or CUDA where there is none.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is unknown; choose one of {', '.join(DEVICES)}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' was asked for, but torch finds no CUDA GPU here; use auto or cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {str(device)!r} does not exist; there are {torch.cuda.device_count()} GPUs")
    return device


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """The number format that a user's choice stands for on a device.

    Args:
        name: one of PRECISIONS; "auto" is bf16 where the hardware computes in it (a GPU of compute capability 8.0
            and up, a CPU with AMX or AVX-512 BF16), else fp32.
        device: the device from `resolve_device`.

    Raises:
        ValueError: an unknown name, or a format the device does not compute in.
    """
    import torch

    if name not in PRECISIONS:
        raise ValueError(f"precision {name!r} is unknown; choose one of {', '.join(PRECISIONS)}")
    native_bf16 = (
        torch.cuda.get_device_capability(device) >= (8, 0) if device.type == "cuda" else _cpu_computes_in_bf16()
    )
    if name == "auto":
        return torch.bfloat16 if native_bf16 else torch.float32
    if name == "bf16" and device.type == "cuda" and not native_bf16:
        raise ValueError("precision bf16 needs a GPU of compute capability 8.0 or newer; use fp16 or fp32")
    if name == "fp16" and device.type == "cpu":
        raise ValueError("precision fp16 needs a GPU; use fp32 or bf16 on the CPU")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def _cpu_computes_in_bf16() -> bool:
    """Whether the processor has bf16 instructions; without them bf16 convolutions are slower than fp32."""
    import torch

    tests = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # torch has no public name for them yet
    return any(getattr(torch.cpu, name, bool)() for name in tests)


def friendly_errors(command: F) -> F:
    """Turn a user's error into one line `Error: …` and exit status 1, never a traceback.

    Caught are ValueError, OSError and running out of memory. Other exceptions are bugs and stay as they are;
    `RETOUCH_TRACEBACK=1` in the environment shows the traceback of the caught ones too. Put it directly above
    the function, below all options.
    """

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            message = error_line(error)
            if message is None or os.environ.get(TRACEBACK_VARIABLE) == "1":
                raise
            raise click.ClickException(message) from error

    return wrapper  # type: ignore[return-value]


def error_line(error: BaseException) -> str | None:
    """A user's error in one line; None for an exception that is a bug and not the user's doing."""
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


def progress_bar(*, unit: str = "photos", disable: bool = False) -> Progress:
    """A progress bar on standard error: what, how far, how fast, how long still.

        with progress_bar(unit="photos") as bar:
            for photo in bar.track(photos, description="Retouching"): ...

    Args:
        unit: plural of what is counted, for the throughput.
        disable: show nothing, e.g. for a single photo.
    """
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        _throughput_column(unit),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=disable,
    )


def _throughput_column(unit: str) -> Any:
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Throughput(ProgressColumn):
        def render(self, task: Task) -> Text:
            seconds = task.finished_time or task.elapsed
            speed = task.completed / seconds if seconds else 0
            return Text(f"{speed:.1f} {unit}/s" if speed else "", style="progress.data.speed")

    return Throughput()
