"""JSON files that tell by themselves whether a byte of them has changed: their last field is the digest of the rest."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from storage.json_text import to_json
from storage.keys import KEY_LENGTH, digest_bytes

CHECKSUM = "checksum"
# by its shape, not by its name, in which a bit may have flipped: no other document ends like this
LAST_FIELD = re.compile(rf',\n "(.{{{len(CHECKSUM)}}})": "(.{{{KEY_LENGTH}}})"\n}}\Z')


class ChecksumError(ValueError):
    """A document is not as it was written."""


def to_text(value: Mapping[str, Any]) -> str:
    """A document of at least one field as JSON."""
    text = to_json(value, indent=1)
    return f'{text[:-2]},\n "{CHECKSUM}": "{digest_bytes(text.encode())}"\n}}'


def from_text(text: str) -> Any:
    """The inverse of :func:`to_text`, and the value of any JSON without a checksum: earlier versions wrote none.

    Raises :class:`ChecksumError`, and what :func:`json.loads` raises.
    """
    if last := LAST_FIELD.search(text, max(0, len(text) - 2 * KEY_LENGTH)):
        text = text[: last.start()] + "\n}"
        if last.groups() != (CHECKSUM, digest_bytes(text.encode())):
            raise ChecksumError("its checksum differs")
        return json.loads(text)
    value = json.loads(text)
    if isinstance(value, dict) and CHECKSUM in value:
        raise ChecksumError("its checksum is of another text")
    return value
