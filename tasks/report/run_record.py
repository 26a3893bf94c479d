"""What every stage took in and gave out, how long it took, and what each artifact was made from."""

from __future__ import annotations

from typing import Any

from storage.names import of_round
from storage.store import Snapshot
from tasks.machine.dag import stages
from tasks.machine.declaration import Stage
from tasks.report.views import Views

MOST_REJECTED, MOST_CANDIDATES = 200, 120


def stage_rows(snapshots: dict[str, Snapshot], rounds: int) -> list[dict[str, Any]]:
    """One row a stage in the order of the pipeline; a stage that has not run has no ``figures``.

    It is ``left_out`` where a later one has run: the pipeline goes in order and passes over what a run has no use for.
    """
    rows = [_stage_row(stage, snapshots) for stage in stages(rounds)]
    last = max((place for place, row in enumerate(rows) if row["figures"]), default=-1)
    return [{**row, "left_out": not row["figures"] and place < last} for place, row in enumerate(rows)]


def _stage_row(stage: Stage, snapshots: dict[str, Snapshot]) -> dict[str, Any]:
    made = [snapshots[name] for name in stage.outputs if name in snapshots]
    figures = dict(made[0].figures) if made else None
    return {
        "name": stage.name,
        "about": stage.about,
        "reads": [
            {"name": name, "rows": _rows(snapshots.get(name))}
            for alias, name in stage.inputs.items()
            if alias not in stage.carried and (name in snapshots or alias not in stage.optional)
        ],
        "writes": [{"name": snapshot.artifact, "rows": _rows(snapshot)} for snapshot in made],
        "figures": figures,
        "rejected": {
            name.removeprefix("rejected."): value
            for name, value in (figures or {}).items()
            if name.startswith("rejected.")
        },
        "settings": made[0].settings if made else None,
    }


def _rows(snapshot: Snapshot | None) -> int | None:
    """Rows of an artifact; None for a model, and for what is not there."""
    return None if snapshot is None or snapshot.model else snapshot.rows


def lineage(snapshots: dict[str, Snapshot]) -> list[dict[str, Any]]:
    """One row an artifact, in the order in which they were made."""
    return [
        {
            "artifact": snapshot.artifact,
            "key": snapshot.key,
            "stage": snapshot.stage,
            "version": snapshot.stage_version,
            "model": bool(snapshot.model),
            "parts": len(snapshot.parts),
            "rows": snapshot.rows,
            "bytes": snapshot.bytes,
            "created": snapshot.created,
            "inputs": {alias: str(name) for alias, name in snapshot.inputs.items()},
        }
        for snapshot in sorted(snapshots.values(), key=lambda one: (one.created, one.artifact))
    ]


def rejected(views: Views) -> dict[str, Any]:
    """Rows that could not be used: ``counts`` by artifact and reason, and the first ``rows`` of them."""
    by_round = [of_round("generated_rejected", number) for number in range(1, views.rounds + 1)]
    names = [name for name in ("pairs_rejected", "phrases_rejected", *by_round) if views.has(name)]
    if not names:
        return {"counts": [], "rows": []}
    every = " UNION ALL ".join(
        f"SELECT '{name}' AS artifact, \"where\", reason, detail FROM {name.replace('-', '_')}" for name in names
    )
    return {
        "counts": views.rows(
            f"SELECT artifact, reason, count(*) AS count FROM ({every}) GROUP BY ALL ORDER BY count DESC, reason"
        ),
        "rows": views.rows(f'SELECT * FROM ({every}) ORDER BY artifact, reason, "where" LIMIT {MOST_REJECTED}'),
    }


def screened(views: Views) -> dict[str, Any]:
    """Images that `screen` set apart: ``counts`` by reason and split, and the first ``rows`` of them."""
    if not views.has("screening", "pairs"):
        return {"counts": [], "rows": []}
    return {
        "counts": views.rows(
            "SELECT reason, split, count(*) AS count FROM (SELECT split, unnest(reasons) AS reason FROM screening) "
            "GROUP BY ALL ORDER BY count DESC, reason, split"
        ),
        "rows": views.rows(
            f"""
            SELECT own.names[1] AS name, reasons, other.names[1] AS other, cosine, hash_bits, short_side, caption_fit
            FROM screening JOIN pairs AS own USING (image_id)
            LEFT JOIN pairs AS other ON other.image_id = coalesce(duplicate_of, nearest)
            WHERE NOT kept ORDER BY reasons, name LIMIT {MOST_REJECTED}
            """
        ),
    }


def candidates(views: Views) -> list[dict[str, Any]]:
    """The most frequent words of the captions that are no tag."""
    if not views.has("candidates"):
        return []
    return views.rows(
        f"""
        SELECT lemma, type, sum(count)::BIGINT AS count FROM candidates
        GROUP BY ALL ORDER BY count DESC, lemma, type LIMIT {MOST_CANDIDATES}
        """
    )
