"""Runs in processes of their own that can be killed, and start at once: forked from one that has loaded everything."""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from tasks.executors.parents import exit_with_creator
from tasks.machine.dag import stages

LOADED = ["ram_engine.cli", "flows.pipeline", "tasks.annotators.models", "tasks.report.write", "tasks.training.jobs"]


def load() -> ForkServerContext:
    """Starts the process that loads everything, unless it runs, and returns at once."""
    context: ForkServerContext = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*LOADED, *(stage.entry for stage in stages(1))])
    multiprocessing.forkserver.ensure_running()
    return context


def start(store: Path, kind: str = "threads") -> BaseProcess:
    """Starts a run of the preset `tiny`; it reports to the server of PREFECT_API_URL."""
    run = load().Process(target=_run, args=(dict(os.environ), str(store), kind))
    run.start()
    return run


def command(
    arguments: Sequence[str], out: Path, err: Path, environment: Mapping[str, str] | None = None
) -> BaseProcess:
    """Starts the console command, which writes to two files; ``environment`` is this process' unless it is given."""
    run = load().Process(target=_command, args=(dict(environment or os.environ), list(arguments), str(out), str(err)))
    run.start()
    return run


def _run(environment: Mapping[str, str], store: str, kind: str) -> None:
    from flows.pipeline import pipeline
    from ram_engine.configuration import configure

    os.setsid()
    _begin(environment, f"{store}.log", f"{store}.log")
    settings, executor = configure("tiny")
    pipeline(store, settings, executor.model_copy(update={"kind": kind}))


def _command(environment: Mapping[str, str], arguments: list[str], out: str, err: str) -> None:
    from ram_engine.__main__ import main

    os.setsid()
    _begin(environment, out, err)
    sys.argv = ["ram-engine", *arguments]
    main()


def _begin(environment: Mapping[str, str], out: str, err: str) -> None:
    """Makes this process one that was started with ``environment`` and that writes to two files."""
    from prefect.context import refresh_global_settings_context

    exit_with_creator()
    for number, file in ((1, out), (2, err)):
        with open(file, "a") as opened:
            os.dup2(opened.fileno(), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    os.environ.clear()
    os.environ.update(environment)
    refresh_global_settings_context()
