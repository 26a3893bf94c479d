"""Whether `screen` finds altered copies of photographs, takes other photographs for copies, and what it costs.

    python benchmarks/screening.py --photographs ../shared/data/flickr8k [--count 2000] | --smoke

Altered copies of the photographs go beside them, 100 of each kind; the pipeline runs up to `screen`. A copy is found
where it and its original are near-duplicates by the default settings. Then the search alone is timed on vectors of
growing number, among which a twentieth are near copies.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from drawn_photographs import draw
from PIL import Image, ImageEnhance, ImageOps

from storage.store import Store
from tasks.images.near_duplicates import find
from tasks.settings.screen import ScreenSettings

COPIES = 100
Change = Callable[[Image.Image], Image.Image]


def cropped(share: float) -> Change:
    """Without ``share`` of the width and height at each edge."""
    return lambda image: ImageOps.crop(image, round(share * min(image.size)))


CHANGES: dict[str, tuple[Change, int]] = {  # and the quality of its JPEG
    "smaller": (lambda image: image.resize((160, 160)), 90),
    "quality 40": (lambda image: image, 40),
    "brighter": (lambda image: ImageEnhance.Brightness(image).enhance(1.2), 90),
    "grey": (lambda image: image.convert("L"), 90),
    "cropped 3%": (cropped(0.03), 90),
    "cropped 8%": (cropped(0.08), 90),
    "mirrored": (ImageOps.mirror, 90),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--copies", type=int, default=COPIES, help="altered ones of each kind")
    parser.add_argument("--smoke", action="store_true", help="a few drawn pictures: does it run?")
    asked = parser.parse_args()
    sizes = (10_000, 20_000, 40_000, 80_000)
    with tempfile.TemporaryDirectory() as folder:
        if asked.smoke:
            asked.photographs, asked.count, asked.copies, sizes = draw(Path(folder) / "drawn", 14), 14, 2, (1_000,)
        elif asked.photographs is None:
            parser.error("name the folder of photographs with --photographs")
        copies = write_source(asked, Path(folder))
        options = ["--until", "screen", "--set", "effort=quick", "--source", f"csv:{folder}/captions.csv"]
        order = [sys.executable, "-m", "ram_engine", "run", "--store", f"{folder}/store", *options]
        subprocess.run(order, check=True, stdout=sys.stderr)
        found, wrong, others = judged(Store(f"{folder}/store", create=False), copies, asked.copies)
    for kind, share in found.items():
        print(f"{kind:12} {share:.0%} found")
    print(f"{wrong} of {others:,} pairs of other photographs are taken for copies")
    seconds = {}
    for count in sizes:
        seconds[count], share = timed(count)
        print(f"{count:7,} vectors: {seconds[count]:5.1f} s, {share:.1%} of the near copies found")
    print(json.dumps({"found": found, "wrong_pairs": wrong, "seconds": seconds, "recall": share}))


def write_source(asked: argparse.Namespace, folder: Path) -> dict[str, tuple[str, str]]:
    """The CSV and its images; returns each copy with its kind and its original."""
    captions: dict[str, str] = {}
    with (asked.photographs / "captions.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            captions.setdefault(row["image"], row["caption"])
    names = list(captions)[: asked.count]
    images = folder / "images"
    images.mkdir()
    copies: dict[str, tuple[str, str]] = {}
    for name in names:
        (images / name).write_bytes((asked.photographs / "images" / name).read_bytes())
    for place, (kind, (change, quality)) in enumerate(CHANGES.items()):
        for name in names[place * asked.copies : (place + 1) * asked.copies]:
            data = io.BytesIO()
            with Image.open(images / name) as image:
                change(image.convert("RGB")).save(data, "JPEG", quality=quality)
            copy = f"{place}-{name}"
            (images / copy).write_bytes(data.getvalue())
            copies[copy] = (kind, name)
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [(name, captions[name]) for name in names]
        rows += [(copy, captions[original]) for copy, (_, original) in copies.items()]
        csv.writer(file).writerows([("image", "caption"), *rows])
    return copies


def judged(store: Store, copies: dict[str, tuple[str, str]], of_each: int) -> tuple[dict[str, float], int, int]:
    """The share of the copies that were found, by kind; pairs of other photographs taken for copies, of how many."""
    pairs, measures = store.snapshot("pairs"), store.snapshot("measures")
    assert pairs is not None
    assert measures is not None
    name_of = {row["image_id"]: row["names"][0] for row in store.table(pairs, ["image_id", "names"]).to_pylist()}
    table = store.table(measures, ["image_id", "vector", "hash"])
    names = [name_of[image_id] for image_id in table["image_id"].to_pylist()]
    vectors = np.array(table["vector"].to_pylist(), np.float16)
    settings = ScreenSettings()
    near = find(vectors, table["hash"].to_numpy(), settings.hash_bits, settings.least_cosine)
    together = {frozenset((names[first], names[second])) for first, second in near.pairs.tolist()}
    found = {
        kind: sum(frozenset((copy, original)) in together for copy, (one, original) in copies.items() if one == kind)
        / of_each
        for kind in CHANGES
    }
    right = {frozenset((copy, original)) for copy, (_, original) in copies.items()}
    return found, len(together - right), len(names) * (len(names) - 1) // 2 - len(right)


def timed(count: int) -> tuple[float, float]:
    """Seconds of a search among ``count`` vectors in 100 groups, and the share of the near copies that it finds."""
    chance = np.random.default_rng(0)
    groups = chance.standard_normal((100, 128))
    vectors = groups[chance.integers(100, size=count)] + chance.standard_normal((count, 128))
    copies = count // 20
    vectors[:copies] = vectors[copies : 2 * copies] + 0.2 * chance.standard_normal((copies, 128))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    hashes = chance.integers(2**63, size=count).astype(np.uint64)
    started = time.perf_counter()
    near = find(vectors.astype(np.float16), hashes, 4, 0.94)
    seconds = time.perf_counter() - started
    pairs = {tuple(pair) for pair in near.pairs.tolist()}
    return seconds, sum((at, at + copies) in pairs for at in range(copies)) / copies


if __name__ == "__main__":
    main()
