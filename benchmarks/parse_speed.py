"""How fast captions become typed phrases, beside ``sng_parser.Parser.parse`` in a loop over the same captions.

    python benchmarks/parse_speed.py --captions captions.csv [--workers 2] [--count 1000] [--memory 2000000] | --smoke

Reads a text file (a caption a line) or a CSV with the columns ``image,caption``. All captions of a measurement are
distinct, so nothing is gained by parsing identical ones once. Ours is the stage's own worker in spawned processes,
Arrow tables included; its start is not counted. ``--memory N`` parses N varied captions more for the peak memory.
The last line of the output is JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import resource
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

# One process a core: a matrix product that starts threads of its own would fight with its neighbours.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import pyarrow as pa

from storage.schemas import contract

CHUNK = 250
CAPTIONS_TO_PROJECT = 14_000_000
_worker: Any = None


def read_captions(path: Path) -> list[str]:
    """The distinct captions of a file, in its order."""
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            captions = [row["caption"].strip() for row in csv.DictReader(file)]
        else:
            captions = [line.strip() for line in file]
    return [caption for caption in dict.fromkeys(captions) if caption]


def gold_captions() -> list[str]:
    """The captions that the parser's quality is measured on."""
    gold = Path(__file__).parents[1] / "tests" / "gold" / "captions.jsonl"
    return [json.loads(line)["caption"] for line in gold.read_text("utf-8").splitlines() if line.strip()]


def varied(captions: Sequence[str]) -> Iterator[str]:
    """Without end, the captions, then each two of them mixed word by word: no two are identical, no word is new."""
    yield from captions
    for distance in range(1, len(captions)):
        for i, caption in enumerate(captions):
            other = captions[(i + distance) % len(captions)].split()
            yield " ".join([*other[: len(other) // 2], *caption.split()[len(caption.split()) // 2 :]])


def start_worker() -> None:
    # Imported where it runs: this process' own memory is part of the peak.
    from tasks.settings.executor import ExecutorSettings
    from tasks.settings.parse_captions import ParseCaptionsSettings
    from tasks.stages import parse_captions

    global _worker
    no_inputs: Any = None  # the stage reads its shard and nothing else
    _worker = parse_captions.build(ParseCaptionsSettings(), no_inputs, ExecutorSettings())
    parse_chunk(["A man rides a horse ."] * 2)


def parse_chunk(captions: list[str]) -> int:
    """Parses one shard, returns this process' peak memory in KiB."""
    ids = [f"{i:016x}" for i in range(len(captions))]
    rows = [{"image_id": one, "captions": [caption]} for one, caption in zip(ids, captions, strict=True)]
    _worker({"pairs": pa.Table.from_pylist(rows, contract("pairs").schema)})
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Workers:
    """Worker processes; at most two chunks a worker are on their way, so the captions may be endless."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.peaks: dict[int, int] = {}
        self.core_seconds = 0.0  # that the workers computed, whatever else the machine did
        self._pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), start_worker)
        list(self._pool.map(time.sleep, [1.0] * count))

    def seconds(self, captions: Iterable[str]) -> float:
        """The time that the captions take, all processes together."""
        source = iter(captions)
        waiting: deque[Future[tuple[int, int, float]]] = deque()
        start = time.perf_counter()
        while chunk := list(islice(source, CHUNK)):
            waiting.append(self._pool.submit(_parse_and_tell, chunk))
            if len(waiting) >= 2 * self.count:
                self._note(waiting.popleft())
        while waiting:
            self._note(waiting.popleft())
        return time.perf_counter() - start

    def _note(self, future: Future[tuple[int, int, float]]) -> None:
        process, peak, seconds = future.result()
        self.peaks[process] = peak
        self.core_seconds += seconds

    def peak_gib(self) -> float:
        """The peak memory of the workers and of this process together."""
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return (own + sum(self.peaks.values())) / 2**20

    def close(self) -> None:
        self._pool.shutdown()


def _parse_and_tell(captions: list[str]) -> tuple[int, int, float]:
    start = time.process_time()
    peak = parse_chunk(captions)
    return os.getpid(), peak, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--captions", type=Path, help="a text file or a CSV; none: the parser's gold captions")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--count", type=int, default=1000, help="distinct captions, three times, of the comparison")
    parser.add_argument("--memory", type=int, default=0, help="varied captions to parse for the peak memory")
    parser.add_argument("--smoke", action="store_true", help="a few captions and one worker: does it run?")
    options = parser.parse_args()
    if options.smoke:
        options.count, options.workers = 20, 1
    captions = read_captions(options.captions) if options.captions else gold_captions()
    count = min(options.count, len(captions))

    workers = Workers(options.workers)
    if options.memory:
        workers.seconds(islice(varied(captions), options.memory))
    # Fresh captions for every measurement: words that were met before are cheaper.
    source = varied(captions)
    cost_of_ten = workers.seconds(islice(source, 10 * count)) / (10 * count)
    peak_gib = workers.peak_gib()

    import sng_parser

    from tasks.parsing.language_model import LANGUAGE_MODEL

    stock_parser = sng_parser.Parser("spacy", model=LANGUAGE_MODEL)
    workers.core_seconds, stock_core_seconds = 0.0, 0.0
    costs, stock_costs, costs_of_ten = [], [], [cost_of_ten]
    # In turn, so that a busy moment of the machine does not fall on one side only.
    for _ in range(3):
        same = list(islice(source, count))
        costs.append(workers.seconds(same) / count)
        start, core_start = time.perf_counter(), time.process_time()
        for caption in same:
            stock_parser.parse(caption)
        stock_costs.append((time.perf_counter() - start) / count)
        stock_core_seconds += time.process_time() - core_start
    one_core = stock_core_seconds / workers.core_seconds
    costs_of_ten.append(workers.seconds(islice(source, 10 * count)) / (10 * count))
    workers.close()
    cost, cost_of_ten, stock_cost = median(costs), median(costs_of_ten), median(stock_costs)

    hours = CAPTIONS_TO_PROJECT * cost_of_ten / 3600
    load = os.getloadavg()[0]
    print(f"{count} distinct captions, {options.workers} workers, load {load:.1f} on {os.cpu_count()} cores")
    print(f"sng_parser in a loop: {1 / stock_cost:8.0f} captions a second")
    print(f"parse-captions:       {1 / cost:8.0f} captions a second, {1 / cost_of_ten:.0f} at ten times the captions")
    print(f"computing time alone: {one_core:.1f} times sng_parser's captions on one core")
    print(f"14 million captions:  {hours:.1f} hours here, {hours * options.workers:.1f} core hours")
    print(f"peak memory:          {peak_gib:.2f} GiB, {options.workers} workers and this process")
    print(
        json.dumps(
            {
                "speedup": round(stock_cost / cost, 2),
                "speedup_one_core": round(one_core, 2),
                "flat": round(cost_of_ten / cost, 3),
                "captions_a_second": round(1 / cost_of_ten),
                "hours_for_14m": round(hours, 2),
                "peak_gib": round(peak_gib, 3),
            }
        )
    )


if __name__ == "__main__":
    main()
