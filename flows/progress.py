"""Progress with rate and time left: a bar in a terminal, else a line now and then; in Prefect an artifact."""

from __future__ import annotations

import contextlib
import contextvars
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from flows.terminal import Terminal
from storage.markdown import plain

console = Terminal(stderr=True)
TERMINAL = sys.stderr.isatty()
QUIET_SECONDS = 10.0
ARTIFACT_SECONDS = 2.0
WINDOW_SECONDS = 60.0


class Pace:
    """How fast it goes: over the last minute, and only from the first piece that is done.

    What comes before (workers are built, models loaded, a first step is compiled) says nothing of what is left.
    """

    def __init__(self) -> None:
        self.points: deque[tuple[float, int]] = deque()

    def __call__(self, done: int, now: float) -> float | None:
        """Pieces a second, once two different counts above zero are known; None before. ``now`` is in seconds."""
        if self.points and done < self.points[-1][1]:
            self.points.clear()  # another piece of work
        if done > 0 and (not self.points or done > self.points[-1][1]):
            self.points.append((now, done))
        while len(self.points) > 2 and now - self.points[1][0] > WINDOW_SECONDS:
            self.points.popleft()
        if len(self.points) < 2:
            return None
        (begun, first), (_, last) = self.points[0], self.points[-1]
        return (last - first) / max(now - begun, 1e-9)


class StageProgress:
    """Told how much is done; shows it no oftener than a reader needs."""

    def __init__(self, name: str, bar: Progress) -> None:
        self.name = name
        self.bar = bar
        self.task = bar.add_task(name, total=None, pace="")
        self.told = self.drawn = time.monotonic()
        self.pace = Pace()
        self.artifact = _Artifact() if FlowRunContext.get() is not None else None

    def __call__(self, done: int, total: int, what: str = "") -> None:
        """``done`` of ``total`` (images, or steps of a training); ``what`` is being done."""
        now = time.monotonic()
        pace = self.pace(done, now)
        label = f"{self.name} {what}".strip()
        told = f"{pace:.1f}/s, {(total - done) / pace:,.0f} s left" if pace else ""
        self.bar.update(self.task, completed=done, total=total, description=label, pace=told)
        if not TERMINAL and now - self.told > QUIET_SECONDS and 0 < done < total:
            self.told = now
            console.print(f"  {label}: {done:,} of {total:,}" + (f" at {told}" if told else ""))
        if self.artifact is not None and now - self.drawn > ARTIFACT_SECONDS:
            self.drawn = now
            self.artifact.show(100.0 * done / max(total, 1), plain(label))


class _Artifact:
    """The bar in Prefect, sent by a thread of its own: a server that is slow, away or refuses holds no work up."""

    def __init__(self) -> None:
        self.latest = (0.0, "")
        self.news = threading.Event()
        self.over = False
        self.thread: threading.Thread | None = None

    def show(self, percent: float, label: str) -> None:
        """Hands over what the thread sends as soon as the one before is through."""
        self.latest = (percent, label)
        self.news.set()
        if self.thread is None:
            context = contextvars.copy_context()  # which run the bar is of
            self.thread = threading.Thread(target=context.run, args=(self._send,), daemon=True, name="progress")
            self.thread.start()

    def close(self) -> None:
        """Sends nothing more, and does not wait for what is on its way."""
        self.over = True
        self.news.set()

    def _send(self) -> None:
        made: uuid.UUID | None = None
        while self.news.wait() and not self.over:
            self.news.clear()
            percent, label = self.latest
            with contextlib.suppress(Exception):  # whatever hinders a bar, the next one may get through
                if made is None:
                    made = create_progress_artifact(percent, description=label)  # type: ignore[assignment]
                else:
                    update_progress_artifact(made, percent, description=label)


@contextmanager
def stage_progress(name: str) -> Iterator[StageProgress]:
    """A progress display for one stage; the bar goes when the stage ends."""
    columns = (
        TextColumn("  {task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[pace]}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not TERMINAL) as bar:
        progress = StageProgress(name, bar)
        try:
            yield progress
        finally:
            if progress.artifact is not None:
                progress.artifact.close()
