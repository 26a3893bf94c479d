"""Runs one training in a process of its own, so that it can be killed and limited, and leaves no memory behind.

Such processes are forked by a server that has loaded torch and the training code once (multiprocessing's forkserver):
a small training would spend most of its time on imports otherwise. The server ends with the process that asked for it.
"""

from __future__ import annotations

import importlib
import multiprocessing
import multiprocessing.forkserver
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from storage.store import DamagedPartError, Part, Snapshot, Store
from tasks.engines import exit_with_creator
from tasks.inputs import Inputs
from tasks.settings import EngineSettings, Settings
from tasks.stages import stage_named


@dataclass(frozen=True)
class Order:
    """What to train: the stage, its settings and pinned inputs, and the folder that the model is made in."""

    stage: str
    rounds: int
    store: str
    settings: Settings
    engine: EngineSettings
    snapshots: Mapping[str, Snapshot]
    folder: str
    key: str


@dataclass(frozen=True)
class Progress:
    """How far the training is."""

    done: int
    total: int
    what: str


def load_ahead() -> ForkServerContext:
    """Starts the server, unless it runs, and returns at once: it loads torch while this process does other things."""
    context: ForkServerContext = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tasks.training.jobs"])
    multiprocessing.forkserver.ensure_running()
    return context


def start(order: Order, log: Path) -> tuple[BaseProcess, Connection]:
    """Starts the training; its messages are :class:`Progress` and at the end the ``Part`` of its curves, or the
    ``DamagedPartError`` that stopped it.

    Whatever it prints goes into ``log``.
    """
    context = load_ahead()
    messages, sender = context.Pipe(duplex=False)
    process = context.Process(target=_train, args=(order, sender, str(log)), name=order.stage)
    process.start()
    sender.close()
    return process, messages


def _train(order: Order, messages: Connection, log: str) -> None:
    exit_with_creator()
    with open(log, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from tasks.devices import prepare_process  # torch only where a model is trained

    stage = stage_named(order.stage, order.rounds)
    store = Store(order.store, create=False)
    told = 0.0

    def progress(done: int, total: int, what: str) -> None:
        nonlocal told
        if time.monotonic() - told > 0.5 or done == total:
            told = time.monotonic()
            messages.send(Progress(done, total, what))

    module: Any = importlib.import_module(stage.entry)
    prepare_process(order.engine)
    inputs = Inputs(store, order.snapshots)
    try:
        tables = module.train(order.settings, inputs, order.engine, Path(order.folder), progress)
    except DamagedPartError as error:
        messages.send(error)
        raise
    part: Part = store.write_part(stage.writes[0], order.key, "", tables["training_log"])
    messages.send(part)
