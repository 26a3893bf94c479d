"""Processes that end with the one that started them, even where it was killed."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
import time


def exit_with_creator() -> None:
    """Ends this process, one of multiprocessing's, as soon as the one that started it has ended, even by a kill."""
    creator = multiprocessing.parent_process()
    if creator is None:
        raise RuntimeError("this process was not started by multiprocessing")
    sentinel = creator.sentinel

    def watch() -> None:
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch-creator").start()


def exit_with(parent: int) -> None:
    """Ends this process within a second of the end of its ``parent``, even where that was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch-parent").start()
