"""Text from data in terminals, pages, spreadsheets and JSON: it is shown, and nothing in it is obeyed."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.table import Table

from flows.terminal import Terminal
from storage import addresses
from storage.json_text import to_json
from storage.markdown import code, plain, table
from storage.printable import on_one_line, printable
from storage.spreadsheets import SheetWriter, guarded, text_of

ANYTHING = st.text(st.characters(), max_size=40)  # halves of characters among them
ENCODABLE = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
HOSTILE = "\x1b]0;owned\x07\x9b2J\r\x08\u202e\u2066[/red] [bold]x[/bold] :dog: \ud800"


@given(ANYTHING)
@example(HOSTILE)
def test_printable_text_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    shown = printable(text)
    shown.encode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]", shown)
    assert printable(shown) == shown
    assert "\n" not in on_one_line(text)


def test_a_terminal_prints_text_as_it_is_wherever_it_stands() -> None:
    terminal = Terminal(file=io.StringIO(), width=300)
    terminal.print(f"failed: {HOSTILE}", style="red")
    rows = Table(HOSTILE, box=None)
    rows.add_row(HOSTILE)
    terminal.print(rows)
    written = terminal.file.getvalue()  # type: ignore[attr-defined]
    assert written.count("[/red] [bold]x[/bold] :dog: \\ud800") == 3
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2066]", written)


def test_what_runs_log_is_printable_and_names_no_password(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("prefect.flow_runs")
    try:
        raise ValueError(f"{HOSTILE} ftp://me:secret@host/run")
    except ValueError:
        logger.exception("failed: %s", HOSTILE)
    record = caplog.records[-1]
    for text in (record.getMessage(), record.exc_text or ""):
        assert "\\u001b]0;owned\\u0007" in text
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2066]", text)
    assert "ftp://***@host/run" in (record.exc_text or "")


MARKDOWN = [
    "![x](http://evil/a.png)", "[click](javascript:alert(1))", "<img src=x onerror=alert(1)>", "a | b |\n|---|",
    "`code`", "```\nfence", "# title", "- list", "1. list", "> quote", "www.evil.example", "me@evil.example",
    "https://evil.example/", "<https://evil.example>", "[a]: http://evil", "&lt;b&gt;", "\\[x\\](y)",
    "**b** _i_ ~~s~~", "a\n===", "\x1b[2J\u202e",
]  # fmt: skip


@given(st.one_of(ANYTHING, st.lists(st.sampled_from(MARKDOWN), max_size=3).map("\n".join)))
def test_markdown_shows_a_text_and_makes_nothing_of_it(text: str) -> None:
    reader = MarkdownIt("gfm-like", {"linkify": False}).enable("table")
    shown = " ".join(printable(text).split())
    for page, before in ((plain(text), 0), (table(("head", text), [(text, "x")]), 1), (f"* {plain(text)}", 0)):
        tokens = reader.parse(page)
        leaves = [leaf for token in tokens for leaf in (token.children or [token])]
        kinds = {leaf.type for leaf in leaves}
        assert not kinds & {"link_open", "image", "html_block", "html_inline", "code_inline", "fence", "code_block"}
        assert not kinds & {"heading_open", "blockquote_open", "hr", "ordered_list_open", "em_open", "strong_open"}
        if before:
            assert sum(token.type == "td_open" for token in tokens) == 2
        if shown:
            assert shown in {token.content and _text(token) for token in tokens if token.type == "inline"}
        assert not re.search(r"https?://|www\.|\w@\w", page)  # what others make a link of by itself


@given(st.one_of(ANYTHING, st.lists(st.sampled_from(MARKDOWN), min_size=1, max_size=3).map("\n".join)))
def test_code_ends_where_its_text_does(text: str) -> None:
    shown = " ".join(printable(text).split())
    if shown:
        tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(f"| | |\n|---|---|\n| {code(text)} | x |")
        cells = [[leaf.content for leaf in token.children or ()] for token in tokens if token.type == "inline"]
        assert cells[-2:] == [[shown], ["x"]]


def _text(token: object) -> str:
    return "".join(leaf.content for leaf in token.children)  # type: ignore[attr-defined]


@given(ENCODABLE)
@example("'=1+1")
@example("''''@x")
@example("\t=x")
@example("\r")
@example(" =1")
@example("\uff1d1")
@example("'plain'")
def test_any_text_comes_back_from_a_spreadsheet_that_computes_nothing(text: str) -> None:
    file = io.StringIO(newline="")
    writer = SheetWriter(file, ["kept", text or "other"])
    writer.write({"kept": text, text or "other": f"{text}; {text}"})
    written = list(csv.reader(io.StringIO(file.getvalue(), newline="")))
    assert not any(cell.lstrip().startswith(("=", "+", "-", "@", "\uff1d")) for row in written for cell in row)
    assert not any(cell.startswith(("\t", "\r", "\n")) for row in written for cell in row)
    if (text or "other") != "kept":
        assert [[text_of(cell) for cell in row] for row in written] == [
            ["kept", text or "other"],
            [text, f"{text}; {text}"],
        ]


def test_numbers_and_apostrophes_stay_what_they_are() -> None:
    assert guarded(-1.5) == -1.5
    assert guarded("'tis") == "'tis" == text_of("'tis")


def test_spreadsheets_are_written_in_one_place() -> None:
    root = Path(__file__).parents[2]
    sources = [path for name in ("storage", "tasks", "flows", "ram_engine") for path in (root / name).rglob("*.py")]
    writing = {path.name for path in sources if re.search(r"csv\.(writer|DictWriter)\(", path.read_text("utf-8"))}
    # the list of ImageNet's words is made once by a person; the sheet of labels joins words within a cell
    assert writing == {"spreadsheets.py", "imagenet_words.py", "sheet.py"}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANYTHING,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANYTHING, inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_json_is_valid_whatever_is_in_it(value: object) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    def same(one: object, other: object) -> bool:
        if isinstance(one, float) and not math.isfinite(one):
            return other is None
        if isinstance(one, dict):
            return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
        if isinstance(one, list):
            return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
        return one == other

    text = to_json(value)
    text.encode()
    assert same(value, json.loads(text, parse_constant=refuse))


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("ftp://user:p@ss@host/run", "ftp://***@host/run"),
        ("s3://KEY:sec/ret@bucket/run", "s3://***@bucket/run"),
        ("zip://a.zip::https://user:pw@host/x.zip", "zip://a.zip::https://***@host/x.zip"),
        ("https://token@host/x?sig=a/b%3D&key=c", "https://***@host/x?sig=***&key=***"),
        ("sftp://alice@host/x", "sftp://alice@host/x"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("abfs://container@account.dfs.core.windows.net/x", "abfs://container@account.dfs.core.windows.net/x"),
        ("/tmp/a:b@c?d=e", "/tmp/a:b@c?d=e"),
    ],
)
def test_an_address_is_shown_without_its_credentials_and_opened_with_them(
    address: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(addresses.REMEMBERED, "")
    assert addresses.concealed(address) == shown == addresses.concealed(shown)
    assert addresses.revealed(shown) == address
    if shown != address:
        assert shown in addresses.without_credentials(f"no answer from '{address}' (404)")
        monkeypatch.setenv(addresses.REMEMBERED, "")
        assert "***" not in addresses.revealed(shown)  # elsewhere it is opened without
