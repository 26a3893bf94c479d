"""What an operator sees in Prefect of the pipeline and its stages: Markdown with a contact sheet, and tables."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from typing import Any

from storage.markdown import plain, table
from storage.store import Store
from tasks.report.examples import examples
from tasks.report.models_table import models_table
from tasks.report.opening import known_against, lines
from tasks.report.views import latest_snapshots, open_views, sampled

PICTURES, SIZE = 6, 180  # a page stays far below the 300 kB that Prefect's UI shows with ease
MOST_ROWS = 300


def pipeline_page(store: Store, rounds: int) -> str:
    """The pipeline's page: the verdict first, the models side by side, some pictures."""
    models = ablation_page(store, rounds) or "No model has been measured yet.\n"
    opened = "\n\n".join(lines(store))
    return f"{opened}\n\n## What each stage did for the tagger\n\n{models}\n{contact_sheet(store, rounds)}".lstrip()


def contact_sheet(store: Store, rounds: int) -> str:
    """Some training pictures with their captions and tags so far, as a Markdown table; "" before there are any."""
    with open_views(store, sampled(latest_snapshots(store, rounds)), rounds) as views:
        rows = [_picture_row(one) for one in examples(views, PICTURES, SIZE)]
    head = "| | |\n|---|---|\n"
    return head + "\n".join(rows) if rows else ""


def _picture_row(example: Mapping[str, Any]) -> str:
    named = [(plain(tag["name"]), tag) for tag in example["tags"]]
    kept = [name if tag["origin"] == "parsed" else f"*{name}*" for name, tag in named if tag["kept"]]
    removed = [f"~~{name}~~" for name, tag in named if not tag["kept"]]
    lines = [*map(plain, example["captions"]), *(f"*{plain(caption)}*" for caption in example["generated"])]
    if kept:
        lines.append(f"**tags** {', '.join(kept)}")
    if removed:
        lines.append(f"**removed** {', '.join(removed)}")
    return f"| ![]({example['picture']}) | {'<br>'.join(lines)} |"


def tag_counts(store: Store, rounds: int) -> list[dict[str, Any]]:
    """The most frequent tags, with how many pictures have each from which source, and how many lost it."""
    with open_views(store, latest_snapshots(store, rounds), rounds) as views:
        if not views.rounds or not views.has("label_system"):
            return []
        return views.rows(
            f"""
            SELECT name AS tag, type, count(*) FILTER (kept) AS pictures,
                count(*) FILTER (kept AND origin = 'parsed') AS parsed,
                count(*) FILTER (kept AND origin != 'parsed') AS added, count(*) FILTER (NOT kept) AS removed
            FROM entries JOIN label_system USING (tag_id) WHERE round = {views.rounds}
            GROUP BY name, type ORDER BY pictures DESC, name LIMIT {MOST_ROWS}
            """
        )


def metrics_table(store: Store, rounds: int) -> tuple[str, list[dict[str, Any]]]:
    """What the figures on the test pictures are measured against, and one row a model, rounded to three digits."""
    known, found = _models(store, rounds)
    return known, [
        {"model": row["title"], **{f"{metric} ({subset})": round(value, 3) for subset, metric, value in _flat(row)}}
        for row in found
    ]


def ablation_page(store: Store, rounds: int) -> str:
    """The models side by side, as a table and a chart; "" before any was measured."""
    known, found = _models(store, rounds)
    models = [(row["title"], row["figures"]["all"]["mAP"]) for row in found if "all" in row["figures"]]
    if not models:
        return ""
    figures = table(("", "mAP on the test pictures"), [(title, f"{value:.3f}") for title, value in models])
    return f"Measured against {known}.\n\n{figures}\n\n![mAP of each model]({bars(models)})\n"


def bars(values: list[tuple[str, float]]) -> str:
    """A bar chart of named values from 0 to 1, as a picture's data URI (SVG)."""
    line, left, width = 26, 230, 360
    drawn = "".join(
        f'<text x="{left - 8}" y="{line * row + 18}" text-anchor="end">{html.escape(name)}</text>'
        f'<rect x="{left}" y="{line * row + 5}" width="{width * value:.1f}" height="17" fill="#2a78d6"/>'
        f'<text x="{left + width * value + 6:.1f}" y="{line * row + 18}">{value:.3f}</text>'
        for row, (name, value) in enumerate(values)
    )
    picture = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 60}" height="{line * len(values) + 8}" '
        f'font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/>{drawn}</svg>'
    )
    return "data:image/svg+xml;base64," + base64.b64encode(picture.encode()).decode()


def _models(store: Store, rounds: int) -> tuple[str, list[dict[str, Any]]]:
    """What the models are measured against, and their figures."""
    snapshots = {name: one for name, one in latest_snapshots(store, rounds).items() if name == "metrics"}
    with open_views(store, snapshots, rounds) as views:
        return known_against(store), models_table(views)


def _flat(row: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    return [(subset, metric, value) for subset, figures in row["figures"].items() for metric, value in figures.items()]
