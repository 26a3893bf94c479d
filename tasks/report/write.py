"""Writes `report.html`: the page, its style, its script and its data in one file."""

from __future__ import annotations

from importlib.resources import files

from storage.json_text import to_json
from storage.store import Store
from tasks.report.data import gather

NAME = "report.html"
SCRIPTS = ("elements.js", "charts.js", "sections.js", "cleaning.js", "page.js")


def write_report(store: Store, rounds: int = 1) -> str:
    """Writes the report of all that ``store`` holds so far beside its artifacts; returns its name."""
    store.write_text(NAME, render(to_json(gather(store, rounds), separators=(",", ":"))))
    return NAME


def render(data: str) -> str:
    """The page with ``data`` (JSON) in it. No text of the data can end the element that holds it."""
    page = files("tasks.report") / "page"
    parts = {
        "STYLE": (page / "report.css").read_text("utf-8"),
        "SCRIPT": "\n".join((page / name).read_text("utf-8") for name in SCRIPTS),
        "DATA": data.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"),
    }
    html = (page / "template.html").read_text("utf-8")
    for name, text in parts.items():
        html = html.replace(f"<!--{name}-->", text, 1)
    return html
