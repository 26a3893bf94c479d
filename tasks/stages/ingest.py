"""`ingest` (map over the source): checks every image, keeps it with all its captions, sets unfit rows apart.

An image belongs to one part for ever: only new and changed items make new parts, and what left the source, or changed,
becomes a tombstone in the snapshot. So one row added to a source computes one new part, in every map stage.

A file of many images (a tar, a Parquet file) is divided into pieces, and a piece stands for all of its images: it is
read where the file's name, size or time is new, and then its contents are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage import sources
from storage.keys import digest
from storage.schemas import CONTRACTS, READY_TAGS
from storage.sources import SourceItem
from storage.sources.containers import contents_digest
from storage.store import Part, Snapshot, Store, without
from tasks.data.merging import merge
from tasks.data.source_items import PIECE, list_all, named_sources, read_piece, unread
from tasks.images.decoding import ImageError, check_image, read_image
from tasks.machine.inputs import Inputs
from tasks.machine.planning import StageFailedError, StagePlan, finish_plan
from tasks.machine.stage_run import StageRun
from tasks.machine.worker import Shard
from tasks.sample_world import world
from tasks.settings.executor import ExecutorSettings
from tasks.settings.ingest import IngestSettings
from tasks.settings.sources import LabelsSource, OneSource, SampleSource


def plan(run: StageRun) -> StagePlan:
    """Compares the source with the latest snapshot: which items are new, and which rows left."""
    store, again = run.store, run.again
    settings = IngestSettings.model_validate(run.settings)
    latest = None if again.force else store.snapshot("pairs")
    if latest is not None:  # the images of a part that was lost are read from the source again
        present = store.parts_present("pairs")
        latest = replace(latest, parts=tuple(part for part in latest.parts if part.key in present))
    items = list_all(settings, run.stage.version, _known_pieces(store, latest))
    tombstones = {} if latest is None else {key: list(ids) for key, ids in latest.tombstones.items()}
    by_size = _by_size(items)
    unclaimed = dict(items)
    homes: dict[str, str] = {}
    parted: list[tuple[_KnownRow, str]] = []
    for row in _known_rows(store, latest):
        matched = [one if one in items else _same_contents(one, row, by_size) for one in row.fingerprints]
        if all(matched) and not (row.rejected and again.retry_rejected):
            for one in matched:
                unclaimed.pop(one, None)
            if len(matched) == 1 and items[matched[0]].container:
                homes[matched[0]] = row.partition
        else:
            tombstones.setdefault(row.partition, []).append(row.row_id)
            parted += [(row, one) for one in matched if PIECE.fullmatch(one)]
    # An image whose other source left: where its row within the piece is still there it is alive again, else the piece
    # is read again, as it is for a rejected row that is to be retried.
    for row, one in parted:
        home = homes.get(one, row.partition)
        if home != row.partition and row.row_id in tombstones.get(home, ()):
            tombstones[home].remove(row.row_id)
        else:
            unclaimed[one] = items[one]
    tombstones = {partition: ids for partition, ids in tombstones.items() if ids}
    shards = []
    for chunk in _chunks({unread(name): item for name, item in unclaimed.items()}, settings.shard_size):
        retried = [latest.key] if latest is not None and again.retry_rejected else []  # its first part stays as it is
        key = digest(["ingest", list(chunk), *retried])
        tombstones.pop(key, None)  # the same items came back: their part is alive again
        rows = sum(item.rows or 1 for item in chunk.values())
        shards.append(Shard(key=key, partition=key, tables={"items": _item_table(chunk)}, rows=rows))
    if latest is not None:
        new = {shard.partition for shard in shards}
        shards += [
            Shard(key=part.key, partition=part.partition, rows=part.rows)
            for part in latest.parts
            if part.partition not in new
        ]
    recipe = digest(["ingest", run.stage.version, _identity(settings)])
    return finish_plan(StagePlan(run, {}, key="", recipe=recipe, tombstones=tombstones), shards)


def _chunks(items: Mapping[str, SourceItem], size: int) -> Iterator[dict[str, SourceItem]]:
    """Items by fingerprint in groups of ``size`` images; a piece of a file stays whole."""
    chunk: dict[str, SourceItem] = {}
    rows = 0
    for name, item in items.items():
        chunk[name] = item
        rows += item.rows or 1
        if rows >= size:
            yield chunk
            chunk, rows = {}, 0
    if chunk:
        yield chunk


def build(
    settings: IngestSettings, inputs: Inputs, executor: ExecutorSettings
) -> Callable[[Mapping[str, pa.Table]], Mapping[str, pa.Table]]:
    """Reads and checks the images of a table of items."""
    named = named_sources(settings.source)

    def ingest(tables: Mapping[str, pa.Table]) -> Mapping[str, pa.Table]:
        pairs: dict[str, dict[str, Any]] = {}
        rejected: list[dict[str, Any]] = []
        truths: list[dict[str, Any]] = []
        for item, print_ in _images(tables["items"], named):
            try:
                row, truth = _read(item, print_, settings, named[item.source])
            except ImageError as error:
                rejected.append(_rejected(item, print_, error.reason, error.detail))
                continue
            if row["image_id"] in pairs:
                pairs[row["image_id"]] = merge([pairs[row["image_id"]], row])
            else:
                pairs[row["image_id"]] = row
                truths += truth
        return {
            "pairs": pa.Table.from_pylist(list(pairs.values()), CONTRACTS["pairs"].schema),
            "pairs_rejected": pa.Table.from_pylist(rejected, CONTRACTS["pairs_rejected"].schema),
            "truth": pa.Table.from_pylist(truths, CONTRACTS["truth"].schema),
        }

    return ingest


def _images(items: pa.Table, named: Mapping[str, OneSource]) -> Iterator[tuple[SourceItem, str]]:
    """Single images with their fingerprints: pieces of files are read here."""
    for row in items.to_pylist():
        name = row.pop("fingerprint")
        problem = (row.pop("reason"), row.pop("detail"))
        ready = row.pop("ready_tags")
        item = SourceItem(
            **{**row, "captions": tuple(row["captions"])},
            problem=problem if problem[0] else None,
            ready_tags=None if ready is None else tuple(_ready_pair(one) for one in ready),
        )
        if not item.container:
            yield item, name
            continue
        images = read_piece(item, named[item.source])
        start, version = name.split(".-")
        name = f"{start}.{contents_digest(images)}-{version}"
        for image in images:
            yield replace(image, source=item.source), name


def _ready_pair(one: Mapping[str, Any]) -> tuple[int, tuple[tuple[str, str], ...]]:
    return one["caption_index"], tuple((tag["name"], tag["type"]) for tag in one["tags"])


def conclude(plan: StagePlan, done: dict[str, list[Part]]) -> dict[str, list[str]]:
    """Merges what stands in several parts, which adds to ``done``, and returns the snapshot's tombstones.

    Raises :class:`StageFailedError` where the source has no image at all.
    """
    store, new = plan.run.store, {shard.key for shard in plan.shards}
    merged, tombstones = merge_duplicates(store, plan, [part for part in done["pairs"] if part.key in new])
    for artifact, part in merged.items():
        done[artifact].append(part)
    if not any(part.rows for parts in done.values() for part in parts):
        raise StageFailedError("ingest: the source holds no image; check its path and columns")
    return tombstones


def merge_duplicates(store: Store, plan: StagePlan, made: list[Part]) -> tuple[dict[str, Part], dict[str, list[str]]]:
    """One photograph under several names is one image with all its captions.

    Looks for images of the parts just ``made`` that stand in another part as well. Returns a part for each artifact
    that holds them merged (empty where there are none), and the tombstones with their single rows added.
    """
    tombstones = {key: list(ids) for key, ids in (plan.tombstones or {}).items()}
    parts = [*((plan.done or {}).get("pairs", ())), *made]
    ids = [
        without(store.read_columns("pairs", part, ["image_id"]), tombstones.get(part.partition, []))["image_id"]
        for part in parts
    ]
    counts = pc.value_counts(pa.chunked_array([chunk for each in ids for chunk in each.chunks], pa.string()))
    several = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if not len(several):
        return {}, tombstones
    double: dict[str, list[Part]] = {}
    for part, own in zip(parts, ids, strict=True):
        for image_id in own.filter(pc.is_in(own, value_set=several)).to_pylist():
            double.setdefault(image_id, []).append(part)
    rows = []
    for image_id, found in double.items():
        rows.append(merge([_row(store, part, image_id) for part in found]))
        for part in found:
            tombstones.setdefault(part.partition, []).append(image_id)
    key = digest(["ingest", "merged", sorted(one for row in rows for one in row["fingerprints"])])
    tombstones.pop(key, None)
    tables = {"pairs": pa.Table.from_pylist(rows, CONTRACTS["pairs"].schema)}
    return {
        artifact: store.write_part(artifact, key, key, tables.get(artifact, CONTRACTS[artifact].schema.empty_table()))
        for artifact in plan.stage.writes
    }, tombstones


@dataclass(frozen=True)
class _KnownRow:
    partition: str
    row_id: str  # what tombstones name it by: its image's id, of a rejected row its fingerprint
    sha256: str
    fingerprints: tuple[str, ...]
    rejected: bool = False


def _known_rows(store: Store, latest: Snapshot | None) -> Iterator[_KnownRow]:
    if latest is None:
        return
    for part in latest.parts:
        gone = set(latest.tombstones.get(part.partition, ()))
        columns = store.read_columns("pairs", part, ["image_id", "sha256", "fingerprints"]).to_pylist()
        for row in columns:
            if row["image_id"] not in gone:
                yield _KnownRow(part.partition, row["image_id"], row["sha256"], tuple(row["fingerprints"]))
    rejected = store.snapshot("pairs_rejected")
    for part in rejected.parts if rejected is not None else ():
        gone = set(latest.tombstones.get(part.partition, ()))
        for row in store.read_part("pairs_rejected", part, ["fingerprint"]).to_pylist():
            if row["fingerprint"] not in gone:
                yield _KnownRow(part.partition, row["fingerprint"], "", (row["fingerprint"],), rejected=True)


def _known_pieces(store: Store, latest: Snapshot | None) -> Iterator[re.Match[str]]:
    """The fingerprints of pieces of files that were read before."""
    rejected = store.snapshot("pairs_rejected") if latest is not None else None
    for snapshot, column in ((latest, "fingerprints"), (rejected, "fingerprint")):
        if snapshot is None:
            continue
        for part in snapshot.parts:
            found = store.read_columns(snapshot.artifact, part, [column])[column]
            flat = pc.list_flatten(found) if column == "fingerprints" else found
            for one in pc.unique(flat).to_pylist():
                if match := PIECE.fullmatch(one or ""):
                    yield match


def _by_size(items: Mapping[str, SourceItem]) -> Mapping[str, list[tuple[str, SourceItem]]]:
    """Items with a file, by all of their fingerprint but the time."""
    grouped: dict[str, list[tuple[str, SourceItem]]] = {}
    for listed, item in items.items():
        if item.path and not item.container and not item.version.startswith("missing"):
            grouped.setdefault(listed.rsplit("-", 1)[0], []).append((listed, item))
    return grouped


def _same_contents(known: str, row: _KnownRow, by_size: Mapping[str, list[tuple[str, SourceItem]]]) -> str:
    """The listed fingerprint of a file that only was touched: its digest decides; "" where it left or changed."""
    for listed, item in by_size.get(known.rsplit("-", 1)[0], ()):
        if row.sha256 and hashlib.sha256(Path(item.path).read_bytes()).hexdigest() == row.sha256:
            return listed
    return ""


def _identity(settings: IngestSettings) -> Any:
    """What makes a source another source: a larger limit only makes it longer."""
    identity = {name: value for name, value in settings.identity().items() if name != "shard_size"}
    for source in identity.get("source", {}).get("parts", [identity.get("source", {})]):
        source.pop("limit", None)
    return identity


ITEMS = pa.schema(
    [
        *((name, pa.string()) for name in ("name", "where", "split", "path", "version", "url", "licence", "extra")),
        *((name, pa.string()) for name in ("source", "container", "fingerprint", "reason", "detail")),
        ("captions", pa.list_(pa.string())),
        ("ready_tags", pa.list_(READY_TAGS)),
        ("start", pa.int64()),
        ("rows", pa.int64()),
    ]
)


def _item_table(items: Mapping[str, SourceItem]) -> pa.Table:
    rows = []
    for name, item in items.items():
        row = {column: getattr(item, column) for column in ITEMS.names if hasattr(item, column)}
        reason, detail = item.problem or (None, None)
        rows.append(
            {**row, "fingerprint": name, "reason": reason, "detail": detail, "ready_tags": _ready_rows(item.ready_tags)}
        )
    return pa.Table.from_pylist(rows, ITEMS)


def _ready_rows(ready: sources.ReadyTags | None) -> list[dict[str, Any]] | None:
    if ready is None:
        return None
    return [
        {"caption_index": at, "tags": [{"name": name, "type": type_} for name, type_ in tags]} for at, tags in ready
    ]


def _read(
    item: SourceItem, print_: str, settings: IngestSettings, source: OneSource
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A row of `pairs`, and of `truth` where it is known. Raises :class:`ImageError` for an unfit row."""
    if item.problem:
        raise ImageError(*item.problem)
    captions, truth = list(item.captions), []
    if isinstance(source, SampleSource):
        drawn = world.draw(source, item.name)
        data, captions = drawn.image, list(drawn.captions)
    else:
        data = read_image({"bytes": item.data, "path": item.path})
    width, height = check_image(data, settings.max_pixels)
    sha256 = hashlib.sha256(data).hexdigest()
    image_id = sha256[:16]
    if isinstance(source, SampleSource):
        truth = [
            {
                "image_id": image_id,
                "objects": [{"name": name, "box": list(box)} for name, box in drawn.objects],
                "tags": [{"name": name, "type": type_} for name, type_ in (*drawn.tags, *drawn.other_words)],
                "caption_of": drawn.caption_of,
            }
        ]
    return {
        "image_id": image_id,
        "image": {"bytes": data, "path": item.name},
        "captions": captions,
        "split": item.split or _split_of(image_id, settings, isinstance(source, LabelsSource)),
        "sources": [item.source],
        "names": [item.name],
        "fingerprints": [print_],
        "url": item.url,
        "licence": item.licence,
        "sha256": sha256,
        "width": width,
        "height": height,
        "extra": item.extra,
        "ready_tags": _ready_rows(item.ready_tags),
    }, truth


def _split_of(image_id: str, settings: IngestSettings, held_out: bool) -> str:
    """The split of an image whose source names none: by its content, so that it never moves.

    One that is ``held_out`` is of the split test or calibrate, in the proportion in which others are.
    """
    share = int(image_id[:8], 16) / 2**32
    if held_out:
        share *= settings.test_share + settings.calibrate_share
        return "test" if share <= settings.test_share else "calibrate"
    if share < settings.test_share:
        return "test"
    return "calibrate" if share < settings.test_share + settings.calibrate_share else "train"


def _row(store: Store, part: Part, image_id: str) -> dict[str, Any]:
    table = store.read_part("pairs", part)
    index = table["image_id"].to_pylist().index(image_id)
    row: dict[str, Any] = table.slice(index, 1).to_pylist()[0]
    return row


def _rejected(item: SourceItem, print_: str, reason: str, detail: str) -> dict[str, Any]:
    return {
        "image_id": None,
        "where": f"{item.where}: {item.name}",
        "reason": reason,
        "detail": detail,
        "fingerprint": print_,
    }
