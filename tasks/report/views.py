"""The store as DuckDB views that every part of the report reads, whatever is there yet."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from storage.bare import IN_SQL
from storage.images import ImageRecord, read_files
from storage.names import first_round_name, of_round
from storage.schemas import TagSource
from storage.store import Snapshot, Store
from tasks.evaluation.true_tags import TRUE_TAGS_SQL
from tasks.machine.dag import stages
from tasks.machine.inputs import Database, connect, view_of

SAMPLED_PARTS = 12  # pictures and stored scores come from at most so many parts, whatever the store's size
CHECKED = ("tag_bars", "annotator_checks")  # what an annotator was found to be worth, where a store has it
ORIGINS = {  # what the report calls where a tag comes from first
    TagSource.CAPTION: "parsed",
    TagSource.GENERATED_CAPTION: "generated",
    TagSource.PREDICTED: "predicted",
    TagSource.BY_HAND: "by_hand",
}
MEASURED_WITH = {"measured_labels": "label_system", "measured_captions": "caption_tags"}


@dataclass(frozen=True)
class Views:
    """The latest snapshots as views of their names, and these made from them for the images of the split `train`:

    ``pictures`` and ``bare_pictures`` (image_id), those that came with captions and those without, which figures leave
    out; ``measured_labels`` and ``measured_captions``, the label system whose active tags the
    ``predictions`` are of, and the captions' tags then (only where they are still there); ``entries`` (round, image_id,
    tag_id, source, score, region_score, typicality, kept, reason, origin), one row for each tag of a picture in a
    round, judged or not, and ``bare_entries``, the same of the bare ones; ``true_tags`` (image_id, tag_id).
    """

    store: Store
    database: Database
    snapshots: dict[str, Snapshot]
    rounds: int  # for which there are entries
    judged: int  # of which there are verdicts

    def has(self, *artifacts: str) -> bool:
        """Whether all of these artifacts are in the store."""
        return all(name in self.snapshots for name in artifacts)

    @property
    def knows_truth(self) -> bool:
        return self.has("truth", "label_system") and self.snapshots["truth"].rows > 0

    def rows(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        """The rows of a query as dictionaries."""
        rows: list[dict[str, Any]] = self.database.sql(query, **parameters).to_pylist()
        return rows

    def files(self, image_ids: Collection[str]) -> dict[str, ImageRecord]:
        """The files of some images by id."""
        return read_files(self.store, self.snapshots["pairs"], self.snapshots["images"], image_ids)


def latest_snapshots(store: Store, rounds: int) -> dict[str, Snapshot]:
    """The latest snapshot of every artifact of the pipeline that is there."""
    checked = (of_round(name, number) for name in CHECKED for number in range(1, rounds + 1))
    names = {"truth", *checked, *(name for stage in stages(rounds) for name in stage.outputs)}
    found = {name: store.snapshot(name) for name in sorted(names)}
    return {name: snapshot for name, snapshot in found.items() if snapshot is not None}


def sampled(snapshots: dict[str, Snapshot]) -> dict[str, Snapshot]:
    """The same with the parts of a few images alone, spread evenly; what is not cut by images stays whole."""
    partitions = [part.partition for part in snapshots["pairs"].parts] if "pairs" in snapshots else []
    step = max(1, -(-len(partitions) // SAMPLED_PARTS))
    chosen = set(partitions[::step])
    return {
        name: replace(
            snapshot, parts=tuple(part for part in snapshot.parts if part.partition in chosen or not part.partition)
        )
        for name, snapshot in snapshots.items()
    }


@contextmanager
def open_views(store: Store, snapshots: dict[str, Snapshot], rounds: int) -> Iterator[Views]:
    """Connects to the store."""
    # DuckDB cannot take an empty Arrow column of half floats: without rows they are as good as not there.
    snapshots = {
        name: one
        for name, one in snapshots.items()
        if one.rows or first_round_name(name) not in ("features", "regions", "measures")
    }
    snapshots |= _measured_with(store, snapshots)
    with connect(store, snapshots) as database:
        if "pairs" in snapshots:
            trained = "SELECT image_id FROM pairs WHERE split = 'train' AND"
            database.execute(f"CREATE VIEW pictures AS {trained} NOT {IN_SQL}")
            database.execute(f"CREATE VIEW bare_pictures AS {trained} {IN_SQL}")
        numbers = range(1, rounds + 1) if "pairs" in snapshots else range(0)
        judged = sum(of_round("tag_verdicts", number) in snapshots for number in numbers)
        entries = [query for number in numbers if (query := _entries(snapshots, number))]
        if entries:
            for view, pictures in (("entries", "pictures"), ("bare_entries", "bare_pictures")):
                of_pictures = f"({' UNION ALL '.join(entries)}) SEMI JOIN {pictures} USING (image_id)"
                database.execute(f"CREATE VIEW {view} AS SELECT * FROM {of_pictures}")
        views = Views(store, database, snapshots, len(entries), judged)
        if {"label_system", "pairs"} <= snapshots.keys():
            true_tags = TRUE_TAGS_SQL if views.knows_truth else "SELECT '' AS image_id, 0 AS tag_id WHERE false"
            database.execute(
                f"CREATE TABLE true_tags AS SELECT * FROM ({true_tags}) SEMI JOIN pictures USING (image_id)"
            )
        yield views


def _measured_with(store: Store, snapshots: dict[str, Snapshot]) -> dict[str, Snapshot]:
    """What the stored predictions were made with, as far as it is still there."""
    pinned = snapshots["predictions"].inputs if "predictions" in snapshots else {}
    named = {view: pinned[alias] for view, alias in MEASURED_WITH.items() if alias in pinned}
    found = {view: store.snapshot(name.artifact, name.key) for view, name in named.items()}
    return {view: snapshot for view, snapshot in found.items() if snapshot is not None}


def _entries(snapshots: dict[str, Snapshot], number: int) -> str:
    """The query for one round's tags; empty where it has not begun. Before the verdicts all tags count as kept;
    only predicted ones have a score then, and only where the views are of few parts."""
    verdicts, generated = of_round("tag_verdicts", number), of_round("generated", number)
    columns = "image_id, tag_id, source, score, region_score, typicality, kept, reason"
    if verdicts in snapshots:
        query = f"SELECT {columns} FROM {view_of(verdicts)}"
    elif "caption_tags" in snapshots and (number == 1 or generated in snapshots):
        named = f"SELECT image_id, unnest(tag_ids) AS tag_id, {TagSource.CAPTION} AS bit, NULL AS score"
        claims = [f"{named} FROM caption_tags"]
        if generated in snapshots:
            view = view_of(generated)
            claims.append(
                f"SELECT image_id, unnest(flatten(caption_tag_ids)), {TagSource.GENERATED_CAPTION}, NULL FROM {view}"
            )
            # an image has hundreds of scores: they are looked at where a few parts are, and not in a whole corpus
            scores = "scores" if len(snapshots["pairs"].parts) <= SAMPLED_PARTS else "[]"
            claims.append(
                f"SELECT image_id, tag, {TagSource.PREDICTED}, list_filter(scores, lambda s: s.tag_id = tag)[1].score "
                f"FROM (SELECT image_id, unnest(predicted) AS tag, {scores} AS scores FROM {view})"
            )
        query = f"""
            SELECT image_id, tag_id, bit_or(bit)::UTINYINT AS source, any_value(score)::FLOAT AS score,
                NULL::FLOAT AS region_score, NULL::FLOAT AS typicality, true AS kept, 'not judged yet' AS reason
            FROM ({" UNION ALL ".join(claims)}) GROUP BY image_id, tag_id
        """
    else:
        return ""
    origins = " ".join(f"WHEN source & {source} > 0 THEN '{origin}'" for source, origin in ORIGINS.items())
    return f"""
        SELECT {number} AS round, {columns}, CASE {origins} END AS origin FROM ({query})
    """
