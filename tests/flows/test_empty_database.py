"""A new server's database is a copy of the one that Prefect made, wherever that can be had."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from flows import empty_database
from tests.conftest import ROOT

TIMES = "CREATE TABLE alembic_version (version_num VARCHAR)", "INSERT INTO alembic_version VALUES ('c0ffee')"


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


def database(file: Path) -> Path:
    """A small one that looks whole."""
    with closing(sqlite3.connect(file)) as opened:
        for statement in TIMES:
            opened.execute(statement)
        opened.commit()
    return file


def test_a_copy_is_what_prefect_makes(tmp_path: Path) -> None:
    first = made(tmp_path / "first", tmp_path / "cache")
    (kept,) = (tmp_path / "cache" / "ram-engine").glob("prefect-*.sqlite")
    assert len(first) > 100
    assert made(tmp_path / "second", tmp_path / "cache") == content(kept) == first


@pytest.mark.parametrize("damage", [b"", b"SQLite format 3\0 and no more", None])
def test_what_is_not_whole_is_not_copied(tmp_path: Path, damage: bytes | None) -> None:
    kept = tmp_path / "kept.sqlite"
    if damage is not None:
        kept.write_bytes(damage)
    assert not empty_database.is_whole(kept)


def test_every_damaged_page_is_seen_or_does_no_harm(tmp_path: Path) -> None:
    whole = database(tmp_path / "kept.sqlite")
    assert empty_database.is_whole(whole)
    whole.write_bytes(whole.read_bytes()[:-4096])  # the last page is missing
    assert not empty_database.is_whole(whole)


def test_a_database_that_is_there_stays(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    before = database(home / "prefect.db").read_bytes()
    made(home, tmp_path / "cache")
    assert (home / "prefect.db").read_bytes() == before
    assert not (tmp_path / "cache").exists()
