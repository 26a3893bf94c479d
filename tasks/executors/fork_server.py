"""The process that trainings are forked from: it has loaded torch and their code, once."""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
from multiprocessing.context import ForkServerContext

from tasks.executors import sockets
from tasks.executors.parents import unaware_of_interrupts


def fork_server() -> ForkServerContext:
    """Starts the server, unless it runs, and returns at once: it loads torch while this process does other things."""
    sockets.make_room()
    context: ForkServerContext = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tasks.training.preloaded"])
    with unaware_of_interrupts():
        multiprocessing.forkserver.ensure_running()
    return context
