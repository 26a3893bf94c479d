"""A few drawn pictures for the benchmarks' ``--smoke``: as photographs with captions, or as a small world."""

from __future__ import annotations

import csv
from pathlib import Path

from tasks.sample_world import world
from tasks.settings import SampleSource

CAPTIONS = 5  # a picture
SMALL_WORLD = [f"ingest.source.{size}" for size in ("train=32", "fine_tune=8", "calibrate=12", "test=12")]


def draw(folder: Path, train: int, held_out: int = 0) -> Path:
    """Writes ``captions.csv`` (five captions a picture), ``images/``, ``train.txt`` and ``dev.txt``, as Flickr8k has
    them; returns ``folder``. All are the sample's test pictures: their captions say different things."""
    source = SampleSource(train=1, fine_tune=0, calibrate=0, test=train + held_out)
    (folder / "images").mkdir(parents=True)
    names, rows = [], []
    for name, split in world.item_names(source):
        if split == "test":
            item = world.draw(source, name)
            (folder / "images" / f"{name}.jpg").write_bytes(item.image)
            names.append(f"{name}.jpg")
            rows += [(f"{name}.jpg", (item.captions * CAPTIONS)[number]) for number in range(CAPTIONS)]
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *rows])
    (folder / "train.txt").write_text("\n".join(names[:train]), encoding="utf-8")
    (folder / "dev.txt").write_text("\n".join(names[train:]), encoding="utf-8")
    return folder
