"""`ingest` (map over the source): checks every image, keeps it with all its captions, sets unfit rows apart.

An image belongs to one part for ever: only new and changed items make new parts, and what left the source, or changed,
becomes a tombstone in the snapshot. So one row added to a source computes one new part, in every map stage.

A file of many images (a tar, a Parquet file) is divided into pieces, and a piece stands for all of its images: it is
read where the file's name, size or time is new, and then its contents are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.bare import TOLD_BY, are_bare
from storage.keys import digest
from storage.schemas import CONTRACTS, IMAGE
from storage.store import Part, Snapshot, Store, without
from tasks.images.decoding import ImageError, check_image, read_image
from tasks.images.perceptual_hash import HASH_SIDE, perceptual_hash
from tasks.machine.cores import cores
from tasks.machine.inputs import Inputs
from tasks.machine.planning import StageFailedError, StagePlan, finish_plan
from tasks.machine.stage_run import Again, StageRun
from tasks.machine.worker import Shard
from tasks.settings.executor import ExecutorSettings
from tasks.settings.ingest import IngestSettings
from tasks.sources.item import SourceItem
from tasks.sources.listing.current import list_all, named_sources
from tasks.sources.listing.fingerprints import Fingerprint
from tasks.sources.listing.item_rows import from_table, ready_rows, to_table
from tasks.sources.listing.merging import merge
from tasks.sources.source import Source

ItemsByPrint = Mapping[Fingerprint, SourceItem]


def plan(run: StageRun) -> StagePlan:
    """Compares the source with the latest snapshot: which items are new, and which rows left."""
    store, again = run.store, run.again
    settings = IngestSettings.model_validate(run.settings)
    latest = None if again.force else store.snapshot("pairs")
    if latest is not None:  # the images of a part that was lost are read from the source again
        present = store.parts_present("pairs") & store.parts_present("images")
        latest = replace(latest, parts=tuple(part for part in latest.parts if part.key in present))
    items = list_all(settings, run.stage.version, _known_pieces(store, latest))
    unclaimed, tombstones = _compared(items, latest, _known_rows(store, latest), again)
    shards = []
    for chunk in _chunks({fingerprint.unread(): item for fingerprint, item in unclaimed.items()}, settings.shard_size):
        retried = [latest.key] if latest is not None and again.retry_rejected else []  # its first part stays as it is
        key = digest(["ingest", [str(fingerprint) for fingerprint in chunk], *retried])
        tombstones.pop(key, None)  # the same items came back: their part is alive again
        rows = sum(item.rows or 1 for item in chunk.values())
        shards.append(Shard(key=key, partition=key, tables={"items": to_table(chunk)}, rows=rows))
    if latest is not None:
        new = {shard.partition for shard in shards}
        shards += [
            Shard(key=part.key, partition=part.partition, rows=part.rows)
            for part in latest.parts
            if part.partition not in new
        ]
    recipe = digest(["ingest", run.stage.version, settings.absolute().identity()])
    return finish_plan(StagePlan(run, {}, key="", recipe=recipe, tombstones=tombstones), shards)


def _compared(
    items: ItemsByPrint, latest: Snapshot | None, known: Iterator[_KnownRow], again: Again
) -> tuple[ItemsByPrint, dict[str, list[str]]]:
    """The items to read, and the tombstones by partition of what left, where the ``known`` rows are what was read."""
    tombstones = {} if latest is None else {key: list(ids) for key, ids in latest.tombstones.items()}
    by_size = _by_size(items)
    unclaimed = dict(items)
    homes: dict[Fingerprint, str] = {}
    parted: list[tuple[_KnownRow, Fingerprint]] = []
    for row in known:
        matched = [
            fingerprint if fingerprint in items else _same_contents(fingerprint, row, by_size)
            for fingerprint in row.fingerprints
        ]
        present = [fingerprint for fingerprint in matched if fingerprint is not None]
        if len(present) == len(matched) and not (row.rejected and again.retry_rejected):
            for fingerprint in present:
                unclaimed.pop(fingerprint, None)
            if len(present) == 1 and present[0].of_piece:
                homes[present[0]] = row.partition
        else:
            tombstones.setdefault(row.partition, []).append(row.row_id)
            parted += [(row, fingerprint) for fingerprint in present if fingerprint.of_piece]
    # An image whose other source left: where its row within the piece is still there it is alive again, else the piece
    # is read again, as it is for a rejected row that is to be retried.
    for row, fingerprint in parted:
        home = homes.get(fingerprint, row.partition)
        if home != row.partition and row.row_id in tombstones.get(home, ()):
            tombstones[home].remove(row.row_id)
        else:
            unclaimed[fingerprint] = items[fingerprint]
    return unclaimed, {partition: ids for partition, ids in tombstones.items() if ids}


def _chunks(items: ItemsByPrint, size: int) -> Iterator[dict[Fingerprint, SourceItem]]:
    """Items by fingerprint in groups of ``size`` images; a piece of a file stays whole."""
    chunk: dict[Fingerprint, SourceItem] = {}
    rows = 0
    for fingerprint, item in items.items():
        chunk[fingerprint] = item
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
    threads = max(1, cores() // max(1, executor.workers))

    def read(listed: tuple[Fingerprint, SourceItem]) -> tuple[SourceItem, dict[str, Any], pa.Array | None]:
        fingerprint, item = listed
        try:
            data = _contents(item)
            row = _row_of(item, data, fingerprint, settings, named[item.source].held_out)
        except ImageError as error:
            return item, _rejected(item, fingerprint, error.reason, error.detail), None
        return item, row, pa.array([{"bytes": data, "path": item.name}], IMAGE)

    def ingest(tables: Mapping[str, pa.Table]) -> Mapping[str, pa.Table]:
        pairs: dict[str, dict[str, Any]] = {}
        files: list[pa.Array] = []  # an array a file: a longer one would be copied as it grows
        rejected: list[dict[str, Any]] = []
        truths: list[dict[str, Any]] = []
        with ThreadPoolExecutor(threads) as pool:
            for item, row, file in pool.map(read, _images(tables["items"], named)):
                image_id = row["image_id"]
                if file is None:
                    rejected.append(row)
                elif image_id in pairs:
                    pairs[image_id] = merge([pairs[image_id], row])
                else:
                    pairs[image_id] = row
                    files.append(file)
                    if item.truth is not None:
                        truths.append({"image_id": image_id, **item.truth})
        images = {"image_id": list(pairs), "image": pa.chunked_array(files, IMAGE)}
        return {
            "pairs": pa.Table.from_pylist(list(pairs.values()), CONTRACTS["pairs"].schema),
            "images": pa.table(images, CONTRACTS["images"].schema),
            "pairs_rejected": pa.Table.from_pylist(rejected, CONTRACTS["pairs_rejected"].schema),
            "truth": pa.Table.from_pylist(truths, CONTRACTS["truth"].schema),
        }

    return ingest


def _images(items: pa.Table, named: Mapping[str, Source]) -> Iterator[tuple[Fingerprint, SourceItem]]:
    """Single images with their fingerprints: what is more than a file of its own is read here."""
    for fingerprint, item in from_table(items):
        if item.problem is not None:
            yield fingerprint, item
            continue
        images = named[item.source].read(item)
        if item.container:
            images = list(images)
            fingerprint = fingerprint.read(images)
        for image in images:
            yield fingerprint, replace(image, source=item.source)


def conclude(plan: StagePlan, done: dict[str, list[Part]]) -> dict[str, list[str]]:
    """Merges what stands in several parts, which adds to ``done``, and returns the snapshot's tombstones.

    Raises :class:`StageFailedError` where the source has no image at all.
    """
    store, new = plan.run.store, {shard.key for shard in plan.shards}
    made = {artifact: [part for part in done[artifact] if part.key in new] for artifact in ("pairs", "images")}
    merged, tombstones = merge_duplicates(store, plan, made)
    for artifact, part in merged.items():
        done[artifact].append(part)
    if not any(part.rows for parts in done.values() for part in parts):
        raise StageFailedError("ingest: the source holds no image; check its path and columns")
    return tombstones


def told(store: Store, pairs: Snapshot) -> str:
    """What a run says of the ``pairs`` beside their number: how many of them are bare; "" where none is."""
    bare = sum(int(are_bare(table).sum()) for table in store.tables(pairs, [*TOLD_BY]))
    return f"{bare:,} of the pictures came without a caption" if bare else ""


def merge_duplicates(
    store: Store, plan: StagePlan, made: Mapping[str, list[Part]]
) -> tuple[dict[str, Part], dict[str, list[str]]]:
    """One photograph under several names is one image with all its captions.

    Looks for images of the parts just ``made`` that stand in another part as well. Returns a part for each artifact
    that holds them merged (empty where there are none), and the tombstones with their single rows added.
    """
    tombstones = {key: list(ids) for key, ids in (plan.tombstones or {}).items()}
    parts, files = ([*((plan.done or {}).get(artifact, ())), *made[artifact]] for artifact in ("pairs", "images"))
    ids = [
        without(store.read_part("pairs", part, ["image_id"]), tombstones.get(part.partition, []))["image_id"]
        for part in parts
    ]
    counts = pc.value_counts(pa.chunked_array([chunk for column in ids for chunk in column.chunks], pa.string()))
    several = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if not len(several):
        return {}, tombstones
    double: dict[str, list[Part]] = {}
    for part, own in zip(parts, ids, strict=True):
        for image_id in own.filter(pc.is_in(own, value_set=several)).to_pylist():
            double.setdefault(image_id, []).append(part)
    file_of = {part.partition: part for part in files}
    rows, images = [], []
    for image_id, homes in double.items():
        rows.append(merge([_row(store, "pairs", part, image_id) for part in homes]))
        images.append(_row(store, "images", file_of[homes[0].partition], image_id))
        for part in homes:
            tombstones.setdefault(part.partition, []).append(image_id)
    key = digest(["ingest", "merged", sorted(fingerprint for row in rows for fingerprint in row["fingerprints"])])
    tombstones.pop(key, None)
    tables = {
        "pairs": pa.Table.from_pylist(rows, CONTRACTS["pairs"].schema),
        "images": pa.Table.from_pylist(images, CONTRACTS["images"].schema),
    }
    return {
        artifact: store.write_part(artifact, key, key, tables.get(artifact, CONTRACTS[artifact].schema.empty_table()))
        for artifact in plan.stage.writes
    }, tombstones


@dataclass(frozen=True)
class _KnownRow:
    partition: str
    row_id: str  # what tombstones name it by: its image's id, of a rejected row its fingerprint
    sha256: str
    fingerprints: tuple[Fingerprint, ...]
    rejected: bool = False


def _known_rows(store: Store, latest: Snapshot | None) -> Iterator[_KnownRow]:
    if latest is None:
        return
    for part in latest.parts:
        gone = set(latest.tombstones.get(part.partition, ()))
        columns = store.read_part("pairs", part, ["image_id", "sha256", "fingerprints"]).to_pylist()
        for row in columns:
            if row["image_id"] not in gone:
                fingerprints = tuple(map(Fingerprint.parse, row["fingerprints"]))
                yield _KnownRow(part.partition, row["image_id"], row["sha256"], fingerprints)
    rejected = store.snapshot("pairs_rejected")
    for part in rejected.parts if rejected is not None else ():
        gone = set(latest.tombstones.get(part.partition, ()))
        for row in store.read_part("pairs_rejected", part, ["fingerprint"]).to_pylist():
            if row["fingerprint"] not in gone:
                fingerprints = (Fingerprint.parse(row["fingerprint"]),)
                yield _KnownRow(part.partition, row["fingerprint"], "", fingerprints, rejected=True)


def _known_pieces(store: Store, latest: Snapshot | None) -> Iterator[Fingerprint]:
    """The fingerprints of pieces of files that were read before."""
    rejected = store.snapshot("pairs_rejected") if latest is not None else None
    for snapshot, column in ((latest, "fingerprints"), (rejected, "fingerprint")):
        if snapshot is None:
            continue
        for part in snapshot.parts:
            texts = store.read_part(snapshot.artifact, part, [column])[column]
            flat = pc.list_flatten(texts) if column == "fingerprints" else texts
            fingerprints = map(Fingerprint.parse, filter(None, pc.unique(flat).to_pylist()))
            yield from (fingerprint for fingerprint in fingerprints if fingerprint.of_piece)


def _by_size(items: ItemsByPrint) -> Mapping[tuple[str, str], list[tuple[Fingerprint, SourceItem]]]:
    """Items with a file, by all of their fingerprint but the time."""
    grouped: dict[tuple[str, str], list[tuple[Fingerprint, SourceItem]]] = {}
    for fingerprint, item in items.items():
        if item.path and not item.container and not item.version.startswith("missing"):
            grouped.setdefault(fingerprint.but_time, []).append((fingerprint, item))
    return grouped


def _same_contents(
    known: Fingerprint, row: _KnownRow, by_size: Mapping[tuple[str, str], list[tuple[Fingerprint, SourceItem]]]
) -> Fingerprint | None:
    """The listed fingerprint of a file that only was touched: its digest decides; None where it left or changed."""
    for listed, item in by_size.get(known.but_time, ()):
        if row.sha256 and hashlib.sha256(Path(item.path).read_bytes()).hexdigest() == row.sha256:
            return listed
    return None


def _contents(item: SourceItem) -> bytes:
    """What an image's file holds. Raises :class:`ImageError` where the row is unfit, or its file is not there."""
    if item.problem:
        raise ImageError(*item.problem)
    return read_image({"bytes": item.data, "path": item.path})


def _row_of(
    item: SourceItem, data: bytes, fingerprint: Fingerprint, settings: IngestSettings, held_out: bool
) -> dict[str, Any]:
    """The row of `pairs` of an image whose file holds ``data``. Raises :class:`ImageError` for an unfit one."""
    bare = not item.captions and item.ready_tags is None
    if bare and settings.bare == "reject":
        raise ImageError("row_without_caption", "the row has no caption, and ingest.bare says to reject such")
    checked = check_image(data, settings.max_pixels, 2 * HASH_SIDE)
    sha256 = hashlib.sha256(data).hexdigest()
    image_id = sha256[:16]
    return {
        "image_id": image_id,
        "captions": list(item.captions),
        # a bare picture tells nothing in a test; where a caption comes later, its row draws the split
        "split": item.split or ("train" if bare else _split_of(image_id, settings, held_out)),
        "sources": [item.source],
        "names": [item.name],
        "fingerprints": [str(fingerprint)],
        "url": item.url,
        "licence": item.licence,
        "sha256": sha256,
        "width": checked.width,
        "height": checked.height,
        "hash": perceptual_hash(checked.picture),
        "extra": item.extra,
        "ready_tags": ready_rows(item.ready_tags),
    }


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


def _row(store: Store, artifact: str, part: Part, image_id: str) -> dict[str, Any]:
    table = store.read_part(artifact, part)
    index = table["image_id"].to_pylist().index(image_id)
    row: dict[str, Any] = table.slice(index, 1).to_pylist()[0]
    return row


def _rejected(item: SourceItem, fingerprint: Fingerprint, reason: str, detail: str) -> dict[str, Any]:
    return {
        "image_id": None,
        "where": f"{item.where}: {item.name}",
        "reason": reason,
        "detail": detail,
        "fingerprint": str(fingerprint),
    }
