"""Corpora of any size, made on the spot from a folder of pictures: large photographs, or rows of small pictures.

What is made depends on the folder and on the numbers that are asked for alone.
"""

from __future__ import annotations

import csv
import io
import os
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageChops

from tasks.sample_world import world
from tasks.sources.sample import SampleSource

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
NOISE, QUALITY = 5, 85  # grey levels, and JPEG's quality: so photographs of 6 megapixels weigh 1.1 MB
SIDE, CELLS = 32, 8  # pixels of a small picture, and the coloured cells that it is made of, each way
SHARD, GROUP = 8_192, 256  # rows of a Parquet file, and of a row group in it


@dataclass(frozen=True)
class Pictures:
    """Files of pictures with captions, one or more each."""

    files: Sequence[Path]
    captions: Sequence[Sequence[str]]


def read_pictures(folder: Path) -> Pictures:
    """The pictures below ``folder`` that ``captions.csv`` (`image,caption`, images in ``images/``) names; without it
    all there are, with captions of the sample world."""
    if not (folder / "captions.csv").is_file():
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
        sample = SampleSource(train=len(files))
        names = [name for name, _ in world.item_names(sample)[: len(files)]]
        return Pictures(files, [[caption.text for caption in world.captions(sample, name)] for name in names])
    captions: dict[str, list[str]] = defaultdict(list)
    with (folder / "captions.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            captions[row["image"]].append(row["caption"])
    return Pictures([folder / "images" / name for name in captions], list(captions.values()))


def make_photographs(pictures: Pictures, folder: Path, count: int, megapixels: float) -> list[Path]:
    """JPEGs of 3 : 2 in ``images/``, and ``captions.csv`` with one caption each; files that are there stay as they
    are."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    size = round(1.5 * height), height
    numbered = enumerate(islice(cycle(zip(pictures.files, pictures.captions, strict=True)), count))
    photographs, rows, missing = [], [], []
    for number, (source, captions) in numbered:
        photograph = images / f"{number:07d}.jpg"
        photographs.append(photograph)
        rows.append((photograph.name, captions[number // len(pictures.files) % len(captions)]))
        if not photograph.exists():
            missing.append((photograph, source))
    _in_processes(partial(_make_photograph, size), missing)
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *rows])
    return photographs


def _make_photograph(size: tuple[int, int], photograph_and_source: tuple[Path, Path]) -> None:
    """A crop of the source, enlarged, with noise like a sensor's: else it would weigh little and decode too fast."""
    photograph, source = photograph_and_source
    chance = np.random.default_rng(int(photograph.stem))
    with Image.open(source) as opened:
        picture = opened.convert("RGB")
    share = chance.uniform(0.7, 1)
    width = share * min(picture.width, 1.5 * picture.height)
    x, y = chance.uniform(0, picture.width - width), chance.uniform(0, picture.height - width / 1.5)
    picture = picture.resize(size, Image.Resampling.BILINEAR, (x, y, x + width, y + width / 1.5))
    at = [int(chance.integers(0, 256)) for _ in size]
    noise = _noise(*size).crop((at[0], at[1], at[0] + size[0], at[1] + size[1]))
    written = photograph.with_suffix(".writing")
    ImageChops.add(picture, noise, 1, -128).save(written, "JPEG", quality=QUALITY)
    written.replace(photograph)


@cache
def _noise(width: int, height: int) -> Image.Image:
    levels = np.random.default_rng(0).normal(128, NOISE, (height + 256, width + 256))
    return Image.merge("RGB", [Image.fromarray(levels.clip(0, 255).astype(np.uint8))] * 3)


def make_rows(captions: Sequence[str], folder: Path, count: int, kind: str) -> str:
    """``count`` pictures of 32 x 32 pixels with a caption each, in the empty ``folder``; returns the ``--source``.

    ``kind`` is ``parquet`` (files of a Hugging Face data set) or ``csv`` (a file a picture). A caption is the beginning
    of one of ``captions`` and the end of another; its picture shows its words as colours.
    """
    write = partial(_write_parquet if kind == "parquet" else _write_files, tuple(captions), folder)
    shards = [range(start, min(start + SHARD, count)) for start in range(0, count, SHARD)]
    written = list(_in_processes(write, shards))
    if kind == "parquet":
        return f"huggingface:{folder}"
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *(row for rows in written for row in rows)])
    return f"csv:{folder / 'captions.csv'}"


def _write_parquet(captions: Sequence[str], folder: Path, numbers: range) -> None:
    rows = [
        {"image": {"bytes": image, "path": None}, "caption": caption} for caption, image in _rows(captions, numbers)
    ]
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.Table.from_pylist(rows, pa.schema([("image", image), ("caption", pa.string())]))
    pq.write_table(table, folder / f"{numbers.start:09d}.parquet", row_group_size=GROUP)


def _write_files(captions: Sequence[str], folder: Path, numbers: range) -> list[tuple[str, str]]:
    images = folder / "images" / f"{numbers.start:09d}"
    images.mkdir(parents=True)
    rows = []
    for number, (caption, image) in zip(numbers, _rows(captions, numbers), strict=True):
        file = images / f"{number:09d}.jpg"
        file.write_bytes(image)
        rows.append((f"{images.name}/{file.name}", caption))
    return rows


def _rows(captions: Sequence[str], numbers: range) -> Iterable[tuple[str, bytes]]:
    chance = np.random.default_rng(numbers.start)
    for first, second in chance.integers(len(captions), size=(len(numbers), 2)).tolist():
        beginning, end = captions[first].split(), captions[second].split()
        words = beginning[: len(beginning) // 2] + end[len(end) // 2 :]
        yield " ".join(words), _shown(words, chance)


def _shown(words: Sequence[str], chance: np.random.Generator) -> bytes:
    """The words as colours at random places, with noise, as a JPEG: no two pictures are alike."""
    colours = np.array([tuple(zlib.crc32(word.encode()).to_bytes(4, "big")[:3]) for word in words], np.int16)
    cells = colours[chance.integers(len(words), size=(CELLS, CELLS))]
    pixels = cells.repeat(SIDE // CELLS, 0).repeat(SIDE // CELLS, 1) + chance.integers(-9, 10, (SIDE, SIDE, 3))
    data = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(data, "JPEG", quality=90)
    return data.getvalue()


def _in_processes(make: Callable[[Any], Any], work: Sequence[Any]) -> list[Any]:
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        return list(processes.map(make, work, chunksize=1))
