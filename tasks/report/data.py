"""All that the report shows, gathered into one JSON-able dictionary."""

from __future__ import annotations

import math
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from storage.bare import IN_SQL
from storage.store import Snapshot, Store
from tasks.evaluation.outcome import KEPT as ABLATION
from tasks.evaluation.verdict import AGAINST
from tasks.report.cleaning import cleaning
from tasks.report.examples import examples
from tasks.report.findings import findings
from tasks.report.growth import growth, with_pictures
from tasks.report.models_table import against, curves, models_table
from tasks.report.opening import opening
from tasks.report.run_record import candidates, lineage, rejected, screened, stage_rows
from tasks.report.tag_flow import tag_flow
from tasks.report.tag_table import tag_table
from tasks.report.views import Views, latest_snapshots, open_views, sampled
from tasks.settings.ingest import source_titles


def gather(store: Store, rounds: int = 1) -> dict[str, Any]:
    """The report's data: counts over the whole store, pictures and stored scores from a few parts of it."""
    snapshots = latest_snapshots(store, rounds)
    fewer = sampled(snapshots)
    with ExitStack() as opened:
        whole = opened.enter_context(open_views(store, snapshots, rounds))
        few = whole if fewer == snapshots else opened.enter_context(open_views(store, fewer, rounds))
        report: dict[str, Any] = {
            "header": {**_header(store, snapshots), "against": AGAINST[against(whole)]},
            "opening": opening(whole),
            "splits": whole.rows("SELECT split, count(*) AS images FROM pairs GROUP BY split ORDER BY images DESC")
            if whole.has("pairs")
            else [],
            "bare": _bare(whole),
            "flows": [tag_flow(whole, number) for number in range(1, whole.rounds + 1)],
            "growth": with_pictures(growth(whole) if whole.rounds else None, few),
            "tags": tag_table(whole) if whole.has("label_system") and whole.rounds else None,
            "models": models_table(whole),
            "curves": curves(whole),
            "ablation": store.read_json(f"{ABLATION}.json"),
            "examples": examples(few),
            "cleaning": cleaning(few) if few.judged else None,
            "stages": stage_rows(snapshots, rounds),
            "rejected": rejected(whole),
            "screened": screened(whole),
            "candidates": candidates(whole),
            "lineage": lineage(snapshots),
        }
    report["findings"] = findings(report)
    rounded: dict[str, Any] = _compact(report)
    return rounded


def _header(store: Store, snapshots: dict[str, Snapshot]) -> dict[str, Any]:
    created = max((snapshot.created for snapshot in snapshots.values()), default=0.0)
    return {
        "dataset": " and ".join(source_titles(snapshots["pairs"].settings.get("source", {})))
        if "pairs" in snapshots
        else "no data yet",
        "store": store.url,
        "time": datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _bare(views: Views) -> int:
    """How many pictures came without captions, of whatever split."""
    if not views.has("pairs"):
        return 0
    count: int = views.rows(f"SELECT count(*) AS count FROM pairs WHERE {IN_SQL}")[0]["count"]
    return count


def _compact(value: Any) -> Any:
    """Numbers in four digits, and what is not a number as None: JSON knows no NaN."""
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _compact(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_compact(one) for one in value]
    return value
