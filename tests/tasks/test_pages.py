"""What is shown of a store that names hostile things: pages, the report, errors, and a store opened with a password."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from flows.stage_report import stage_page
from ram_engine.runs import prefect_home
from storage import addresses
from storage.store import Snapshot, Store, StoreError
from tasks.machine.dag import stage_named
from tasks.machine.stage_run import StageOutcome
from tasks.report import operator
from tasks.report.write import render, write_report
from tasks.settings.base import Settings
from tasks.settings.judge import JudgeSettings
from tests.conftest import ram_engine

EVIL = "![x](http://evil/x.png) [/red] <img src=//evil> | `a` \n\n# b\x1b[2J\u202e"
URL = "memory://user:hunter2@host/run"


def kinds_of(page: str) -> set[str]:
    tokens = MarkdownIt("commonmark").enable("table").parse(page)
    return {leaf.type for token in tokens for leaf in (token.children or [token])}


def test_pages_show_reasons_captions_and_tags_as_text() -> None:
    outcome = StageOutcome("judge", "key", {EVIL: 3}, rejected={EVIL: 1}, note=EVIL)
    page = stage_page(stage_named("judge", 1), JudgeSettings(), outcome, "")
    assert not kinds_of(page) & {"link_open", "image", "html_inline", "html_block", "code_inline"}
    assert page.count("\n# ") == 0
    tags = [
        {"name": EVIL, "origin": origin, "kept": kept} for origin in ("parsed", "predicted") for kept in (True, False)
    ]
    example = {"picture": "data:image/jpeg;base64,AAAA", "captions": [EVIL], "generated": [EVIL], "tags": tags}
    row = operator._picture_row(example)
    assert "\n" not in row
    assert "\x1b" not in row
    page = f"| | |\n|---|---|\n{row}\n"
    tokens = [
        leaf for token in MarkdownIt("commonmark").enable("table").parse(page) for leaf in token.children or [token]
    ]
    assert sum(token.type == "td_open" for token in tokens) == 2
    assert [token.attrs["src"] for token in tokens if token.type == "image"] == [example["picture"]]
    assert {token.content for token in tokens if token.type == "html_inline"} == {"<br>"}


def test_no_text_ends_the_reports_data() -> None:
    page = render(json.dumps({"caption": "</script><script>alert(1)</script>\u2028\u2029"}, ensure_ascii=False))
    data = page.partition('id="data">')[2].partition("</script>")[0]
    assert json.loads(data) == {"caption": "</script><script>alert(1)</script>\u2028\u2029"}
    assert not {"\u2028", "\u2029", "<"} & set(data)


def test_a_store_is_shown_without_the_password_that_it_was_opened_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(addresses.REMEMBERED, "")
    monkeypatch.setenv("HOME", str(tmp_path))
    store = Store(URL)
    assert store.url == "memory://***@host/run"
    store.publish(Snapshot("pairs", "key", stage="ingest", recipe="r"))
    assert Store(store.url, create=False).snapshot("pairs") is not None  # as a process of the run opens it
    write_report(store)
    assert "memory://***@host/run" in str(store.read_text("report.html"))
    assert "hunter2" not in str(store.read_text("report.html"))
    assert "hunter2" not in str(prefect_home(store))
    store.write_text("pairs/latest.json", "{")
    for call in (lambda: store.snapshot("pairs"), lambda: Store(f"{URL}2", create=False)):
        with pytest.raises(StoreError) as error:
            call()
        assert "hunter2" not in str(error.value)
        assert "***@host/run" in str(error.value)
    said = ram_engine("status", "--store", f"{URL}3", check=False)
    assert said.returncode == 1
    assert "hunter2" not in said.stdout + said.stderr


class Watched(Settings):
    """A source of somebody's that reads an address."""

    address: str
    others: tuple[str, ...] = ()


def test_settings_are_kept_and_keyed_without_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(addresses.REMEMBERED, "")
    settings = Watched(address="https://host/list?token=hunter2", others=("ftp://me:hunter2@host/a", "plain"))
    shown = settings.mapped(addresses.concealed)
    for kept in (shown.model_dump(), settings.chosen(), settings.identity()):
        assert "hunter2" not in str(kept)
    assert shown.identity() == settings.identity()  # so that a new token computes nothing anew
    assert shown.mapped(addresses.revealed) == settings
