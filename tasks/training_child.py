"""Runs one training in a process of its own, so that it can be killed, limited and launched on its own terms.

Reads a JSON from standard input, writes JSON lines to standard output: progress as it goes, the parts at the end.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import multiprocessing.forkserver
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from storage.store import Snapshot, Store
from tasks.devices import prepare_process
from tasks.engines import exit_with
from tasks.inputs import Inputs
from tasks.memory import keep_memory
from tasks.settings import EngineSettings, PipelineSettings
from tasks.stages import stage_named


def main() -> None:
    """Trains what standard input asks for."""
    keep_memory()
    task = json.loads(sys.stdin.readline())
    exit_with(task["parent"])
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library that prints must not break the protocol

    stage = stage_named(task["stage"], task["rounds"])
    store = Store(task["store"], create=False)
    snapshots = {alias: Snapshot.from_json(value) for alias, value in task["snapshots"].items()}
    kind = type(stage.settings_of(PipelineSettings()))
    settings = kind.model_validate(task["settings"])
    told = 0.0

    def progress(done: int, total: int, what: str) -> None:
        nonlocal told
        if time.monotonic() - told > 0.5 or done == total:
            told = time.monotonic()
            output.write(json.dumps({"done": done, "total": total, "what": what}) + "\n")

    # The server of job processes loads torch while this process does.
    multiprocessing.set_forkserver_preload(["tasks.training.jobs"])
    multiprocessing.forkserver.ensure_running()
    module: Any = importlib.import_module(stage.entry)
    folder = Path(task["folder"])
    engine = EngineSettings.model_validate(task["engine"])
    prepare_process(engine)
    tables = module.train(settings, Inputs(store, snapshots), engine, folder, progress)
    part = store.write_part(stage.writes[0], task["key"], "", tables["training_log"])
    output.write(json.dumps({"part": asdict(part)}) + "\n")


if __name__ == "__main__":
    main()
