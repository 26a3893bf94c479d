"""JSON files that may be larger than memory: the elements of their lists, one at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

BLOCK = 2**20  # characters
LONGEST = 16 * BLOCK  # of a value
DECODER = json.JSONDecoder()
SIGN = re.compile(r"[^ \t\r\n,]")
OUTSIDE, INSIDE = re.compile(r'["\[\]{}]'), re.compile(r'\\.?|"', re.DOTALL)  # what counts out of a text, and within


def lists_in(file: Path) -> Iterator[tuple[str, Iterator[Any]]]:
    """The members of a JSON object that are lists, by their keys, each with its elements; another one's value is passed
    as a list of one. A file that is a list is one of the key "".

    The memory of an element and of a block is taken. Elements are there until the next list is asked for. One that
    cannot be read but has an end (no JSON, nested too deeply, longer than LONGEST) is an exception in its place; bytes
    that are not UTF-8 are surrogates in its texts. Raises :class:`json.JSONDecodeError` where the file is damaged.
    """
    with file.open(encoding="utf-8-sig", errors="surrogateescape") as stream:
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
        """The next value; an exception in the place of one that cannot be read."""
        self.take("")
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:  # it may go on
                if len(self._text) - self._at > LONGEST or not self._more():
                    return self._passed(error)
            except (ValueError, RecursionError) as error:  # ValueError: of a number of thousands of digits
                return self._passed(error)
            else:
                if end < len(self._text) or not self._more():  # a number or a word may go on
                    self._at = end
                    return value

    def _passed(self, error: Exception) -> Exception:
        """``error`` once the list or the object, at which it was raised, is passed. Raises it where that has no end."""
        depth, within = 0, False
        while depth or within or self._text[self._at : self._at + 1] in ("[", "{"):
            sign = (INSIDE if within else OUTSIDE).search(self._text, self._at)
            self._at = sign.start() if sign else len(self._text)
            if sign is None or sign[0] == "\\":  # its end is in the next block
                if not self._more():
                    break
                continue
            self._at = sign.end()
            within ^= sign[0] == '"'
            depth += sign[0] in ("[", "{")
            depth -= sign[0] in ("]", "}")
            if not depth:
                return error
        raise error if isinstance(error, json.JSONDecodeError) else self.error(str(error))

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
