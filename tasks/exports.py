"""What an export holds: the rows of a store joined part by part, in the memory of a part, by the latest verdicts.

Images that `screen` set apart are left out, and so are the tags that `judge` removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from storage.exports import ROWS, ExportError
from storage.exports.rows import CHANGES
from storage.schemas import IMAGE, contract
from storage.store import Snapshot, Store, StoreError
from tasks.inputs import connect
from tasks.labels.lookup import TagLookup
from tasks.labels.tags import Tag, read_tags
from tasks.stages import of_round
from tasks.verdicts import judged_rounds

SOURCE_BITS = {"caption": 1, "generated": 2, "predicted": 4}
BY_HAND = 8
_PLAIN = ("image_id", "captions", "split", "names", "url", "licence", "sha256", "width", "height", "sources", "extra")


@dataclass(frozen=True)
class Selection:
    """Which rows and tags leave. Empty: all of them.

    A tag leaves where one of ``sources`` (caption, generated, predicted) said it and its score is at least
    ``min_score``; before there are verdicts tags have no score.
    """

    split: str = ""
    min_score: float = 0.0
    sources: tuple[str, ...] = ()
    images: bool = True

    @property
    def bits(self) -> int:
        """The sources as bits of `tag_verdicts.source`."""
        chosen = [SOURCE_BITS[name] for name in self.sources] or [*SOURCE_BITS.values(), BY_HAND]
        return sum(chosen)


class ExportedStore:
    """The latest snapshots of a store that an export reads. Raises StoreError where nothing has been ingested."""

    def __init__(self, store: Store) -> None:
        self.store = store
        number = max(1, judged_rounds(store))
        names = {
            **{name: name for name in ("pairs", "phrases", "caption_tags", "label_system", "screening")},
            **{name: of_round(name, number) for name in ("generated", "regions", "tag_verdicts")},
        }
        found = {name: store.snapshot(artifact) for name, artifact in names.items()}
        self.snapshots: dict[str, Snapshot] = {name: one for name, one in found.items() if one is not None}
        if "pairs" not in self.snapshots:
            raise StoreError(f"{store.url} has no pairs yet: `ram-engine run --store {store.url}` makes them")
        self.tags: list[Tag] = []
        if "label_system" in self.snapshots:
            self.tags = read_tags(store.table(self.snapshots["label_system"]))
        self.active = [tag for tag in self.tags if tag.active]

    def rows(self, selection: Selection) -> Iterator[pa.Table]:
        """Tables of :data:`storage.exports.ROWS`, a part each. Raises ExportError for a split that has no image."""
        if unknown := [one for one in selection.sources if one not in SOURCE_BITS]:
            raise ExportError(f"tags are said by {', '.join(SOURCE_BITS)}, not by '{unknown[0]}'")
        if selection.min_score and "tag_verdicts" not in self.snapshots:
            raise ExportError("tags have no score before `judge` has run: run the pipeline, or leave out --min-score")
        found = False
        with duckdb.connect() as connection:
            connection.register("labels", self._label_table())
            for part in self._parts(selection, ("caption_tags", "generated", "regions", "tag_verdicts")):
                joined = _joined(connection, part, selection)
                found |= joined.num_rows > 0
                yield joined
        if not found:
            raise ExportError(
                f"no image is of the split '{selection.split}'" if selection.split else "there is no image"
            )

    def changes(self, selection: Selection) -> Iterator[pa.Table]:
        """Tables of :data:`storage.exports.rows.CHANGES`: what became of the captions' words, and what came to them.

        Raises ExportError before there are verdicts.
        """
        if "tag_verdicts" not in self.snapshots:
            raise ExportError("there is no difference before `judge` has run: run the pipeline first")
        lookup = TagLookup(self.tags)
        with duckdb.connect() as connection:
            connection.register("labels", self._label_table())
            for part in self._parts(selection, ("phrases", "tag_verdicts")):
                renamed = _renamed(part["phrases"], lookup)
                for name, table in (("pairs", part["pairs"]), ("verdicts", part["tag_verdicts"]), ("renamed", renamed)):
                    connection.register(name, table.drop_columns(["image"]) if "image" in table.column_names else table)
                chosen = {"bits": selection.bits, "least": selection.min_score}
                yield connection.sql(_CHANGES, params=chosen).to_arrow_table().cast(CHANGES)

    def extra_columns(self, selection: Selection) -> dict[str, pa.DataType]:
        """The names of the source's other columns, each with the type that holds all of its values."""
        types: dict[str, set[str]] = {}
        with connect(self.store, {"pairs": self.snapshots["pairs"]}) as connection:
            for name, type_ in connection.execute(_EXTRA, {"split": selection.split}).fetchall():
                types.setdefault(name, set()).add(type_)
        return {name: _type_of(kinds) for name, kinds in types.items()}

    def _parts(self, selection: Selection, aligned: tuple[str, ...]) -> Iterator[dict[str, pa.Table]]:
        """Part by part the pairs of the split that are not set apart, and what descends from them."""
        unfit = None
        if "screening" in self.snapshots:
            screening = self.store.table(self.snapshots["screening"], ["image_id", "kept"])
            unfit = screening.filter(pc.invert(screening["kept"]))["image_id"]
        pairs = self.snapshots["pairs"]
        columns = [*_PLAIN, "image"] if selection.images else [*_PLAIN]
        parts = {
            name: {part.partition: part for part in self.snapshots[name].parts}
            for name in aligned
            if name in self.snapshots
        }
        for part in pairs.parts:
            table = self.store.rows_of(pairs, part, columns)
            if selection.split:
                table = table.filter(pc.equal(table["split"], selection.split))
            if unfit is not None:
                table = table.filter(pc.invert(pc.is_in(table["image_id"], value_set=unfit.combine_chunks())))
            if not table.num_rows:
                continue
            found = {"pairs": table}
            for name in aligned:
                schema = contract(name).schema
                read = [column for column in schema.names if column != "feature"]
                own = parts.get(name, {}).get(part.partition)
                if own is None:
                    found[name] = schema.empty_table().select(read)
                else:
                    found[name] = self.store.rows_of(self.snapshots[name], own, read)
            yield found

    def _label_table(self) -> pa.Table:
        return pa.table(
            {
                "tag_id": pa.array([tag.tag_id for tag in self.active], pa.int32()),
                "name": pa.array([tag.name for tag in self.active], pa.string()),
                "type": pa.array([tag.type for tag in self.active], pa.string()),
            }
        )


def _joined(connection: duckdb.DuckDBPyConnection, part: Mapping[str, pa.Table], selection: Selection) -> pa.Table:
    pairs = part["pairs"]
    connection.register("pairs", pairs.select([name for name in pairs.column_names if name != "image"]))
    for name in ("caption_tags", "generated", "regions"):
        connection.register(name, part[name])
    claims = part["tag_verdicts"] if part["tag_verdicts"].num_rows else _claims(part["caption_tags"])
    connection.register("verdicts", claims)
    chosen = {"bits": selection.bits, "least": selection.min_score}
    joined = connection.sql(_ROWS, params=chosen).to_arrow_table()
    joined = joined.sort_by("place").drop_columns(["place"])
    image = pairs["image"] if "image" in pairs.column_names else pa.nulls(pairs.num_rows, IMAGE)
    return joined.append_column("image", image).select(ROWS.names).cast(ROWS)


def _claims(caption_tags: pa.Table) -> pa.Table:
    """What captions name as verdicts, where nothing has been judged yet."""
    with duckdb.connect() as connection:
        connection.register("caption_tags", caption_tags)
        return connection.sql(
            "SELECT DISTINCT image_id, unnest(tag_ids) AS tag_id, 1::UTINYINT AS source, NULL::FLOAT AS score, "
            "true AS kept, 'kept' AS reason FROM caption_tags"
        ).to_arrow_table()


def _renamed(phrases: pa.Table, lookup: TagLookup) -> pa.Table:
    """(image_id, tag_id, word): where a caption's word became a tag of another name."""
    rows: list[dict[str, Any]] = []
    for row in phrases.select(["image_id", "phrases"]).to_pylist():
        seen = set()
        for phrase in row["phrases"]:
            tag = lookup.find(phrase["lemma"], phrase["type"])
            if tag is not None and tag.active and tag.name.lower() != phrase["lemma"].lower():
                seen.add((tag.tag_id, phrase["lemma"]))
        rows += [{"image_id": row["image_id"], "tag_id": tag_id, "word": word} for tag_id, word in sorted(seen)]
    schema = pa.schema([("image_id", pa.string()), ("tag_id", pa.int32()), ("word", pa.string())])
    return pa.Table.from_pylist(rows, schema)


def _type_of(kinds: set[str]) -> pa.DataType:
    numbers = {"BIGINT", "UBIGINT", "HUGEINT"}
    known = kinds - {"NULL"}
    if known and known <= numbers:
        return pa.int64()
    if known and known <= numbers | {"DOUBLE"}:
        return pa.float64()
    return pa.bool_() if known == {"BOOLEAN"} else pa.string()


_SAID_BY = """list_filter(
        [CASE WHEN source & 1 > 0 THEN 'caption' END, CASE WHEN source & 2 > 0 THEN 'generated' END,
         CASE WHEN source & 4 > 0 THEN 'predicted' END, CASE WHEN source & 8 > 0 THEN 'hand' END],
        lambda one: one IS NOT NULL)"""

_ROWS = f"""
WITH chosen AS (
    SELECT image_id, verdicts.tag_id, name, type, source, score FROM verdicts JOIN labels USING (tag_id)
    WHERE kept AND source & $bits > 0 AND coalesce(score, 1) >= $least
),
tags AS (
    SELECT image_id, list({{tag_id: tag_id, name: name, type: type, sources: {_SAID_BY}, score: score}}
        ORDER BY score DESC NULLS LAST, tag_id) AS tags
    FROM chosen GROUP BY image_id
),
named AS (
    SELECT image_id, list(ids ORDER BY caption_index) AS caption_tags FROM (
        SELECT image_id, caption_index, coalesce(list(tag_id ORDER BY tag_id) FILTER (kept_id IS NOT NULL), []) AS ids
        FROM (SELECT image_id, caption_index, unnest(CASE WHEN len(tag_ids) = 0 THEN [NULL] ELSE tag_ids END) AS tag_id
            FROM caption_tags WHERE caption_index >= 0)
        LEFT JOIN (SELECT image_id, tag_id, tag_id AS kept_id FROM chosen) USING (image_id, tag_id)
        GROUP BY image_id, caption_index
    ) GROUP BY image_id
),
boxes AS (
    SELECT image_id, list({{tag_id: tag_id, name: name, box: box, score: tag_score}} ORDER BY tag_score DESC, tag_id)
        AS regions
    FROM regions JOIN (SELECT image_id, tag_id, name FROM chosen) USING (image_id, tag_id) GROUP BY image_id
),
placed AS (SELECT *, row_number() OVER () AS place FROM pairs)
SELECT placed.* EXCLUDE (names), names[1] AS name, coalesce(tags, []) AS tags,
    coalesce(caption_tags, []) AS caption_tags, coalesce(regions, []) AS regions,
    coalesce(generated.captions, []) AS generated_captions
FROM placed LEFT JOIN tags USING (image_id) LEFT JOIN named USING (image_id) LEFT JOIN boxes USING (image_id)
LEFT JOIN (SELECT image_id, captions FROM generated) AS generated USING (image_id)
"""
"""DuckDB: a part's pairs with the tags that are chosen, what captions name of them, and their regions."""

_CHANGES = """
WITH judged AS (SELECT * FROM verdicts WHERE source & $bits > 0 AND coalesce(score, 1) >= $least),
changes AS (
    SELECT image_id, tag_id, 'removed' AS change, NULL AS before,
        CASE WHEN reason = 'removed_by_hand' THEN 'verdicts import' ELSE 'judge' END AS stage, reason, score
    FROM judged WHERE NOT kept AND source & 1 = 1
    UNION ALL
    SELECT image_id, tag_id, 'added', NULL,
        CASE WHEN source & 6 > 0 THEN 'generate' ELSE 'verdicts import' END,
        CASE source & 6 WHEN 2 THEN 'generated caption' WHEN 4 THEN 'predicted'
            WHEN 6 THEN 'generated caption and predicted' ELSE 'by hand' END,
        score
    FROM judged WHERE kept AND source & 1 = 0
    UNION ALL
    SELECT image_id, tag_id, 'changed', word, 'build-labels', 'synonym', score
    FROM renamed JOIN judged USING (image_id, tag_id) WHERE kept AND source & 1 = 1
)
SELECT image_id, sha256, names[1] AS name, url, split, change, labels.name AS tag, type, before, stage, reason, score
FROM changes JOIN pairs USING (image_id) JOIN labels USING (tag_id) ORDER BY image_id, change, tag
"""

_EXTRA = """
SELECT DISTINCT key, json_type(extra, '$."' || replace(key, '"', '\\"') || '"') AS type FROM (
    SELECT extra, unnest(json_keys(extra)) AS key FROM pairs WHERE $split = '' OR split = $split
) ORDER BY key
"""
