"""Content keys: short digests of settings, inputs and files."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import IO, Any

KEY_LENGTH = 24


def digest(value: Any) -> str:
    """A key of any JSON-like value: equal values give equal keys, whatever the order of their dictionaries."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def digest_stream(stream: IO[bytes], length: int) -> str:
    """The key of the next ``length`` bytes of a file, read in blocks."""
    contents = hashlib.sha256()
    while block := stream.read(min(2**20, length)):
        contents.update(block)
        length -= len(block)
    return contents.hexdigest()[:KEY_LENGTH]


def digest_file(path: Path) -> str:
    """The key of a file's bytes, which are read in blocks."""
    with path.open("rb") as file:
        return digest_stream(file, os.fstat(file.fileno()).st_size)


def digest_bytes(data: bytes | memoryview) -> str:
    """The key of bytes in memory."""
    return hashlib.sha256(data).hexdigest()[:KEY_LENGTH]
