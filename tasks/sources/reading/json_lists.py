"""JSON files that may be larger than memory: the elements of their lists, one at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

BLOCK = 2**20  # characters
DECODER = json.JSONDecoder()
SIGN = re.compile(r"[^ \t\r\n,]")


def lists_in(file: Path) -> Iterator[tuple[str, Iterator[Any]]]:
    """The members of a JSON object that are lists, by their keys, each with its elements; another one's value is passed
    as a list of one. A file that is a list is one of the key "".

    The memory of an element and of a block is taken. Elements are there until the next list is asked for. Raises
    :class:`json.JSONDecodeError` where the file is damaged, and UnicodeDecodeError where it is not UTF-8.
    """
    with file.open(encoding="utf-8-sig") as stream:
        text = _Text(stream)
        if text.take("["):
            yield "", text.elements()
        elif text.take("{"):
            while not text.take("}"):
                key = text.value()
                if not text.take(":"):
                    raise text.error("a key without a value")
                elements = text.elements() if text.take("[") else iter((text.value(),))
                yield key, elements
                for _ in elements:
                    pass
        else:
            raise text.error("neither a list nor an object")


class _Text:
    """The text of a stream from a place in it on."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream, self._text, self._at = stream, "", 0

    def take(self, character: str) -> bool:
        """Passes the next character if it is this one; space before it, and commas, do not count."""
        while not (sign := SIGN.search(self._text, self._at)):
            self._at = len(self._text)
            if not self._more():
                return False
        self._at = sign.start()
        taken = sign[0] == character
        self._at += taken
        return taken

    def value(self) -> Any:
        """The next value."""
        self.take("")
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                if not self._more():
                    raise
            else:
                if end < len(self._text) or not self._more():  # a number or a word may go on
                    self._at = end
                    return value

    def elements(self) -> Iterator[Any]:
        """The values of a list that has begun."""
        while not self.take("]"):
            yield self.value()

    def error(self, message: str) -> json.JSONDecodeError:
        """What is wrong at this place."""
        return json.JSONDecodeError(message, self._text, self._at)

    def _more(self) -> bool:
        block = self._stream.read(max(BLOCK, len(self._text) - self._at))
        self._text, self._at = self._text[self._at :] + block, 0
        return bool(block)
