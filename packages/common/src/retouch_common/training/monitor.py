"""What is recorded of a run: metrics.jsonl, a progress line, image sheets and TensorBoard files."""

from __future__ import annotations

import json
import logging
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from retouch_common.files import write_atomically
from retouch_common.training.finite import as_floats
from retouch_common.training.sheets import save_sheet

if TYPE_CHECKING:
    from rich.console import Console

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 30.0  # between progress lines where the output is not a terminal


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Read a metrics.jsonl: NaN and infinite numbers are None, incomplete lines are skipped with a warning."""
    lines = []
    for number, text in enumerate(Path(path).read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        try:
            line = json.loads(text, parse_float=_finite, parse_constant=_finite)
            lines.append({"step": int(line["step"]), **line})
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            logger.warning("%s: line %d is not a complete line of metrics; skipped", path, number)
    return lines


def _finite(number: str) -> float | None:
    value = float(number)
    return value if math.isfinite(value) else None


class Monitor:
    """Averages, writes and shows the losses of steps. Use it as a context manager.

    ``metrics.jsonl`` has one JSON object per line: ``step``, means since the line before (of a loss that not every step
    has, over the steps that have it), ``items_per_second``, and ``seconds`` since the process started. Resuming drops
    the lines after the resumed step. On a terminal progress is one live line, elsewhere a line every
    ``PROGRESS_SECONDS``.

    Args:
        folder: Run directory; created if missing.
        total_steps: Number of the last step.
        start_step: Steps already done.
        items_per_step: Samples in a step over all processes.
        every: Write a line of metrics every so many steps.
        tensorboard: Also write event files to ``folder/tensorboard``.
        enabled: False on all but the main process: nothing is written or shown.
        console: Where progress is shown; standard error by default.

    Raises:
        ValueError: TensorBoard is asked for and not installed.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        total_steps: int,
        start_step: int = 0,
        items_per_step: int = 1,
        every: int = 10,
        tensorboard: bool = False,
        enabled: bool = True,
        console: Console | None = None,
    ):
        self.folder = Path(folder)
        self.total_steps = total_steps
        self.items_per_step = items_per_step
        self.every = every
        self.enabled = enabled
        self._sums: dict[str, torch.Tensor | float] = {}
        self._counts: Counter[str] = Counter()
        self._steps = 0
        self._started = self._window_started = time.monotonic()
        self._printed = -math.inf
        if not enabled:
            return
        from rich.console import Console

        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "metrics.jsonl"
        _drop_after(path, start_step)
        self._writer = _tensorboard(self.folder / "tensorboard", start_step) if tensorboard else None
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed at exit)
        self.console = console or Console(stderr=True)
        self._live = _live_progress(self.console, total_steps, start_step) if self.console.is_terminal else None

    def step(self, step: int, losses: Mapping[str, torch.Tensor | float]) -> None:
        """Add the losses of one step without synchronising the device; write the means every so often."""
        if not self.enabled:
            return
        for name, value in losses.items():
            value = value.detach().float() if isinstance(value, torch.Tensor) else value
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._counts.update(losses.keys())
        self._steps += 1
        if step % self.every == 0 or step == self.total_steps:
            self.flush(step)

    def flush(self, step: int) -> None:
        """Write the means since the last line; call it before a checkpoint, so that resuming repeats it."""
        if not self.enabled or not self._steps:
            return
        means = {name: value / self._counts[name] for name, value in as_floats(self._sums).items()}
        now = time.monotonic()
        seconds_per_step = max((now - self._window_started) / self._steps, 1e-9)
        rate = self.items_per_step / seconds_per_step
        self._sums, self._counts, self._steps, self._window_started = {}, Counter(), 0, now
        self.log(step, {**means, "items_per_second": round(rate, 3), "seconds": round(now - self._started, 3)})
        self._show(step, means, rate, seconds_left=seconds_per_step * (self.total_steps - step))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write one line of metrics now; NaN and infinity become null."""
        if not self.enabled:
            return
        values = {name: value if math.isfinite(value) else None for name, value in as_floats(metrics).items()}
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._writer is not None:
            for name, value in values.items():
                if value is not None:
                    self._writer.add_scalar(name, value, step)

    def sheet(self, step: int, rows: Sequence[Mapping[str, torch.Tensor]]) -> None:
        """Write ``sheets/step-00001000.png``, see :func:`retouch_common.training.sheets.save_sheet`."""
        if not self.enabled:
            return
        path = self.folder / "sheets" / f"step-{step:08d}.png"
        path.parent.mkdir(exist_ok=True)
        save_sheet(path, rows)
        self.message(f"wrote {path}")

    def message(self, text: str) -> None:
        """Print a line above the progress."""
        if self.enabled:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the files and end the live line."""
        if self.enabled and not self._file.closed:
            self._file.close()
            if self._live is not None:
                self._live.stop()
            if self._writer is not None:
                self._writer.close()

    def _show(self, step: int, means: Mapping[str, float], rate: float, *, seconds_left: float) -> None:
        first = next(iter(means.items()), None)
        loss = f"{first[0]} {first[1]:.4g}" if first else ""
        text = f"{loss} · {rate:.3g} items/s · {_clock(seconds_left)} left"
        if self._live is not None:
            self._live.update(self._live.task_ids[0], completed=step, text=text)
        elif time.monotonic() - self._printed >= PROGRESS_SECONDS or step >= self.total_steps:
            self._printed = time.monotonic()
            self.message(f"step {step}/{self.total_steps} · {text}")


def _drop_after(path: Path, step: int) -> None:
    """Rewrite a metrics.jsonl without lines after ``step`` and without incomplete ones."""
    if not path.exists():
        return
    lines = [line for line in read_metrics(path) if line["step"] <= step]
    write_atomically(path, "".join(json.dumps(line) + "\n" for line in lines).encode())


def _tensorboard(folder: Path, start_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError(
            "TensorBoard is not installed: pip install 'retouch-common[tensorboard]', or train without it"
        ) from None
    return SummaryWriter(str(folder), purge_step=start_step + 1)


def _live_progress(console: Console, total_steps: int, start_step: int) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(bar_width=20), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
    progress = Progress(*columns, console=console)
    progress.add_task("training", total=total_steps, completed=start_step, text="")
    progress.start()
    return progress


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
