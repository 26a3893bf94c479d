"""Runs of the preset `tiny` that can be killed: forked from a process that has loaded everything, so that they start at
once. This module is what that process loads."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import sys
from pathlib import Path

import flows.pipeline
import tasks.annotators
import tasks.assign_tags
import tasks.build_labels
import tasks.encode
import tasks.evaluate
import tasks.generate
import tasks.ground
import tasks.ingest
import tasks.judge
import tasks.parse_captions
import tasks.report.write
import tasks.training.jobs  # noqa: F401
from ram_engine.configuration import configure


def start(store: Path, kind: str = "threads", preset: str = "tiny") -> multiprocessing.process.BaseProcess:
    """Starts a run of the whole pipeline; it reports to the server of PREFECT_API_URL."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.killable"])
    run = context.Process(target=_run, args=(str(store), kind, preset))
    run.start()
    return run


def _run(store: str, kind: str, preset: str) -> None:
    os.setsid()
    with open(f"{store}.log", "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    settings, engine = configure(preset)
    flows.pipeline.pipeline(store, settings, engine.model_copy(update={"kind": kind}))
