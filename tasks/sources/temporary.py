"""Databases for what does not fit into memory: they lie in temporary files, which go with them."""

from __future__ import annotations

import sqlite3

CACHE_KIB = 8192  # of the file that is held in memory, and rows that are sorted at once


def temporary_database(*tables: str) -> sqlite3.Connection:
    """A database with empty ``tables``, as `CREATE TABLE` takes them.

    Its file is made when it outgrows the cache, where the variable TMPDIR says.
    """
    database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    database.execute("PRAGMA journal_mode = OFF")
    database.execute("BEGIN")
    for table in tables:
        database.execute(f"CREATE TABLE {table}")
    return database
