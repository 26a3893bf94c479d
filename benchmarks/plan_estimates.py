"""How near the plan comes to a run: what `ram-engine plan` says of seconds and bytes, beside what the run then took.

    python benchmarks/plan_estimates.py [--source csv:captions.csv] [--preset tiny] [--images 600] [--smoke]

Plans and runs a new store, then again after a tenth more images came (``first`` and ``grown``). Seconds are of the
stages that computed something. Without a source the sample world is drawn. The plan's first guesses are of a quiet
machine with two cores; the second plan knows this machine's pace from the first run.

Prints a table of the stages, and as its last line JSON: for ``first`` and ``grown`` the ``planned_seconds``, the
``seconds``, their ``ratio`` (planned over taken), the ``worst_ratio`` of a stage that took five seconds or more (the
furthest from 1), ``planned_gb`` and ``gb``.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ram_engine import configuration, runs
from storage.store import Store
from tasks.machine.outlook import Request, cost, outlook
from tasks.settings.executor import ExecutorSettings
from tasks.settings.pipeline import PipelineSettings

LONG = 5.0  # seconds from which a stage's ratio counts
SMOKE = ("fine_tune=4", "calibrate=8", "test=8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--smoke", action="store_true", help="a few pictures as far as `screen`: does it run?")
    options = parser.parse_args()
    if options.smoke:
        options.images = 20
    request = Request(until="screen" if options.smoke else "")
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, images in (("first", options.images), ("grown", math.ceil(options.images * 1.1))):
            settings, executor = configured(options, images)
            figures[name] = compared(name, str(Path(folder) / "store"), settings, executor, request)
    print(json.dumps(figures))


def configured(options: argparse.Namespace, images: int) -> tuple[PipelineSettings, ExecutorSettings]:
    """The settings of a run on so many images."""
    if options.source:
        return configuration.configure(options.preset, options.source, [f"ingest.source.limit={images}"])
    sets = [f"ingest.source.{one}" for one in (f"train={images}", *(SMOKE if options.smoke else ()))]
    return configuration.configure(options.preset, sets=sets)


def compared(
    name: str, url: str, settings: PipelineSettings, executor: ExecutorSettings, request: Request
) -> dict[str, float]:
    """Plans, runs, and prints both side by side; the figures."""
    store = Store(url)
    planned = outlook(store, settings, request)
    seconds, stored = cost(planned)
    before, started = size_of(store), time.time()
    runs.run(url, settings, executor, request)
    taken = time.time() - started
    table = Table(name, "rows planned", "rows", "seconds planned", "seconds", box=None)
    ratios = []
    for one in planned:
        snapshot = store.snapshot(one.stage.outputs[0])
        if snapshot is None or snapshot.created < started:
            continue
        took = snapshot.figures["seconds"]
        rows = f"{snapshot.figures['input_rows']:,.0f}"
        table.add_row(one.stage.name, f"{one.rows:,}", rows, f"{one.seconds:.1f}", f"{took:.1f}")
        if took >= LONG and one.seconds:
            ratios.append(one.seconds / took)
    Console(width=120).print(table)
    figures = {
        "planned_seconds": seconds,
        "seconds": taken,
        "ratio": seconds / taken,
        "worst_ratio": max(ratios, key=lambda ratio: abs(math.log(ratio)), default=1.0),
        "planned_gb": stored / 1e9,
        "gb": (size_of(store) - before) / 1e9,
    }
    return {key: round(value, 4) for key, value in figures.items()}


def size_of(store: Store) -> int:
    """The bytes of all files of a store."""
    return sum(file.stat().st_size for file in Path(store.root).rglob("*") if file.is_file())


if __name__ == "__main__":
    main()
