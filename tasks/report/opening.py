"""What everything begins with that tells of a store: report, last lines of a run, Prefect's page, model card."""

from __future__ import annotations

from typing import Any

from storage.store import Store
from tasks.evaluation.verdict import Verdict, basis, headline, next_steps, verdicts_of
from tasks.report.growth import growth, told
from tasks.report.views import Views, latest_snapshots, open_views


def opening(views: Views) -> dict[str, Any] | None:
    """``word``, ``headline``, ``basis`` and ``next`` (lines) of the verdict, ``more`` sentences, those on what was
    ``added``; None before anything was generated or measured."""
    found = _verdicts(views)
    added = told(growth(views)) if views.rounds else []
    if not found and not added:
        return None
    first = found[0] if found else None
    return {
        "word": first.word if first else "",
        "headline": headline(first) if first else "No model has been measured yet.",
        "basis": basis(first) if first else "",
        "next": next_steps(first) if first else [],
        "more": [headline(one) for one in found[1:]],
        "added": added,
    }


def lines(store: Store, rounds: int) -> list[str]:
    """The opening as lines of text; none before anything was generated or measured."""
    views = open_views(store, latest_snapshots(store, rounds), rounds)
    try:
        found = opening(views)
    finally:
        views.db.close()
    if found is None:
        return []
    return [one for one in (found["headline"], found["basis"], *found["more"], *found["added"], *found["next"]) if one]


def _verdicts(views: Views) -> list[Verdict]:
    return verdicts_of(views.rows("SELECT * FROM verdict ORDER BY model")) if views.has("verdict") else []
