"""What a command and all processes below it read, write and hold, watched from outside through Linux's ``/proc``."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PAUSE = 0.05  # seconds between two samples
MAPS_EVERY, DISK_EVERY = 10, 100  # samples: what costs more is looked at less often
COUNTS = ("cpu", "read", "written")
TICKS = os.sysconf("SC_CLK_TCK")  # a second
SUBREAPER = 36  # prctl's PR_SET_CHILD_SUBREAPER


@dataclass(frozen=True)
class Span:
    """What a process tree took in some ``seconds``: ``cpu`` seconds, and bytes.

    ``read`` and ``written`` are ``rchar`` and ``wchar``, those of processes that ended included; a file that is mapped
    counts as read once. ``peak`` is the most that the largest process held; ``private`` the same without files that are
    mapped and shared.
    """

    seconds: float = 0
    cpu: float = 0
    read: float = 0
    written: float = 0
    peak: int = 0
    private: int = 0

    def __add__(self, other: Span) -> Span:
        return Span(
            self.seconds + other.seconds,
            self.cpu + other.cpu,
            self.read + other.read,
            self.written + other.written,
            max(self.peak, other.peak),
            max(self.private, other.private),
        )


@dataclass(frozen=True)
class Sample:
    """A moment of a process tree at ``time`` (seconds since the epoch): counts since it began, and as in :class:`Span`.

    ``peak`` is the most that a process ever held where that is new, else what it holds now.
    """

    time: float
    cpu: float
    read: int
    written: int
    peak: int
    private: int


@dataclass(frozen=True)
class Watched:
    """A command that has ended: its exit code, its samples in order of time, and the most bytes in its folder."""

    code: int
    samples: Sequence[Sample]
    disk: int

    @property
    def began(self) -> float:
        """Seconds since the epoch."""
        return self.samples[0].time

    @property
    def ended(self) -> float:
        """Seconds since the epoch."""
        return self.samples[-1].time

    @property
    def whole(self) -> Span:
        return self.span(self.began, self.ended)

    def span(self, began: float, ended: float) -> Span:
        """What was taken from one time to another; counts between two samples are taken to grow evenly."""
        cpu, read, written = (self._count(ended, name) - self._count(began, name) for name in COUNTS)
        inside = self.samples[self._after(began) : self._after(ended) + 1]
        peak, private = max(one.peak for one in inside), max(one.private for one in inside)
        return Span(ended - began, cpu, read, written, peak, private)

    def _count(self, time_: float, name: str) -> float:
        after = max(self._after(time_), 1)
        first, second = self.samples[after - 1], self.samples[after]
        share = min(max((time_ - first.time) / (second.time - first.time), 0.0), 1.0)
        return float((1 - share) * getattr(first, name) + share * getattr(second, name))

    def _after(self, time_: float) -> int:
        """The place of the first sample at or after a time, else of the last one."""
        return min(bisect_left(self.samples, time_, key=lambda sample: sample.time), len(self.samples) - 1)


def watch(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], stop: Callable[[], bool] = lambda: False
) -> Watched:
    """Runs ``command`` in ``folder``, its output in ``log.txt`` there; kills its group as soon as ``stop`` says so.

    Files below ``folder``, or among the temporary ones, that a process maps count as read. Returns when all processes
    of the tree have ended.
    """
    # What outlives its parent becomes a child of this process, so that nothing leaves the tree unseen.
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    tree = _Tree(folder)
    with (folder / "log.txt").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=dict(environment), stdout=output, stderr=output, start_new_session=True
        )
    samples = [tree.sample()]
    while tree.living:
        if stop():
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(PAUSE)
        samples.append(tree.sample())
    code = process.wait()
    for pid in tree.states:
        with suppress(ChildProcessError):  # its parent waited for it
            os.waitpid(pid, 0)
    return Watched(code, samples, max(tree.disk, size_of(folder)))


def size_of(folder: Path) -> int:
    """The bytes of all files below a folder."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # it has gone meanwhile
                total += os.lstat(f"{place}/{name}").st_size
    return total


class _Tree:
    """The processes below this one that begin from now on. One that has ended can be read until it is waited for; from
    then on its parent has its counts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.data = (f"{self.folder}/", f"{Path(tempfile.gettempdir()).resolve()}/")
        self.others = {pid for pid, _, _ in _descendants()}
        self.states: dict[int, str] = {}  # by process
        self.most: dict[int, int] = {}  # bytes that a process held, by its id
        self.mapped: dict[tuple[int, str], int] = {}  # bytes of files that were mapped
        self.cpu, self.read, self.written, self.disk, self.number = 0.0, 0, 0, 0, 0

    @property
    def living(self) -> bool:
        return any(state != "Z" for state in self.states.values())

    def sample(self) -> Sample:
        """Looks at all processes once."""
        read = written = peak = private = 0
        processes = [process for process in _descendants() if process[0] not in self.others]
        self.states = {pid: state for pid, state, _ in processes}
        for pid in self.states:
            with suppress(OSError):  # it has gone meanwhile
                counts = _numbers(f"/proc/{pid}/io")
                read, written = read + counts["rchar"], written + counts["wchar"]
                held = _numbers(f"/proc/{pid}/status")  # of one that has ended without its memory
                most, now = 1024 * held.get("VmHWM", 0), 1024 * held.get("VmRSS", 0)
                peak = max(peak, most if most > self.most.get(pid, 0) else now)
                private = max(private, 1024 * held.get("RssAnon", 0))
                self.most[pid] = most
                if self.number % MAPS_EVERY == 0:
                    self._look_at_maps(pid)
        if self.number % DISK_EVERY == 0:
            self.disk = max(self.disk, size_of(self.folder))
        self.number += 1
        # one that is waited for between the looks at it and at its parent is in neither: nothing is taken back
        self.cpu = max(self.cpu, sum(seconds for _, _, seconds in processes))
        self.read, self.written = max(self.read, read), max(self.written, written)
        return Sample(time.time(), self.cpu, self.read + sum(self.mapped.values()), self.written, peak, private)

    def _look_at_maps(self, pid: int) -> None:
        for line in _text(f"/proc/{pid}/maps").splitlines():
            place, *_, file = line.split(maxsplit=5)
            if file.startswith(self.data) and (pid, file) not in self.mapped:
                self.mapped[pid, file] = os.stat(f"/proc/{pid}/map_files/{place}").st_size


def _descendants() -> Iterator[tuple[int, str, float]]:
    """All processes below this one: their ids, states and cpu seconds, with those of children that they waited for."""
    children: dict[int, list[tuple[int, str, float]]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                state, parent, *others = _text(f"/proc/{name}/stat").rpartition(")")[2].split()
                children.setdefault(int(parent), []).append((int(name), state, sum(map(int, others[9:13])) / TICKS))
    waiting = [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(), [])
        yield from below
        waiting += [pid for pid, _, _ in below]


def _numbers(file: str) -> dict[str, int]:
    """The numbers of lines such as ``VmHWM:  1234 kB``, by name."""
    lines = (line.split(maxsplit=2) for line in _text(file).splitlines())
    return {words[0][:-1]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def _text(file: str) -> str:
    with open(file, "rb", buffering=0) as opened:
        return (opened.read() or b"").decode(errors="replace")
