"""What an export holds: the rows of a store joined part by part, in the memory of a part, by the latest verdicts.

Images that `screen` set apart are left out, and so are the tags that `judge` removed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from storage.names import of_round
from storage.schemas import IMAGE, TagSource, contract
from storage.store import Snapshot, Store, StoreError
from tasks.exports.rows import CHANGES, REGION, ROWS, TAG, ExportError
from tasks.exports.writing.files import suffix_of
from tasks.images.metadata import without_metadata
from tasks.labels.lookup import TagLookup
from tasks.labels.tags import Tag, read_tags
from tasks.machine.rounds import last_round

SOURCES = {  # what exports call them, and those that a selection may name
    "caption": TagSource.CAPTION,
    "generated": TagSource.GENERATED_CAPTION,
    "predicted": TagSource.PREDICTED,
}
_PLAIN = ("image_id", "captions", "split", "names", "url", "licence", "sha256", "width", "height", "sources", "extra")


_READ = {
    "caption_tags": ["image_id", "caption_index", "tag_ids"],
    "generated": ["image_id", "captions"],
    "images": ["image_id", "image"],
    "phrases": ["image_id", "phrases"],
    "regions": ["image_id", "tag_id", "box", "detector_score", "tag_score"],
    "tag_verdicts": ["image_id", "tag_id", "source", "score", "kept", "reason"],
}


@dataclass(frozen=True)
class Selection:
    """Which rows and tags leave. Empty: all of them.

    A tag leaves where one of ``sources`` (caption, generated, predicted) said it and its score is at least
    ``min_score``; before there are verdicts tags have no score. ``strip_exif``: image files leave without metadata.
    """

    split: str = ""
    min_score: float = 0.0
    sources: tuple[str, ...] = ()
    images: bool = True
    strip_exif: bool = False

    @property
    def said_by(self) -> TagSource:
        """The sources as bits of `tag_verdicts.source`."""
        chosen = [SOURCES[name] for name in self.sources] or [*TagSource]
        return reduce(or_, chosen)


class ExportedStore:
    """The latest snapshots of a store that an export reads. Raises StoreError where nothing has been ingested."""

    def __init__(self, store: Store) -> None:
        self.store = store
        number = max(1, last_round(store, "tag_verdicts"))
        names = {
            **{name: name for name in ("pairs", "images", "phrases", "caption_tags", "label_system", "screening")},
            **{name: of_round(name, number) for name in ("generated", "regions", "tag_verdicts")},
        }
        self.snapshots: dict[str, Snapshot] = {}
        for name, artifact in names.items():
            if (snapshot := store.snapshot(artifact)) is not None:
                self.snapshots[name] = snapshot
        if "pairs" not in self.snapshots:
            raise StoreError(f"{store.url} has no pairs yet: `ram-engine run --store {store.url}` makes them")
        self.tags: list[Tag] = []
        if "label_system" in self.snapshots:
            self.tags = read_tags(store.table(self.snapshots["label_system"]))
        self.active = [tag for tag in self.tags if tag.active]

    def rows(self, selection: Selection, regions: bool = True) -> Iterator[pa.Table]:
        """Tables of :data:`tasks.exports.ROWS`, a part each; without ``regions`` there are none.

        Raises ExportError for a split that has no image.
        """
        if unknown := [name for name in selection.sources if name not in SOURCES]:
            raise ExportError(f"tags are said by {', '.join(SOURCES)}, not by '{unknown[0]}'")
        if selection.min_score and "tag_verdicts" not in self.snapshots:
            raise ExportError("tags have no score before `judge` has run: run the pipeline, or leave out --min-score")
        any_row = False
        with duckdb.connect() as connection:
            connection.register("labels", self._label_table())
            wanted = {"regions": regions, "images": selection.images}
            aligned = ("caption_tags", "generated", "tag_verdicts", *(name for name in wanted if wanted[name]))
            for part in self._parts(selection, aligned):
                joined = _joined(connection, part, selection)
                any_row |= joined.num_rows > 0
                yield _stripped(joined) if selection.strip_exif and selection.images else joined
        if not any_row:
            raise ExportError(
                f"no image is of the split '{selection.split}'" if selection.split else "there is no image"
            )

    def changes(self, selection: Selection) -> Iterator[pa.Table]:
        """Tables of :data:`tasks.exports.CHANGES`: what became of the captions' words, and what came to them.

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
                    connection.register(name, table)
                chosen = {"said_by": selection.said_by, "least": selection.min_score}
                yield connection.sql(_CHANGES, params=chosen).to_arrow_table().cast(CHANGES)

    def extra_columns(self, selection: Selection) -> dict[str, pa.DataType]:
        """The names of the source's other columns, each with the type that holds all of its values."""
        tables = self.store.tables(self.snapshots["pairs"], ["split", "extra"])
        chosen = (
            table.filter(pc.equal(table["split"], selection.split)) if selection.split else table for table in tables
        )
        return column_types(json.loads(text or "{}") for table in chosen for text in table["extra"].to_pylist())

    def _parts(self, selection: Selection, aligned: tuple[str, ...]) -> Iterator[dict[str, pa.Table]]:
        """Part by part the pairs of the split that are not set apart, and what descends from them."""
        unfit = None
        if "screening" in self.snapshots:
            screening = self.store.table(self.snapshots["screening"], ["image_id", "kept"])
            unfit = screening.filter(pc.invert(screening["kept"]))["image_id"]
        pairs = self.snapshots["pairs"]
        parts = {
            name: {part.partition: part for part in self.snapshots[name].parts}
            for name in aligned
            if name in self.snapshots
        }
        for part in pairs.parts:
            table = self.store.rows_of(pairs, part, [*_PLAIN])
            if selection.split:
                table = table.filter(pc.equal(table["split"], selection.split))
            if unfit is not None:
                table = table.filter(pc.invert(pc.is_in(table["image_id"], value_set=unfit.combine_chunks())))
            if not table.num_rows:
                continue
            tables = {"pairs": table}
            for name in aligned:
                own = parts.get(name, {}).get(part.partition)
                if own is None:
                    tables[name] = contract(name).schema.empty_table().select(_READ[name])
                else:
                    tables[name] = self.store.rows_of(self.snapshots[name], own, _READ[name])
            yield tables

    def _label_table(self) -> pa.Table:
        return pa.table(
            {
                "tag_id": pa.array([tag.tag_id for tag in self.active], pa.int32()),
                "name": pa.array([tag.name for tag in self.active], pa.string()),
                "type": pa.array([tag.type for tag in self.active], pa.string()),
            }
        )


def _joined(connection: duckdb.DuckDBPyConnection, part: Mapping[str, pa.Table], selection: Selection) -> pa.Table:
    """The rows of a part. DuckDB joins, and gives back flat rows in order: lists are laid over them here."""
    pairs, count = part["pairs"], part["pairs"].num_rows
    place = pa.array(range(count), pa.int32())
    connection.register("places", pa.table({"image_id": pairs["image_id"], "place": place}))
    connection.register("verdicts", part["tag_verdicts"] if part["tag_verdicts"].num_rows else _claims(part))
    connection.register("caption_tags", part["caption_tags"])
    connection.register(
        "regions", part.get("regions", contract("regions").schema.empty_table().select(_READ["regions"]))
    )
    connection.execute(_CHOSEN, {"said_by": selection.said_by, "least": selection.min_score})
    tags, named, regions = (connection.sql(query).to_arrow_table() for query in (_TAGS, _NAMED, _REGIONS))
    said = _SAID_BY.take(tags["source"].combine_chunks().cast(pa.int32()))
    tags = tags.set_column(tags.column_names.index("source"), "sources", said)
    captions = pairs["captions"].combine_chunks()
    first = captions.offsets.to_numpy() - captions.offsets[0].as_py()
    caption = first[named["place"].to_numpy()] + named["caption_index"].to_numpy()
    ids = pa.ListArray.from_arrays(_offsets(caption, first[-1]), named["tag_id"].combine_chunks().cast(pa.int32()))
    columns = {
        **{name: pairs[name] for name in _PLAIN if name != "names"},
        "image": _files(pairs["image_id"], part["images"]) if "images" in part else pa.nulls(count, IMAGE),
        "name": pc.list_element(pairs["names"], 0),
        "tags": _lists(tags, TAG, count),
        "caption_tags": pa.ListArray.from_arrays(pa.array(first, pa.int32()), ids),
        "regions": _lists(regions, REGION, count),
        "generated_captions": _generated(pairs["image_id"], part["generated"]),
    }
    return pa.table(columns).select(ROWS.names).cast(ROWS)


def _files(image_ids: pa.ChunkedArray, images: pa.Table) -> pa.ChunkedArray:
    """The files of some of the images of a part."""
    if len(image_ids) == images.num_rows:
        return images["image"]
    return images["image"].take(pc.index_in(image_ids, value_set=images["image_id"].combine_chunks()))


def _stripped(joined: pa.Table) -> pa.Table:
    """The rows with image files without metadata, and with names that say so where a file became a PNG."""
    files, names = [], []
    for image, name in zip(joined["image"].to_pylist(), joined["name"].to_pylist(), strict=True):
        data = without_metadata(image["bytes"])
        files.append({**image, "bytes": data})
        suffix = suffix_of(data)
        names.append(f"{name}.{suffix}" if name and suffix != suffix_of(image["bytes"]) else name)
    for column, values in (("image", files), ("name", names)):
        place, field = joined.schema.get_field_index(column), joined.schema.field(column)
        joined = joined.set_column(place, field, pa.array(values, field.type))
    return joined


def _lists(rows: pa.Table, type_: pa.StructType, count: int) -> pa.ListArray:
    """Rows in the order of their column ``place`` as a list of structs for each of ``count`` places."""
    fields = [type_.field(at) for at in range(type_.num_fields)]
    values = [rows[field.name].combine_chunks().cast(field.type) for field in fields]
    return pa.ListArray.from_arrays(
        _offsets(rows["place"].to_numpy(), count), pa.StructArray.from_arrays(values, fields=fields)
    )


def _offsets(places: NDArray[np.integer], count: int) -> pa.Array:
    """Where the rows of each of ``count`` places begin among ``places``, which ascend, and where the last ends."""
    return pa.array(np.searchsorted(places, np.arange(count + 1)), pa.int32())


def _generated(image_ids: pa.ChunkedArray, generated: pa.Table) -> pa.Array:
    """The generated captions of each image; none where there are none yet, or the annotator failed."""
    rows = pc.index_in(image_ids, value_set=generated["image_id"].combine_chunks())
    if not generated.num_rows:
        return pa.array([[]] * len(image_ids), pa.list_(pa.string()))
    captions = generated["captions"].combine_chunks().take(rows.combine_chunks())
    return pc.coalesce(captions, pa.scalar([], captions.type))


def _claims(part: Mapping[str, pa.Table]) -> pa.Table:
    """What captions name as verdicts, where nothing has been judged yet."""
    with duckdb.connect() as connection:
        connection.register("caption_tags", part["caption_tags"])
        return connection.sql(
            f"SELECT DISTINCT image_id, unnest(tag_ids) AS tag_id, {TagSource.CAPTION}::UTINYINT AS source, "
            "NULL::FLOAT AS score, true AS kept, 'kept' AS reason FROM caption_tags"
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


def column_types(rows: Iterable[Mapping[str, Any]]) -> dict[str, pa.DataType]:
    """The columns of some rows of JSON by name, each with the type that holds all of its values as they are."""
    kinds: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.items():
            kinds.setdefault(name, set()).add(_kind_of(value))
    return {name: _type_of(kinds[name]) for name in sorted(kinds)}


def _kind_of(value: Any) -> str:
    """What kind of column a value of JSON needs; a whole number is ``exact`` where a float holds it as well."""
    if isinstance(value, int) and not isinstance(value, bool):
        return "exact" if abs(value) <= 2**53 else "long" if -(2**63) <= value < 2**63 else "text"
    return {bool: "bool", float: "float", type(None): "none"}.get(type(value), "text")


def _type_of(kinds: set[str]) -> pa.DataType:
    known = kinds - {"none"}
    for type_, held in ((pa.int64(), {"exact", "long"}), (pa.float64(), {"exact", "float"}), (pa.bool_(), {"bool"})):
        if known and known <= held:
            return type_
    return pa.string()


_SAID_BY = pa.array(
    [
        [name for name, source in {**SOURCES, "hand": TagSource.BY_HAND}.items() if bits & source]
        for bits in range(2 ** len(TagSource))
    ],
    pa.list_(pa.string()),
)
_CHOSEN = """
CREATE OR REPLACE TEMP TABLE chosen AS
SELECT place, image_id, tag_id, name, type, source, score
FROM verdicts JOIN labels USING (tag_id) JOIN places USING (image_id)
WHERE kept AND source & $said_by > 0 AND coalesce(score, 1) >= $least
"""
_TAGS = "SELECT place, tag_id, name, type, source, score FROM chosen ORDER BY place, score DESC NULLS LAST, tag_id"
_NAMED = """
SELECT place, caption_index, tag_id FROM (
    SELECT image_id, caption_index, unnest(tag_ids) AS tag_id FROM caption_tags WHERE caption_index >= 0
) JOIN chosen USING (image_id, tag_id) ORDER BY place, caption_index, tag_id
"""
_REGIONS = """
SELECT place, tag_id, name, box, coalesce(tag_score, detector_score) AS score
FROM regions JOIN chosen USING (image_id, tag_id) ORDER BY place, score DESC, tag_id
"""

_GENERATED = TagSource.GENERATED_CAPTION | TagSource.PREDICTED
_CHANGES = f"""
WITH judged AS (SELECT * FROM verdicts WHERE source & $said_by > 0 AND coalesce(score, 1) >= $least),
changes AS (
    SELECT image_id, tag_id, 'removed' AS change, NULL AS before,
        CASE WHEN reason = 'removed_by_hand' THEN 'verdicts import' ELSE 'judge' END AS stage, reason, score
    FROM judged WHERE NOT kept AND source & {TagSource.CAPTION} > 0
    UNION ALL
    SELECT image_id, tag_id, 'added', NULL,
        CASE WHEN source & {_GENERATED} > 0 THEN 'generate' ELSE 'verdicts import' END,
        CASE source & {_GENERATED}
            WHEN {TagSource.GENERATED_CAPTION} THEN 'generated caption'
            WHEN {TagSource.PREDICTED} THEN 'predicted'
            WHEN {_GENERATED} THEN 'generated caption and predicted'
            ELSE 'by hand'
        END,
        score
    FROM judged WHERE kept AND source & {TagSource.CAPTION} = 0
    UNION ALL
    SELECT image_id, tag_id, 'changed', word, 'build-labels', 'synonym', score
    FROM renamed JOIN judged USING (image_id, tag_id) WHERE kept AND source & {TagSource.CAPTION} > 0
)
SELECT image_id, sha256, names[1] AS name, url, split, change, labels.name AS tag, type, before, stage, reason, score
FROM changes JOIN pairs USING (image_id) JOIN labels USING (tag_id) ORDER BY image_id, change, tag
"""
