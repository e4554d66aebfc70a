"""One training loop on a CPU, a GPU, or many GPUs and nodes: a thin layer over accelerate.

    with Runner(precision="bf16", accumulate=2) as runner:
        model, optimizer = runner.prepare(model, optimizer)
        for step in range(start_step + 1, total_steps + 1):
            for _ in range(runner.accumulate):
                with runner.micro_step(model), runner.autocast():
                    runner.backward(loss(model, runner.to_device(next(batches))))
            optimizer.step()
            optimizer.zero_grad()
            if runner.stop_requested():
                break

Run it directly, or with ``accelerate launch``, ``torchrun`` or SLURM: accelerate reads their environment.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import logging
import os
import signal
import threading
from collections.abc import Mapping
from types import FrameType
from typing import Any

import torch
from torch import nn

from retouch_common.devices import computes_in_bf16, resolve_precision
from retouch_common.training.checkpoint import Tensors
from retouch_common.training.state import random_state, set_random_state

logger = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


class Runner:
    """Device, processes, precision, gradient accumulation and graceful stopping of a training loop.

    As a context manager it handles SIGINT and SIGTERM: the first makes :meth:`stop_requested` true, so that the loop
    ends after its step and saves; the second ends the process at once.

    Args:
        precision: "fp32", "bf16" (autocast), "fp16" (autocast and loss scaling, CUDA only), or "auto", see
            :func:`retouch_common.devices.resolve_precision`.
        accumulate: Number of micro-batches whose gradients are averaged in one step.
        cpu: Stay on the CPU even where there is a GPU.
        find_unused_parameters: Needed where a step leaves some parameters without a gradient.

    Attributes:
        device: Device of this process.
        num_processes: Processes that train together.
        process_index: Number of this one.
        is_main: Whether this is the one that writes files.
        precision: "fp32", "bf16" or "fp16".
        accelerator: accelerate's object, for anything not offered here.

    Raises:
        ValueError: Unknown precision, fp16 without CUDA, bf16 on a GPU without it, ``accumulate`` < 1.
    """

    def __init__(
        self,
        *,
        precision: str = "fp32",
        accumulate: int = 1,
        cpu: bool = False,
        find_unused_parameters: bool = False,
    ):
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs, GradientAccumulationPlugin

        precision = _resolve(precision, cpu)
        if accumulate < 1:
            raise ValueError(f"gradient accumulation over {accumulate} micro-batches: it must be at least 1")
        _forget_previous()
        self.accelerator = Accelerator(
            mixed_precision="no" if precision == "fp32" else precision,
            cpu=cpu or not torch.accelerator.is_available(),  # else accelerate runs CPU processes unconnected
            gradient_accumulation_plugin=GradientAccumulationPlugin(accumulate, sync_with_dataloader=False),
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=find_unused_parameters)],
        )
        self.precision = precision
        self.accumulate = accumulate
        self.device: torch.device = self.accelerator.device
        if self.device.type == "cpu":
            _keep_freed_memory()
        self.num_processes: int = self.accelerator.num_processes
        self.process_index: int = self.accelerator.process_index
        self.is_main: bool = self.accelerator.is_main_process
        self._stop = False
        self._previous_handlers: dict[int, Any] = {}

    def seed(self, seed: int, *, per_process: bool = False) -> None:
        """Seed python, numpy and torch: equally on all processes, or differently on each."""
        from accelerate.utils import set_seed

        set_seed(seed, device_specific=per_process)

    def prepare(self, *objects: Any) -> Any:
        """Move models to the device and wrap models and optimisers for distribution; return them in order.

        GPUs share the statistics of batch normalisation.
        Data loaders need no preparation: :class:`retouch_common.training.samplers.EndlessBatches` divides batches.
        """
        if self.num_processes > 1 and self.device.type == "cuda":
            objects = tuple(
                nn.SyncBatchNorm.convert_sync_batchnorm(item) if isinstance(item, nn.Module) else item
                for item in objects
            )
        return self.accelerator.prepare(*objects)

    def unwrap(self, model: nn.Module) -> nn.Module:
        """Return the model inside its wrappers, for saving and for names of parameters."""
        return self.accelerator.unwrap_model(model)

    def forward_unsynced(self, model: nn.Module, *inputs: Any) -> Any:
        """Call a prepared model in fp32 and without synchronising gradients, for gradients of gradients.

        A backward pass through the result adds to this process's gradients only; one through the prepared model must
        follow in the same step and synchronises both.
        """
        inner = self.unwrap(model)
        with torch.autocast(self.device.type, enabled=False):
            return type(inner).forward(inner, *inputs)  # accelerate's autocast wraps the instance's forward

    def to_device(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Move the tensors of a batch to the device."""
        return {
            name: value.to(self.device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for name, value in batch.items()
        }

    def micro_step(self, *models: nn.Module) -> contextlib.AbstractContextManager:
        """Enter this once per micro-batch with every model trained in it; the last one synchronises gradients."""
        return self.accelerator.accumulate(*models)

    def autocast(self) -> contextlib.AbstractContextManager:
        """Compute in the chosen precision inside this context."""
        return self.accelerator.autocast()

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of ``loss``, divided by the number of micro-batches."""
        self.accelerator.backward(loss)

    def clip(self, model: nn.Module, max_norm: float, optimizer: Any) -> torch.Tensor:
        """Clip the norm of all gradients of a model together; return the norm before.

        In fp16 the gradients of other models stay scaled: each optimiser unscales its own in its step.
        """
        self.accelerator.unscale_gradients(optimizer)
        return nn.utils.clip_grad_norm_(model.parameters(), max_norm)

    def mean(self, losses: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the means of scalar losses over all processes; every process must call it."""
        values = torch.stack([loss.detach().float().reshape(()) for loss in losses.values()])
        if self.num_processes > 1:
            values = self.accelerator.reduce(values, reduction="mean")
        return dict(zip(losses, values.unbind(), strict=True))

    def stop_requested(self) -> bool:
        """Whether any process was asked to stop; every process must call it, once a step."""
        if self.num_processes > 1:
            flag = torch.tensor(float(self._stop), device=self.device)
            return bool(self.accelerator.reduce(flag, reduction="sum").item() > 0)
        return self._stop

    def wait(self) -> None:
        """Wait until every process is here."""
        self.accelerator.wait_for_everyone()

    def random_states(self) -> tuple[Tensors, dict[str, Any]]:
        """Return the random states of all processes for a checkpoint; every process must call it."""
        from accelerate.utils import gather_object

        states = gather_object([random_state()])
        return (
            {f"process-{index}": tensors for index, (tensors, _) in enumerate(states)},
            {f"process-{index}": meta for index, (_, meta) in enumerate(states)},
        )

    def set_random_states(self, tensors: Tensors, meta: Mapping[str, Any]) -> None:
        """Restore this process's random state if the saved run had one for it."""
        key = f"process-{self.process_index}"
        if key in meta:
            set_random_state(tensors[key], meta[key])

    def __enter__(self) -> Runner:
        if threading.current_thread() is threading.main_thread():  # others cannot listen to signals
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous_handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
        self._previous_handlers.clear()
        if error is None and self.num_processes > 1:  # after an error the launcher ends the other processes
            atexit.unregister(_leave_group)
            atexit.register(_leave_group)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._stop:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self._stop = True
        if self.is_main:  # not print: the signal may have interrupted one
            os.write(2, b"\nstopping after this step; once more to stop at once\n")


def _leave_group() -> None:
    """Leave the process group. At exit, not with the runner: leaving and rejoining at once may hang."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _keep_freed_memory() -> None:
    """Let glibc keep what is freed; without effect on other C libraries.

    By default it returns every tensor of more than 32 MiB to the kernel, which clears the memory again for the next:
    about a seventh of the processor time in which ABPN's preset ``small`` trains on one core.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        for parameter in _M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD:
            mallopt(parameter, 2**31 - 1)  # bytes


def _resolve(precision: str, cpu: bool) -> str:
    """Return the precision to train in, "fp32", "bf16" or "fp16"; warn of one that the device only emulates."""
    device = torch.device("cuda" if torch.cuda.is_available() and not cpu else "cpu")
    dtype = resolve_precision(precision, device)
    if dtype == torch.bfloat16 and not computes_in_bf16(device):
        logger.warning("this CPU only emulates bf16, many times slower than fp32; train.precision=auto avoids it")
    return {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]


def _forget_previous() -> None:
    """Let a second Runner choose its own device and precision; accelerate keeps both in process-wide state."""
    from accelerate.state import AcceleratorState, GradientState

    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    AcceleratorState._reset_state(reset_partial_state=not distributed)
    GradientState._reset_state()
