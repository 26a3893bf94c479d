"""A full disk is told in one sentence, whichever library ran into it."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import torch
from PIL import Image

from storage import full_disk
from storage.schemas import contract
from storage.store import Store
from tests.test_faults import small_disk

SIZE = 1_440_000  # bytes: more than the disk has


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with small_disk(tmp_path_factory.mktemp("small") / "disk", "1m") as folder:
        yield folder


def in_sqlite(folder: Path) -> None:
    with sqlite3.connect(folder / "file.sqlite") as database:
        database.execute("CREATE TABLE a AS SELECT randomblob(?)", [SIZE])


def in_duckdb(folder: Path) -> None:
    with duckdb.connect(folder / "file.duckdb") as database:
        database.execute("CREATE TABLE a AS SELECT md5(i::VARCHAR) AS b FROM range(200000) AS t(i)")


def beyond_memory_in_duckdb(folder: Path) -> None:
    with duckdb.connect(config={"memory_limit": "20MB", "temp_directory": str(folder / "spilled")}) as database:
        database.sql("SELECT md5(i::VARCHAR) AS b FROM range(2000000) AS t(i) ORDER BY b").fetchall()


def in_a_temporary_file(folder: Path) -> None:
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(bytes(SIZE))
        file.flush()


def in_the_store(folder: Path) -> None:
    rows = {
        "image_id": ["a"],
        "caption_index": [0],
        "tag_ids": [np.random.default_rng(0).integers(2**31, size=SIZE // 4)],
    }
    Store(folder / "store").write_part("caption_tags", "k", "p", pa.table(rows, contract("caption_tags").schema))


NOISE = np.random.default_rng(0).integers(256, size=SIZE, dtype=np.uint8)
WRITERS: dict[str, Callable[[Path], object]] = {
    "torch": lambda folder: torch.save({"a": torch.zeros(SIZE // 4)}, folder / "file.pt"),
    "safetensors": lambda folder: safetensors.numpy.save_file({"a": NOISE}, folder / "file.safetensors"),
    "Arrow": lambda folder: pq.write_table(pa.table({"a": NOISE}), folder / "file.parquet"),
    "NumPy": lambda folder: np.save(folder / "file.npy", NOISE),
    "Pillow": lambda folder: Image.fromarray(NOISE.reshape(1200, 1200)).save(folder / "file.png"),
    "Python": lambda folder: (folder / "file").write_bytes(bytes(SIZE)),
    "a copy": lambda folder: shutil.copyfile(
        torch.__file__.replace("__init__.py", "lib/libtorch_cpu.so"), folder / "file"
    ),
    "SQLite": in_sqlite,
    "DuckDB": in_duckdb,
    "DuckDB's memory": beyond_memory_in_duckdb,
    "a temporary file": in_a_temporary_file,
    "the store": in_the_store,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_says_so(disk: Path, writer: str) -> None:
    try:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - each library has its own
            WRITERS[writer](disk)
        error = caught.value
        full = full_disk.of(error, disk)
        assert full is not None, f"{type(error)}: {error}"
        assert str(full).startswith("the disk is full: ")
        assert f"MB are left for {disk}" in str(full)
        assert "what is finished is kept" in str(full)
    finally:
        for path in disk.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_it_is_found_behind_what_came_of_it(tmp_path: Path, number: int) -> None:
    try:
        try:
            raise OSError(number, os.strerror(number), str(tmp_path / "file"))
        except OSError as error:
            raise RuntimeError("the server did not answer") from error
    except RuntimeError as error:
        caught = error
    full = full_disk.of(ExceptionGroup("several", [ValueError("another"), caught]))
    assert full is not None
    assert full_disk.of(full) is full
    assert pickle.loads(pickle.dumps(full)).args == full.args
    assert full_disk.of(OSError(errno.EACCES, os.strerror(errno.EACCES))) is None
    assert full_disk.of(ValueError("the disk is round")) is None
