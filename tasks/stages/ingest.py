"""`ingest` (map over the source): checks every image, keeps it with all its captions, sets unfit rows apart.

An image belongs to one part for ever: only new and changed items make new parts, and what left the source, or changed,
becomes a tombstone in the snapshot. So one row added to a source computes one new part, in every map stage.

A file of many images (a tar, a Parquet file) is divided into pieces, and a piece stands for all of its images: it is
read where the file's name, size or time is new, and then its contents are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from storage.bare import TOLD_BY, are_bare
from storage.keys import digest
from storage.schemas import CONTRACTS, IMAGE
from storage.store import Part, Snapshot, Store
from tasks.images.decoding import ImageError, check_image, read_image
from tasks.images.perceptual_hash import HASH_SIDE, perceptual_hash
from tasks.machine.cores import cores
from tasks.machine.inputs import Inputs
from tasks.machine.planning import StageFailedError, StagePlan, finish_plan
from tasks.machine.stage_run import Again, StageRun
from tasks.machine.worker import Shard
from tasks.settings.executor import ExecutorSettings
from tasks.settings.ingest import IngestSettings
from tasks.sources.fitness import images_of
from tasks.sources.item import SHARD_BYTES, SourceItem
from tasks.sources.listing.current import list_all, named_sources
from tasks.sources.listing.duplicates import duplicates
from tasks.sources.listing.fingerprints import Fingerprint
from tasks.sources.listing.index import Listed, ListedItems, Listing
from tasks.sources.listing.item_rows import from_table, ready_rows
from tasks.sources.listing.merging import merge
from tasks.sources.source import Source

REMEMBERED = 256  # fingerprints: the rows of a piece have one, and follow each other
T = TypeVar("T")


def plan(run: StageRun) -> StagePlan:
    """Compares the source with the latest snapshot: which items are new, and which rows left."""
    store, again = run.store, run.again
    settings = IngestSettings.model_validate(run.settings)
    latest = None if again.force else store.snapshot("pairs")
    if latest is not None:  # the images of a part that was lost are read from the source again
        present = set.intersection(*(_whole_parts(store, artifact, latest.key) for artifact in run.stage.writes))
        latest = replace(latest, parts=tuple(part for part in latest.parts if part.key in present))
    listing = Listing(list_all(settings, run.stage.version, _known_pieces(store, latest)))
    unclaimed, tombstones = _compared(listing, latest, _known_rows(store, latest), again)
    retried = [latest.key] if latest is not None and again.retry_rejected else []  # its first part stays as it is
    shards = []
    for items in _in_shards(_unread(listing, unclaimed), settings.shard_size, lambda item: (item.images, item.bytes)):
        key = digest(["ingest", [item.fingerprint for item in items], *retried])
        tombstones.pop(key, None)  # the same items came back: their part is alive again
        listed = ListedItems(listing, (item.number for item in items))
        shards.append(Shard(key=key, partition=key, tables=listed, rows=sum(item.images for item in items)))
    if latest is not None:
        new = {shard.partition for shard in shards}
        shards += [
            Shard(key=part.key, partition=part.partition, rows=part.rows)
            for part in latest.parts
            if part.partition not in new
        ]
    recipe = digest(["ingest", run.stage.version, settings.absolute().identity()])
    return finish_plan(StagePlan(run, {}, key="", recipe=recipe, tombstones=tombstones), shards)


def _whole_parts(store: Store, artifact: str, key: str) -> set[str]:
    snapshot = store.snapshot(artifact, key)
    return {part.key for part in store.whole_parts(snapshot)} if snapshot is not None else set()


def _compared(
    listing: Listing, latest: Snapshot | None, known: Iterator[_KnownRow], again: Again
) -> tuple[Iterator[int], dict[str, list[str]]]:
    """The numbers of the items to read, and the tombstones by partition of what left.

    The ``known`` rows are what was read before.
    """
    tombstones = {} if latest is None else {key: list(ids) for key, ids in latest.tombstones.items()}
    claimed = bytearray(listing.numbers.stop)  # a byte an item
    homes: dict[int, str] = {}
    parted: list[tuple[_KnownRow, int]] = []
    find = lru_cache(REMEMBERED)(listing.find)
    for row in known:
        matched = [
            (_matched(listing, find, fingerprint, row), fingerprint.of_piece) for fingerprint in row.fingerprints
        ]
        present = [(number, of_piece) for number, of_piece in matched if number is not None]
        pieces = [number for number, of_piece in present if of_piece]
        if len(present) == len(matched) and not (row.rejected and again.retry_rejected):
            for number, _ in present:
                claimed[number] = 1
            if len(present) == 1:
                homes |= dict.fromkeys(pieces, row.partition)
        else:
            tombstones.setdefault(row.partition, []).append(row.row_id)
            parted += [(row, number) for number in pieces]
    # An image whose other source left: where its row within the piece is still there it is alive again, else the piece
    # is read again, as it is for a rejected row that is to be retried.
    reread: dict[int, None] = {}
    for row, number in parted:
        home = homes.get(number, row.partition)
        if home != row.partition and row.row_id in tombstones.get(home, ()):
            tombstones[home].remove(row.row_id)
        elif claimed[number]:
            reread[number] = None
    unclaimed = (number for number in listing.numbers if not claimed[number])
    return chain(unclaimed, reread), {partition: ids for partition, ids in tombstones.items() if ids}


def _matched(
    listing: Listing, find: Callable[[Fingerprint], int | None], known: Fingerprint, row: _KnownRow
) -> int | None:
    """The listed item of a fingerprint, or of a file that only was touched: its digest decides; None where it left."""
    number = find(known)
    if number is None and row.sha256:
        for touched, path in listing.of_its_size(known):
            with suppress(ImageError):  # it cannot be read, as its row will say
                if hashlib.sha256(read_image({"path": path})).hexdigest() == row.sha256:
                    return touched
    return number


def _unread(listing: Listing, numbers: Iterable[int]) -> Iterator[Listed]:
    """The listed items of these numbers, pieces of files as they are before they are read, and those once."""
    pieces: set[str] = set()
    for item in map(listing.__getitem__, numbers):
        known = Fingerprint.parse(item.fingerprint)
        if known.of_piece:
            item = item._replace(fingerprint=str(known.unread()))
            if item.fingerprint in pieces:
                continue
            pieces.add(item.fingerprint)
        yield item


def _in_shards(items: Iterable[T], size: int, weigh: Callable[[T], tuple[int, int]]) -> Iterator[list[T]]:
    """Items in groups of ``size`` images, or of fewer that have SHARD_BYTES together; an item stays whole.

    ``weigh`` gives the number of an item's images and their bytes.
    """
    group: list[T] = []
    images = weight = 0
    for item in items:
        its_images, its_bytes = weigh(item)
        if group and weight + its_bytes > SHARD_BYTES:
            yield group
            group, images, weight = [], 0, 0
        group.append(item)
        images, weight = images + its_images, weight + its_bytes
        if images >= size:
            yield group
            group, images, weight = [], 0, 0
    if group:
        yield group


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
        images: Iterable[SourceItem] = images_of(named[item.source], item)
        if item.container:
            images = list(images)
            fingerprint = fingerprint.read(images)
        for image in images:
            yield fingerprint, replace(image, source=item.source)


def conclude(plan: StagePlan, done: dict[str, list[Part]]) -> dict[str, list[str]]:
    """Merges what stands in several parts, which adds to ``done``, and returns the snapshot's tombstones.

    Raises :class:`StageFailedError` where the source has no image at all.
    """
    merged, tombstones = merge_duplicates(plan, done)
    there = {part.key for part in done["pairs"]}  # merged before, and alive again
    for artifact, parts in merged.items():
        done[artifact] += [part for part in parts if part.key not in there]
    if not any(part.rows for parts in done.values() for part in parts):
        raise StageFailedError("ingest: the source holds no image; check its path and columns")
    return tombstones


def told(store: Store, pairs: Snapshot) -> str:
    """What a run says of the ``pairs`` beside their number: how many of them are bare; "" where none is."""
    bare = sum(int(are_bare(table).sum()) for table in store.tables(pairs, [*TOLD_BY]))
    return f"{bare:,} of the pictures came without a caption" if bare else ""


def merge_duplicates(
    plan: StagePlan, done: Mapping[str, list[Part]]
) -> tuple[dict[str, list[Part]], dict[str, list[str]]]:
    """One photograph under several names is one image with all its captions.

    Returns parts of each artifact that hold, merged, the images that stand in several of the parts ``done``, and the
    tombstones with their single rows added.
    """
    store, settings = plan.run.store, IngestSettings.model_validate(plan.settings)
    gone = dict(plan.tombstones or {})
    tombstones = {partition: list(ids) for partition, ids in gone.items()}
    pairs, images = (
        Snapshot(artifact, plan.key, plan.stage.name, plan.recipe, tuple(done[artifact]), tombstones=gone)
        for artifact in ("pairs", "images")
    )
    merged: dict[str, list[Part]] = {artifact: [] for artifact in plan.stage.writes}
    doubles = duplicates(store, pairs, images)
    for shard in _in_shards(doubles, settings.shard_size, lambda double: (1, len(double.image["bytes"]))):
        for double in shard:
            for part in double.parts:
                tombstones.setdefault(part.partition, []).append(double.row["image_id"])
        told = sorted([double.row["image_id"], *double.row["fingerprints"]] for double in shard)
        key = digest(["ingest", "merged", told])  # images of one piece have one fingerprint
        tombstones.pop(key, None)
        files = [{"image_id": double.row["image_id"], "image": double.image} for double in shard]
        tables = {
            "pairs": pa.Table.from_pylist([double.row for double in shard], CONTRACTS["pairs"].schema),
            "images": pa.Table.from_pylist(files, CONTRACTS["images"].schema),
        }
        for artifact, parts in merged.items():
            table = tables.get(artifact, CONTRACTS[artifact].schema.empty_table())
            parts.append(store.write_part(artifact, key, key, table))
    return merged, tombstones


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
    parse = lru_cache(REMEMBERED)(Fingerprint.parse)
    for part in latest.parts:
        gone = set(latest.tombstones.get(part.partition, ()))
        columns = store.read_part("pairs", part, ["image_id", "sha256", "fingerprints"]).to_pylist()
        for row in columns:
            if row["image_id"] not in gone:
                fingerprints = tuple(map(parse, row["fingerprints"]))
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
            dotted = flat.filter(pc.match_substring(flat, "."))  # a single image's has none, but in its version
            fingerprints = map(Fingerprint.parse, pc.unique(dotted).to_pylist())
            yield from (fingerprint for fingerprint in fingerprints if fingerprint.of_piece)


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


def _rejected(item: SourceItem, fingerprint: Fingerprint, reason: str, detail: str) -> dict[str, Any]:
    return {
        "image_id": None,
        "where": f"{item.where}: {item.name}",
        "reason": reason,
        "detail": detail,
        "fingerprint": str(fingerprint),
    }
