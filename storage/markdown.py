"""Markdown that says what is given to it: no text makes a link, a picture, HTML, code or a cell of a table."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from storage.printable import printable

_ANYWHERE = re.compile(r"[\\`*_\[\]|~@]|:(?=//)|(?<=[wW]{3})\.")  # also what makes a link of a bare address
_AT_THE_START = re.compile(r"^(\d+(?=[.)](?:\s|$))|(?=[-#+=]))")  # of a heading, a list or a rule


def plain(text: str) -> str:
    """``text`` on one line, as Markdown that shows it as it is wherever it stands."""
    shown = html.escape(" ".join(printable(text).split()), quote=False)
    return _AT_THE_START.sub(r"\1\\", _ANYWHERE.sub(r"\\\g<0>", shown))


def code(text: str) -> str:
    """``text`` on one line as code, in a cell too: no backtick in it ends that."""
    shown = " ".join(printable(text).split()).replace("|", "\\|")
    ticks = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    return f"{ticks} {shown} {ticks}" if "`" in shown else f"`{shown}`"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells show their texts as they are."""
    lines = ["| " + " | ".join(map(plain, row)) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])
