"""What a stage tells an operator: a line in the log, a page and tables in Prefect, the same page in the store."""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Iterator
from pathlib import Path

from prefect import get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.progress import console
from flows.showing import show
from storage.addresses import concealed
from storage.json_text import to_json
from storage.markdown import code, plain, table
from storage.names import first_round_name
from storage.store import Store
from tasks.machine.declaration import Stage
from tasks.machine.stage_run import StageOutcome
from tasks.settings.base import Settings, defaults

TAGS_OF_PICTURES = {"caption_tags", "generated", "tag_verdicts"}  # what changes a picture's tags
REPORT_SECONDS = 300.0  # so old may the report be while a run of many stages goes on,
REPORT_SHARE = 0.05  # or as old as leaves it this share of the time: that of millions of images takes minutes

_due: contextvars.ContextVar[list[float]] = contextvars.ContextVar("due")  # when the next report is, in one element


@contextlib.contextmanager
def reported_at_the_end() -> Iterator[None]:
    """Within it stages write the whole report only where it is old: who runs them writes it after the last."""
    token = _due.set([time.monotonic() + REPORT_SECONDS])
    try:
        yield
    finally:
        _due.reset(token)


def report_is_due() -> bool:
    """Whether a stage that ends now writes the whole report."""
    return time.monotonic() >= _due.get([0.0])[0]


def tell(outcome: StageOutcome) -> None:
    """The stage's line, in the terminal and in the run's log."""
    console.print(outcome.line())
    get_run_logger().info(outcome.line())


@task(name="report", cache_policy=NO_CACHE)
def write_reports(store: str, stage: Stage, settings: Settings, outcome: StageOutcome, whole: bool) -> None:
    """Writes this stage's page and, if ``whole``, `report.html` of all that the store holds: artifacts of the run."""
    from tasks.report import operator
    from tasks.report.write import write_report

    opened, rounds = Store(store, create=False), stage.rounds
    page = stage_page(stage, settings, outcome, operator.contact_sheet(opened, rounds))
    opened.write_text(f"reports/{stage.name}.md", page)
    show(create_markdown_artifact, page, key=stage.name, description=outcome.line())
    if TAGS_OF_PICTURES & set(map(first_round_name, stage.writes)):
        if counts := operator.tag_counts(opened, rounds):
            about = "the most frequent tags of the training pictures"
            show(create_table_artifact, counts, key="tag-counts", description=about)
    if "metrics" in stage.writes:
        against, figures = operator.metrics_table(opened, rounds)
        about = f"every model on the test pictures, measured against {against}"
        show(create_table_artifact, figures, key="metrics", description=about)
    if whole:
        started = time.monotonic()
        link_report(opened, write_report(opened, rounds))
        ended = time.monotonic()
        _due.get([0.0])[0] = ended + max(REPORT_SECONDS, (ended - started) / REPORT_SHARE)


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


def stage_page(stage: Stage, settings: Settings, outcome: StageOutcome, sheet: str) -> str:
    """The stage's page as Markdown: rows in and out, unusual settings, the contact ``sheet``, all settings."""
    rate = f" ({outcome.read / outcome.seconds:,.1f} a second)" if outcome.seconds else ""
    figures = [
        ("rows read", f"{outcome.read:,}{rate}"),
        *((f"rows of {name}", f"{count:,}") for name, count in outcome.rows.items()),
        ("shards computed, reused", f"{outcome.computed}, {outcome.reused}"),
        *((f"rejected: {reason}", f"{count:,}") for reason, count in sorted(outcome.rejected.items())),
        ("seconds", f"{outcome.seconds:,.1f}"),
        ("snapshot", outcome.key),
    ]
    chosen = settings.mapped(concealed).model_dump(mode="json")
    usual = defaults(type(settings))
    unusual = {name: value for name, value in chosen.items() if name not in usual or usual[name] != value}
    key_settings = "\n".join(f"| {code(name)} | {code(to_json(value))} |" for name, value in unusual.items())
    shown = f"\n### Settings other than the usual\n\n| | |\n|---|---|\n{key_settings}\n" if unusual else ""
    pictures = f"\n### Pictures so far\n\nWhat the engine added is in *italics*.\n\n{sheet}\n" if sheet else ""
    return (
        f"## {plain(outcome.stage)}\n\nThis stage {plain(stage.about)}.\n\n{table(('', ''), figures)}\n"
        f"{shown}{pictures}"
        f"\n### All settings\n\n```json\n{to_json(chosen, indent=1)}\n```\n"
    )
