"""The database of a new Prefect server on this machine, as a copy of one that Prefect made once.

Prefect makes an empty one by all migrations of its history, which takes ten seconds of a processor at the start of
every fresh store's first run.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import prefect
from prefect.server.database import provide_database_interface
from sqlalchemy import make_url

from storage.user_folder import UserFolderError, user_folder


def make() -> None:
    """Makes the database that Prefect's settings name, where that is a file of SQLite that does not exist yet."""
    setting = prefect.settings.get_current_settings().server.database.connection_url
    url = make_url(setting.get_secret_value() if setting else "sqlite://")
    if url.get_backend_name() != "sqlite" or not url.database or Path(url.database).exists():
        return
    with suppress(UserFolderError):
        content = kept(user_folder(), prefect.__version__)
        if content is not None:
            write(Path(url.database), content)
            return
    asyncio.run(provide_database_interface().create_db())
    with suppress(UserFolderError, OSError, sqlite3.Error):  # a cache that cannot be written costs only the time
        keep(Path(url.database), user_folder(), prefect.__version__)


def kept(cache: Path, version: str) -> bytes | None:
    """The empty database of a version, None where there is none whose contents are those that its name says."""
    for file in cache.glob(f"prefect-{version}-*.sqlite"):
        with suppress(OSError):
            content = file.read_bytes()
            if file == place(cache, version, content):
                return content
    return None


def keep(database: Path, cache: Path, version: str) -> None:
    """Keeps a copy of a database that was just made, in place of others of its version."""
    partial = cache / f"prefect.{os.getpid()}"
    with closing(sqlite3.connect(database)) as made:
        made.execute("VACUUM INTO ?", [str(partial)])
    file = place(cache, version, partial.read_bytes())
    for other in cache.glob(f"prefect-{version}-*.sqlite"):
        other.unlink(missing_ok=True)
    partial.replace(file)


def place(cache: Path, version: str, content: bytes) -> Path:
    """Where a database is kept: its name has the digest of its contents."""
    return cache / f"prefect-{version}-{hashlib.sha256(content).hexdigest()[:32]}.sqlite"


def write(to: Path, content: bytes) -> None:
    """Writes a file at once or not at all: a server that is killed meanwhile leaves no half of a database."""
    partial = to.with_suffix(f".{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(to)
