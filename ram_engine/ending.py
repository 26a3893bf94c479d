"""How the console command ends before its time: by a signal, or since nobody reads its output any more.

What the engine writes is there whole or not at all, so a process may end at any moment. The person gets a sentence,
clean-up (``finally``) gets a moment, and then the process is gone with its children, whatever its threads are in.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType

from storage.addresses import without_credentials

SIGNALS = {
    signal.SIGINT: "stopped by Ctrl-C",
    signal.SIGTERM: "stopped by a signal",
    signal.SIGHUP: "stopped since its terminal was closed",
}
NOBODY_READS = 128 + signal.SIGPIPE
PATIENCE_SECONDS = 0.4
SERVER_SECONDS = 5.0  # for requests that are under way, and what it has not written yet
SETTLING_SECONDS = 0.02
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
READING = ("plan", "status", "show", "why")
KEPT = {
    **dict.fromkeys(("run", "stage", "refresh", "ablate"), "what is finished is kept, and `{}` goes on from there"),
    **dict.fromkeys(("ui", "join", "server"), "what it knows is kept, and `{}` starts it again"),
    **dict.fromkeys(READING, "nothing was changed, and `{}` begins again"),
}
KEPT_OTHERWISE = "what it has finished stays, and `{}` begins again"


class Ending:
    """Waits for signals in a thread of its own: the main one may be within native code, or in the middle of imports."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.arguments, self.command = arguments, next(iter(arguments), "")
        self.code: int | None = None  # what this process ends with, as soon as that is settled
        self.told = threading.Event()  # that it is being ended
        self.over = False  # whether the command has ended, by itself or not
        self.outputs = os.dup(1), os.dup(2)  # where those led at the start: libraries lead a broken one elsewhere
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` wishes
                signal.signal(number, self._interrupt)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)  # written to at once, whatever the main thread does
        self.waiting = threading.Thread(target=self._wait, args=(reading,), daemon=True, name="signals")
        self.waiting.start()

    def call(self, command: Callable[[], None]) -> None:
        """Calls ``command``, and raises what it raises; where it was ended before its time, this process ends here."""
        failure = _failure(command)
        self.over = True
        if failure is not None:
            time.sleep(SETTLING_SECONDS)  # what a signal has brought about is for the other thread to tell
            if isinstance(failure, KeyboardInterrupt):
                self.told.wait()
            if self.code is None and any(map(_nobody_reads, self.outputs)):
                self._end("stopped since nobody reads its output", NOBODY_READS)
            if self.code is None and isinstance(failure, OSError) and failure.errno in NO_ROOM:
                self._end(f"its output cannot be written ({failure.strerror})", 1)
        if self.code is not None:
            self.told.wait(PATIENCE_SECONDS)
            _leave(self.code)
        self.code = _code(failure)
        if failure is not None:
            raise failure

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if not self.over:
            raise KeyboardInterrupt

    def _wait(self, reading: int) -> None:
        import psutil  # noqa: F401 - only now, so that signals are waited for already, and not when one has come

        while (number := os.read(reading, 1)[0]) not in SIGNALS:
            pass
        if self.code is None:
            self._end(SIGNALS[signal.Signals(number)], 128 + number)
            time.sleep(SERVER_SECONDS if self.command == "server" else PATIENCE_SECONDS)
        _leave(self.code or 0)

    def _end(self, reason: str, code: int) -> None:
        """Says why and what is kept; whatever else is said while all unwinds goes nowhere."""
        self.code = code
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        if code != NOBODY_READS or self.command not in READING:  # `show ram | head` has got what it wanted
            again = KEPT.get(self.command, KEPT_OTHERWISE).format(shlex.join(["ram-engine", *self.arguments]))
            _say(self.outputs[1], f"ram-engine: {reason}; {without_credentials(again)}\n")
        self.told.set()


def _failure(command: Callable[[], None]) -> BaseException | None:
    """What ``command`` raises, except for the end of a good one."""
    try:
        command()
    except BaseException as failure:
        if _code(failure):
            return failure
    try:
        sys.stdout.flush()
    except OSError as failure:
        return failure
    return None


def _say(output: int, sentence: str) -> None:
    """Writes to a file, pipe or terminal; one that is full, held (Ctrl-S) or gone holds nothing up."""
    clean = "\r\x1b[K\x1b[?25h" if os.isatty(output) else ""  # a bar goes, the cursor comes back
    if select.select([], [output], [], 0)[1]:
        with contextlib.suppress(OSError):
            os.write(output, (clean + sentence).encode(errors="replace"))


def _nobody_reads(output: int) -> bool:
    """Whether the other end of a pipe, socket or terminal is closed."""
    polled = select.poll()
    polled.register(output, 0)
    return bool(polled.poll(0))


def _code(failure: BaseException | None) -> int:
    """The exit status that Python gives."""
    if failure is None:
        return 0
    code = failure.code if isinstance(failure, SystemExit) else 1
    return code if isinstance(code, int) else int(code is not None)


def _leave(code: int) -> None:
    """Ends this process and all below it at once, without what Python does at its end: threads would hold that up."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(code)
