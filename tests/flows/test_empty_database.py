"""A new server's database is a copy of the one that Prefect made, wherever that can be had."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import empty_database
from tests.conftest import ROOT


def made(home: Path, cache: Path) -> list[tuple[str, ...]]:
    """What a process makes in ``home``: the schema and the version of its database."""
    added = {"PREFECT_HOME": str(home), "XDG_CACHE_HOME": str(cache), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | added
    code = "from flows import empty_database; empty_database.make()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
    return content(home / "prefect.db")


def content(database: Path) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(database)) as opened:
        schema = opened.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
        return [*schema, *opened.execute("SELECT version_num FROM alembic_version").fetchall()]


def names(rows: list[tuple[str, ...]]) -> list[str]:
    return [row[0] for row in rows]


def database(file: Path) -> Path:
    """A small one that looks whole."""
    with closing(sqlite3.connect(file)) as opened:
        opened.execute("CREATE TABLE alembic_version (version_num VARCHAR)")
    return file


def test_a_copy_is_what_prefect_makes(tmp_path: Path) -> None:
    first = made(tmp_path / "first", tmp_path / "cache")
    (kept,) = (tmp_path / "cache" / "ram-engine").glob("prefect-*.sqlite")
    assert len(first) > 100
    assert made(tmp_path / "second", tmp_path / "cache") == content(kept) == first


def test_what_was_changed_is_made_anew(tmp_path: Path) -> None:
    first = made(tmp_path / "first", tmp_path / "cache")
    (file,) = (tmp_path / "cache" / "ram-engine").glob("prefect-*.sqlite")
    with closing(sqlite3.connect(file)) as opened:
        opened.execute("UPDATE alembic_version SET version_num = 'deadbeef'")
        opened.commit()
    assert names(made(tmp_path / "second", tmp_path / "cache")) == names(first)  # Prefect writes columns in any order
    (again,) = (tmp_path / "cache" / "ram-engine").glob("prefect-*.sqlite")
    assert names(content(again)) == names(first)


@given(st.binary(min_size=1, max_size=200), st.integers(0, 199), st.integers(0, 7))
def test_a_kept_database_is_that_of_its_name(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, at: int, bit: int
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    file = empty_database.place(cache, "3.0", whole)
    file.write_bytes(whole)
    assert empty_database.kept(cache, "3.0") == whole
    assert empty_database.kept(cache, "3.1") is None
    damaged = bytearray(whole)
    damaged[at % len(whole)] ^= 1 << bit
    file.write_bytes(damaged)
    assert empty_database.kept(cache, "3.0") is None
    file.write_bytes(whole[:-1])
    assert empty_database.kept(cache, "3.0") is None


def test_a_database_that_is_there_stays(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    before = database(home / "prefect.db").read_bytes()
    made(home, tmp_path / "cache")
    assert (home / "prefect.db").read_bytes() == before
    assert not (tmp_path / "cache").exists()
