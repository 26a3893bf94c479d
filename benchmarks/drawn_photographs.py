"""A few drawn pictures with captions in the place of photographs, for the benchmarks' ``--smoke``."""

from __future__ import annotations

import csv
from pathlib import Path

from tasks.sample_world import world
from tasks.sources.sample import SampleSource

CAPTIONS = 5  # a picture


def draw(folder: Path, train: int, held_out: int = 0) -> Path:
    """Writes ``captions.csv`` (five captions a picture), ``images/``, ``train.txt`` and ``dev.txt``, as Flickr8k has
    them; returns ``folder``."""
    source = SampleSource(train=train + held_out, fine_tune=0, calibrate=0, test=1)
    (folder / "images").mkdir(parents=True)
    names, rows = [], []
    for name, split in world.item_names(source):
        if split == "train":
            item = world.draw(source, name)
            (folder / "images" / f"{name}.jpg").write_bytes(item.image)
            names.append(f"{name}.jpg")
            rows += [(f"{name}.jpg", (item.captions * CAPTIONS)[number]) for number in range(CAPTIONS)]
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *rows])
    (folder / "train.txt").write_text("\n".join(names[:train]), encoding="utf-8")
    (folder / "dev.txt").write_text("\n".join(names[train:]), encoding="utf-8")
    return folder
