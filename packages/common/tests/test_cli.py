import subprocess
import sys
import time

import click
import pytest
import torch
from click.testing import CliRunner
from retouch_common.cli import options as cli
from retouch_common.devices import resolve_device, resolve_precision
from retouch_common.errors import TRACEBACK_VARIABLE, error_line
from retouch_common.progress import progress_bar
from retouch_common.training.finite import NonFiniteError
from torch._utils import ExceptionWrapper


def run(body, *arguments, decorators=()):
    command = cli.friendly_errors(body)
    for decorator in decorators:
        command = decorator(command)
    return CliRunner().invoke(click.command("demo")(command), arguments)


def raiser(error):
    def body(**_):
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a.jpg: cut short;\n  get it again"), "Error: a.jpg: cut short; get it again"),
        (ValueError(), "Error: ValueError"),
        (
            FileNotFoundError(2, "No such file or directory", "a.jpg"),
            "Error: a.jpg: No such file or directory",
        ),
        (OSError(28, "No space left on device"), "Error: No space left on device"),
        (OSError("the disk is full"), "Error: the disk is full"),
        (MemoryError(), "Error: not enough memory; use a smaller size"),
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            "Error: not enough GPU memory; use --device cpu or a smaller size",
        ),
    ],
)
def test_a_users_error_is_one_line(error, line):
    result = run(raiser(error))
    assert (result.exit_code, result.output) == (1, line + "\n")


@pytest.mark.parametrize("kind", [ValueError, FileNotFoundError, NonFiniteError])
def test_an_error_of_a_data_loading_worker_is_its_own_line(kind):
    try:
        try:
            raise ValueError("inner")
        except ValueError as inner:
            raise kind("a.png: damaged\n(at its end)") from inner
    except (ValueError, OSError):
        caught = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(kind) as reraised:
        caught.reraise()
    assert error_line(reraised.value) == "a.png: damaged (at its end)"


def test_memory_that_torch_cannot_allocate_is_a_users_error():
    result = run(lambda: torch.empty(10**15))
    assert (result.exit_code, result.output) == (1, "Error: not enough memory; use a smaller size\n")


@pytest.mark.parametrize("bug", [RuntimeError("a bug"), TypeError("a bug"), KeyError("a bug"), AssertionError()])
def test_a_bug_keeps_its_traceback(bug):
    assert run(raiser(bug)).exception is bug


def test_developers_can_see_the_traceback(monkeypatch):
    monkeypatch.setenv(TRACEBACK_VARIABLE, "1")
    error = ValueError("x")
    assert run(raiser(error)).exception is error


def test_usage_errors_and_aborts_stay_clicks_own():
    assert run(raiser(click.UsageError("no"))).exit_code == 2
    assert run(raiser(click.Abort())).output == "Aborted!\n"


def test_the_shared_options_and_their_defaults():
    def body(**options):
        click.echo(sorted(options.items()))

    shared = [cli.device_option, cli.precision_option, cli.seed_option, cli.set_option]
    result = run(body, "--set", "a=1", "--set", "b.c=2", decorators=[*shared, cli.weights_option()])
    expected = {
        "device": "auto",
        "precision": "auto",
        "seed": 0,
        "overrides": ("a=1", "b.c=2"),
        "weights": "small",
    }
    assert result.output.strip() == str(sorted(expected.items()))


def test_version_is_the_installed_distributions():
    from importlib.metadata import version

    result = run(lambda: None, "--version", decorators=[cli.version_option("retouch-common")])
    assert result.output == f"demo {version('retouch-common')}\n"


def test_auto_takes_the_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto").type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto").type == "cpu"


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no CUDA GPU"):
        resolve_device("cuda")
    with pytest.raises(ValueError, match="'gpu' is unknown"):
        resolve_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="'cuda:3' does not exist"):
        resolve_device("cuda:3")


@pytest.mark.parametrize(("instructions", "auto"), [(False, torch.float32), (True, torch.bfloat16)])
def test_precision_on_the_cpu(monkeypatch, instructions, auto):
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions, raising=False)
    assert resolve_precision("auto", cpu) is auto
    assert resolve_precision("bf16", cpu) is torch.bfloat16
    with pytest.raises(ValueError, match="needs a GPU"):
        resolve_precision("fp16", cpu)
    with pytest.raises(ValueError, match="'half' is unknown"):
        resolve_precision("half", cpu)


@pytest.mark.parametrize(("capability", "auto"), [((7, 5), torch.float32), ((9, 0), torch.bfloat16)])
def test_precision_on_a_gpu_follows_its_generation(monkeypatch, capability, auto):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    gpu = torch.device("cuda")
    assert resolve_precision("auto", gpu) is auto
    assert resolve_precision("fp16", gpu) is torch.float16
    if auto is torch.float32:
        with pytest.raises(ValueError, match="compute capability"):
            resolve_precision("bf16", gpu)


def test_the_progress_bar_shows_throughput_on_standard_error(capsys):
    with progress_bar(unit="photos") as bar:
        for _ in bar.track(range(3), description="Retouching"):
            time.sleep(0.01)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Retouching" in captured.err and "3/3" in captured.err and "photos/s" in captured.err


def test_help_does_not_load_heavy_libraries():
    code = """
import sys, retouch_common.cli.photos, retouch_common.cli.training, retouch_common.weights
print(*({"torch", "rich", "huggingface_hub"} & sys.modules.keys()))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_a_message_is_never_longer_than_a_screen():
    """Files may hold values of megabytes, which messages repeat."""
    line = error_line(ValueError(f"recipe.json: {10_000_000 * 'x'} is no number"))
    assert line.startswith("recipe.json: xxx") and line.endswith("xxx is no number") and len(line) < 2100
    assert error_line(ValueError("a\x1b" + "b" * 1900)) == "a\\x1b" + "b" * 1900
