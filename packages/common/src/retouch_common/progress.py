"""The progress bar of all commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


def progress_bar(*, unit: str = "photos", disable: bool = False) -> Progress:
    """Return a progress bar on standard error: description, bar, count, throughput in units/s, time remaining.

    with progress_bar(unit="photos") as bar:
        for photo in bar.track(photos, description="Retouching"): ...
    """
    from rich import progress
    from rich.console import Console
    from rich.text import Text

    class Throughput(progress.ProgressColumn):
        def render(self, task: progress.Task) -> Text:
            seconds = task.finished_time or task.elapsed
            speed = task.completed / seconds if seconds else 0
            return Text(f"{speed:.1f} {unit}/s" if speed else "", style="progress.data.speed")

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        Throughput(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=disable,
    )
