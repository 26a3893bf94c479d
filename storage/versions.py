"""What changes with a local file: a process need not read again what it has checked."""

from __future__ import annotations

import os
import time
from pathlib import Path

SETTLED = 1.0  # seconds: file systems may give two changes in a row the same time
Version = tuple[int, ...]


def version_of(path: str | Path) -> Version:
    """What changes with the file; nothing for one that is not there, or so new that its time may not show a change."""
    try:
        status = os.stat(path)
    except OSError:
        return ()
    if time.time() - status.st_mtime < SETTLED:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns
