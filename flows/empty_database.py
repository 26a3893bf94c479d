"""The database of a new Prefect server on this machine, as a copy of one that Prefect made once.

Prefect makes an empty one by all migrations of its history, which takes ten seconds of a processor at the start of
every fresh store's first run.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import platformdirs
import prefect
from prefect.server.database import provide_database_interface
from sqlalchemy import make_url


def make() -> None:
    """Makes the database that Prefect's settings name, where that is a file of SQLite that does not exist yet."""
    setting = prefect.settings.get_current_settings().server.database.connection_url
    url = make_url(setting.get_secret_value() if setting else "sqlite://")
    if url.get_backend_name() != "sqlite" or not url.database or Path(url.database).exists():
        return
    kept = platformdirs.user_cache_path("ram-engine") / f"prefect-{prefect.__version__}.sqlite"
    if is_whole(kept):
        copy(kept, Path(url.database))
        return
    asyncio.run(provide_database_interface().create_db())
    with suppress(OSError, sqlite3.Error):  # a cache that cannot be written costs only the time
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(f".{os.getpid()}")
        with closing(sqlite3.connect(url.database)) as made:
            made.execute("VACUUM INTO ?", [str(partial)])
        partial.replace(kept)


def copy(kept: Path, to: Path) -> None:
    """Puts a copy there at once or not at all: a server that is killed meanwhile leaves no half of a database."""
    partial = to.with_suffix(f".{os.getpid()}")
    shutil.copyfile(kept, partial)
    partial.replace(to)


def is_whole(kept: Path) -> bool:
    """Whether the kept database is there and undamaged."""
    if not kept.is_file():
        return False
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{kept.as_uri()}?mode=ro", uri=True)) as opened:
        return opened.execute("PRAGMA integrity_check").fetchone() == ("ok",) and bool(
            opened.execute("SELECT version_num FROM alembic_version").fetchall()
        )
    return False
