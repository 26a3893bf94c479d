"""Text from data as a terminal, a log or a page may show it: nothing in it is obeyed."""

from __future__ import annotations

import re

# Control characters but for tab and newline, marks that turn the direction of writing, separators of lines, and halves
# of characters, which nothing can encode.
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """``text`` with the escape, such as ``\\u001b``, of every character that a terminal would obey in place of showing
    it. An escape is one of JSON too, so what was JSON stays that."""
    return OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def on_one_line(text: str) -> str:
    """The same without line breaks, for a text that could pass for several lines of the program's own."""
    return printable(text).replace("\n", "\\n")
