"""Processes that end with the one that started them, even where it was killed."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker

PR_SET_PDEATHSIG = 1  # of Linux


def end_with(descriptor: int) -> None:
    """Ends this process as soon as the other end of a pipe is closed, as by the end of its owner, however that comes.

    The kernel does it, by a signal: a thread would wait for imports and other native code.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([descriptor], [], [], 0)[0]:  # it was closed before
        os._exit(1)


def exit_with_creator() -> None:
    """Ends this process, one of multiprocessing's, as soon as the one that started it has ended, even by a kill."""
    creator = multiprocessing.parent_process()
    if creator is None:
        raise RuntimeError("this process was not started by multiprocessing")
    end_with(creator.sentinel)


def exit_with(parent: int) -> None:
    """Ends this process within a second of the end of its ``parent``, even where that was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch-parent").start()


@contextlib.contextmanager
def ending_with_parent() -> Iterator[None]:
    """Within it Linux ends this process with the thread that started it; elsewhere it ends when it notices."""
    if sys.platform != "linux":
        yield
        return
    call = ctypes.CDLL(None, use_errno=True).prctl
    call(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == 1:  # it has ended already
        os._exit(1)
    yield
    call(PR_SET_PDEATHSIG, 0, 0, 0, 0)


@contextlib.contextmanager
def unaware_of_interrupts() -> Iterator[None]:
    """Processes that are started within it do not get Ctrl-C, which a terminal sends to all: they end with this one."""
    resource_tracker.ensure_running()  # whose start would let the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
