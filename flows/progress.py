"""Progress with rate and time left: a bar in a terminal, else a line now and then; in Prefect an artifact."""

from __future__ import annotations

import contextlib
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True, highlight=False, soft_wrap=True)
TERMINAL = sys.stderr.isatty()
QUIET_SECONDS = 10.0
ARTIFACT_SECONDS = 2.0


class StageProgress:
    """Told how much is done; shows it no oftener than a reader needs."""

    def __init__(self, name: str, bar: Progress) -> None:
        self.name = name
        self.bar = bar
        self.task = bar.add_task(name, total=None, rate="")
        self.started = self.told = self.drawn = time.monotonic()
        self.artifact: uuid.UUID | None = None

    def __call__(self, done: int, total: int, what: str = "") -> None:
        """``done`` of ``total`` (images, or steps of a training); ``what`` is being done."""
        now = time.monotonic()
        rate = done / max(now - self.started, 1e-9)
        label = f"{self.name} {what}".strip()
        self.bar.update(self.task, completed=done, total=total, description=label, rate=f"{rate:.1f}/s")
        if not TERMINAL and now - self.told > QUIET_SECONDS and 0 < done < total:
            self.told = now
            console.print(f"  {label}: {done:,} of {total:,} at {rate:.1f}/s, {(total - done) / rate:.0f} s left")
        if FlowRunContext.get() is not None and (now - self.drawn > ARTIFACT_SECONDS):
            self.drawn = now
            percent = 100.0 * done / max(total, 1)
            with contextlib.suppress(httpx.TransportError):  # a server that is away for a moment
                if self.artifact is None:
                    self.artifact = create_progress_artifact(percent, description=label)  # type: ignore[assignment]
                else:
                    update_progress_artifact(self.artifact, percent, description=label)


@contextmanager
def stage_progress(name: str) -> Iterator[StageProgress]:
    """A progress display for one stage; the bar goes when the stage ends."""
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not TERMINAL) as bar:
        yield StageProgress(name, bar)
