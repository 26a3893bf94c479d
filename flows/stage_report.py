"""What a stage tells an operator: a line in the log, a page and tables in Prefect, the same page in the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.progress import console
from flows.showing import show
from storage.store import Store
from tasks.machine.dag import Stage
from tasks.settings.base import Settings


@dataclass(frozen=True)
class StageSummary:
    """What a stage did: rows that it read and rows of its outputs, shards, rejected rows by reason, seconds."""

    stage: str
    key: str
    rows: Mapping[str, int]
    read: int = 0
    computed: int = 0
    reused: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    note: str = ""
    kept: bool = False  # it was up to date

    def line(self) -> str:
        """One readable line for a terminal."""
        if self.kept:
            return f"{self.stage:<16} is up to date" + (f": {self.note}" if self.note else "")
        rows = ", ".join(f"{count:,} {name}" for name, count in self.rows.items() if not name.endswith("_rejected"))
        parts = [f"{self.stage:<16} {self.seconds:6.1f} s  {rows}"]
        if self.reused:
            parts.append(f"{self.computed} shards computed, {self.reused} reused")
        if self.rejected:
            total = sum(self.rejected.values())
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.rejected.items()))
            parts.append(f"{total} rejected ({reasons})")
        if self.note:
            parts.append(self.note)
        return "; ".join(parts)


def tell(summary: StageSummary) -> None:
    """The stage's line, in the terminal and in the run's log."""
    console.print(summary.line())
    get_run_logger().info(summary.line())


@task(name="report", cache_policy=NO_CACHE)
def write_reports(store: str, stage: Stage, settings: Settings, summary: StageSummary, rounds: int) -> None:
    """Writes `report.html` of all that the store holds, and this stage's page; both are artifacts of the run."""
    from tasks.report import operator
    from tasks.report.write import write_report

    opened = Store(store, create=False)
    page = stage_page(stage, settings, summary, operator.contact_sheet(opened, rounds))
    opened.write_text(f"reports/{stage.name}.md", page)
    show(create_markdown_artifact, page, key=stage.name, description=summary.line())
    if {"label_system", "caption_tags"} & {name.partition("-")[0] for name in stage.inputs.values()}:
        if counts := operator.tag_counts(opened, rounds):
            about = "the most frequent tags of the training pictures"
            show(create_table_artifact, counts, key="tag-counts", description=about)
    if "metrics" in stage.writes:
        against, figures = operator.metrics_table(opened, rounds)
        about = f"every model on the test pictures, measured against {against}"
        show(create_table_artifact, figures, key="metrics", description=about)
    link_report(opened, write_report(opened, rounds))


@task(name="whole report", cache_policy=NO_CACHE)
def whole_report(store: str, rounds: int) -> None:
    """Writes `report.html` of all that the store holds, and links it."""
    from tasks.report.write import write_report

    opened = Store(store, create=False)
    link_report(opened, write_report(opened, rounds))


def link_report(store: Store, name: str) -> None:
    """A link from the run to the report in the store."""
    url = (Path(store.root) / name).resolve().as_uri() if store.is_local else f"{store.url.rstrip('/')}/{name}"
    about = "everything that the store holds, in one page"
    show(create_link_artifact, url, link_text=name, key="report", description=about)


def stage_page(stage: Stage, settings: Settings, summary: StageSummary, sheet: str) -> str:
    """The stage's page as Markdown: rows in and out, unusual settings, the contact ``sheet``, all settings."""
    rate = f" ({summary.read / summary.seconds:,.1f} a second)" if summary.seconds else ""
    lines = [
        f"| rows read | {summary.read:,}{rate} |",
        *(f"| rows of `{name}` | {count:,} |" for name, count in summary.rows.items()),
        f"| shards computed, reused | {summary.computed}, {summary.reused} |",
        *(f"| rejected: {reason} | {count:,} |" for reason, count in sorted(summary.rejected.items())),
        f"| seconds | {summary.seconds:,.1f} |",
        f"| snapshot | `{summary.key}` |",
    ]
    chosen = settings.model_dump(mode="json")
    usual = _defaults(type(settings))
    unusual = {name: value for name, value in chosen.items() if name not in usual or usual[name] != value}
    table = "\n".join(lines)
    key_settings = "\n".join(f"| `{name}` | `{json.dumps(value)}` |" for name, value in unusual.items())
    shown = f"\n### Settings other than the usual\n\n| | |\n|---|---|\n{key_settings}\n" if unusual else ""
    pictures = f"\n### Pictures so far\n\nWhat the engine added is in *italics*.\n\n{sheet}\n" if sheet else ""
    every = json.dumps(chosen, indent=1)
    return (
        f"## {summary.stage}\n\nThis stage {stage.about}.\n\n| | |\n|---|---|\n{table}\n{shown}{pictures}"
        f"\n### All settings\n\n```json\n{every}\n```\n"
    )


def _defaults(model: type[Settings]) -> dict[str, Any]:
    """The default values of the settings that have one, as JSON would hold them."""
    return {
        name: value.model_dump(mode="json") if isinstance(value, Settings) else value
        for name, field_ in model.model_fields.items()
        if not field_.is_required()
        for value in [field_.get_default(call_default_factory=True, validated_data={})]
    }
