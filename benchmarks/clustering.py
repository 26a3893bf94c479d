"""Seconds and memory of the stage `fit-clusters` for growing numbers of regions.

``python benchmarks/clustering.py [--regions 20000 200000 1000000] [--tags 500] [--width 512]`` makes region features
whose tags are as unevenly frequent as in real corpora (Zipf), writes them as parts of a store, and clusters them with
the default settings, each number in a process of its own. Prints a table, and as its last line JSON: ``seconds`` by
number of regions, ``linearity`` (what a region costs at the largest number, over what it costs at the one before),
``peak_memory_gb``, ``same_for_workers`` (whether one and two workers give equal clusters), ``projected_hours`` for 4M
and 14M images at five regions an image.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from storage.store import Snapshot, Store
from tasks.machine.inputs import Inputs
from tasks.settings.executor import ExecutorSettings
from tasks.settings.fit_clusters import FitClustersSettings
from tasks.stages.fit_clusters import reduce

PART = 5_000  # regions
LOOKS = 4  # that a tag's regions have
REGIONS_AN_IMAGE = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=int, nargs="+", default=[20_000, 200_000, 1_000_000])
    parser.add_argument("--tags", type=int, default=500)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--smoke", action="store_true", help="a thousand small regions: does it run?")
    options = parser.parse_args()
    if options.smoke:
        options.regions, options.tags, options.width = [500, 1_000], 10, 16
    seconds: dict[int, float] = {}
    peaks, same = [], True
    table = Table("regions", "clusters", "seconds", "microseconds a region", "peak GB", "one worker = two", box=None)
    for count in options.regions:
        with tempfile.TemporaryDirectory() as folder:
            in_process(write_regions, folder, count, options.tags, options.width)
            clusters, seconds[count], peak = in_process(measure, folder, 2)
            equal = "not compared"
            if count < options.regions[-1]:
                alone, _, _ = in_process(measure, folder, 1)
                same = same and alone == clusters
                equal = str(alone == clusters)
        peaks.append(peak)
        cost = f"{seconds[count] / count * 1e6:.0f}"
        table.add_row(f"{count:,}", f"{len(clusters):,}", f"{seconds[count]:.1f}", cost, f"{peak:.2f}", equal)
    Console(width=120).print(table)
    last = options.regions[-1]
    before = options.regions[-2] if len(options.regions) > 1 else last
    hours = {images: images * REGIONS_AN_IMAGE * seconds[last] / last / 3600 for images in (4_000_000, 14_000_000)}
    figures = {
        "seconds": {str(count): round(value, 2) for count, value in seconds.items()},
        "linearity": round(seconds[last] / last / (seconds[before] / before), 3),
        "peak_memory_gb": round(max(peaks), 2),
        "same_for_workers": same,
        "projected_hours": {str(images): round(value, 2) for images, value in hours.items()},
    }
    print(json.dumps(figures))


def in_process(function, *arguments):  # type: ignore[no-untyped-def]
    """What a function returns in a process of its own, whose memory is its own too."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def write_regions(folder: str, count: int, tags: int, width: int) -> None:
    """Regions of tags whose frequencies fall as 1, 1/2, 1/3, .., each tag with some looks of its own."""
    chance = np.random.default_rng(0)
    frequency = 1 / np.arange(1, tags + 1)
    looks = chance.normal(size=(tags, LOOKS, width)).astype(np.float32)
    store, parts = Store(folder), []
    for start in range(0, count, PART):
        size = min(PART, count - start)
        tag = chance.choice(tags, size, p=frequency / frequency.sum())
        vectors = looks[tag, chance.integers(LOOKS, size=size)] + chance.normal(size=(size, width)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        image = np.sort(chance.integers(2**62, size=1 + size // REGIONS_AN_IMAGE))
        boxes = chance.random((size, 4)).astype(np.float32)
        table = pa.table(
            {
                "image_id": [f"{image[at // REGIONS_AN_IMAGE]:016x}" for at in range(size)],
                "tag_id": pa.array(tag, pa.int32()),
                "box": pa.FixedSizeListArray.from_arrays(pa.array(boxes.ravel()), 4),
                "detector_score": pa.array(np.ones(size, np.float32)),
                "tag_score": pa.array(np.ones(size, np.float32)),
                "feature": pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float16).ravel()), width),
            }
        )
        parts.append(store.write_part("regions", f"{start:016x}", f"p{start}", table))
    store.publish(Snapshot("regions", "a" * 16, "benchmark", "benchmark", parts=tuple(parts)))


def measure(folder: str, workers: int) -> tuple[list[dict[str, object]], float, float]:
    """The clusters, seconds, and the most GB that this process held."""
    store = Store(folder, create=False)
    snapshot = store.snapshot("regions")
    if snapshot is None:
        raise SystemExit("no regions were written")
    started = time.perf_counter()
    clusters = reduce(FitClustersSettings(), Inputs(store, {"regions": snapshot}), ExecutorSettings(workers=workers))
    seconds = time.perf_counter() - started
    rows = [{**row, "centroid": tuple(row["centroid"])} for row in clusters["clusters"].to_pylist()]
    return rows, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
