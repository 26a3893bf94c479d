"""What everything begins with that tells of a store: report, last lines of a run, Prefect's page, model card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from storage.store import Store
from tasks.evaluation.verdict import AGAINST, NOT_COMPARED, Verdict, basis, headline, next_steps, verdicts_of
from tasks.machine.rounds import rounds_of
from tasks.report.growth import growth, told
from tasks.report.models_table import against
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


def lines(store: Store, steps: bool = True) -> list[str]:
    """The opening as lines of text, with or without the next ``steps``; none before anything was generated or
    measured."""
    found = _opened(store, opening)
    if found is None:
        return []
    said = [found["headline"], found["basis"], *found["more"], *found["added"], *(found["next"] if steps else [])]
    return [one for one in said if one]


def known_against(store: Store) -> str:
    """What the figures on the test pictures are measured against, in words."""
    return AGAINST[_opened(store, against)]


def _opened(store: Store, look: Callable[[Views], Any]) -> Any:
    rounds = rounds_of(store)
    with open_views(store, latest_snapshots(store, rounds), rounds) as views:
        return look(views)


def _verdicts(views: Views) -> list[Verdict]:
    """The verdicts on the models that the store holds now."""
    if not views.has("verdict"):
        return []
    found = verdicts_of(views.rows("SELECT * FROM verdict ORDER BY model"))
    measured = views.snapshots["verdict"].inputs.get("ram")
    if measured and measured.artifact in views.snapshots and views.snapshots[measured.artifact].name != measured:
        reason = "the model was trained again since it was measured: `ram-engine stage evaluate` measures it"
        return [replace(one, word=NOT_COMPARED, reason=reason) for one in found[:1]]
    return found
