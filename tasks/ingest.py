"""`ingest` (map over the source): checks every image, keeps it with all its captions, sets unfit rows apart.

An image belongs to one part for ever: only new and changed items make new parts, and what left the source, or changed,
becomes a tombstone in the snapshot. So one row added to a source computes one new part, in every map stage.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.keys import digest
from storage.schemas import CONTRACTS
from storage.sources import SourceItem, list_coco, list_csv
from storage.store import Part, Snapshot, Store
from tasks.images import ImageError, check_image, read_image
from tasks.inputs import Inputs
from tasks.planning import Again, StagePlan, finish_plan
from tasks.sample_world import world
from tasks.settings import CocoSource, CsvSource, EngineSettings, IngestSettings, SampleSource
from tasks.stages import Stage
from tasks.worker import Shard

SAMPLE_LICENCE = "CC-BY-4.0 (pictures by Twemoji)"


def list_items(source: SampleSource | CsvSource | CocoSource) -> list[SourceItem]:
    """All items of a source, without opening an image."""
    if isinstance(source, SampleSource):
        version = f"{digest([world.VERSION, source.model_dump(mode='json')])}-0"
        return [
            SourceItem(name, f"sample world {name}", split=split, version=version, licence=SAMPLE_LICENCE)
            for name, split in world.item_names(source)
        ]
    listing = list_csv if isinstance(source, CsvSource) else list_coco
    return listing(source.path, source.images, source.limit)


def plan(store: Store, stage: Stage, settings: IngestSettings, again: Again = Again()) -> StagePlan:
    """Compares the source with the latest snapshot: which items are new, and which rows left."""
    items = {fingerprint(item, settings, stage.version): item for item in list_items(settings.source)}
    latest = None if again.force else store.snapshot("pairs")
    if latest is not None:  # the images of a part that was lost are read from the source again
        present = store.parts_present("pairs")
        latest = dataclasses.replace(latest, parts=tuple(part for part in latest.parts if part.key in present))
    tombstones = {} if latest is None else {key: list(ids) for key, ids in latest.tombstones.items()}
    known = _known_rows(store, latest)
    by_size = _by_size(items)
    unclaimed = dict(items)
    for row in known:
        matched = [one if one in items else _same_contents(one, row, by_size) for one in row.fingerprints]
        if all(matched) and not (row.rejected and again.retry_rejected):
            for one in matched:
                unclaimed.pop(one, None)
        else:
            tombstones.setdefault(row.partition, []).append(row.row_id)
    shards = []
    names = list(unclaimed)
    for start in range(0, len(names), settings.shard_size):
        chunk = names[start : start + settings.shard_size]
        retried = [latest.key] if latest is not None and again.retry_rejected else []  # its first part stays as it is
        key = digest(["ingest", chunk, *retried])
        tombstones.pop(key, None)  # the same items came back: their part is alive again
        table = _item_table({name: unclaimed[name] for name in chunk})
        shards.append(Shard(key=key, partition=key, tables={"items": table}, rows=len(chunk)))
    if latest is not None:
        new = {shard.partition for shard in shards}
        shards += [
            Shard(key=part.key, partition=part.partition, rows=part.rows)
            for part in latest.parts
            if part.partition not in new
        ]
    recipe = digest(["ingest", stage.version, _identity(settings)])
    drafted = StagePlan(stage, settings, {}, key="", recipe=recipe, tombstones=tombstones)
    return finish_plan(store, drafted, shards, dataclasses.replace(again, retry_rejected=False))


def build(
    settings: IngestSettings, inputs: Inputs, engine: EngineSettings
) -> Callable[[Mapping[str, pa.Table]], Mapping[str, pa.Table]]:
    """Reads and checks the images of a table of items."""

    def ingest(tables: Mapping[str, pa.Table]) -> Mapping[str, pa.Table]:
        pairs: dict[str, dict[str, Any]] = {}
        rejected: list[dict[str, Any]] = []
        truths: list[dict[str, Any]] = []
        for item in tables["items"].to_pylist():
            try:
                row, truth = _read(item, settings)
            except ImageError as error:
                rejected.append(_rejected(item, error.reason, error.detail))
                continue
            if row["image_id"] in pairs:
                pairs[row["image_id"]] = _merge([pairs[row["image_id"]], row])
            else:
                pairs[row["image_id"]] = row
                truths += truth
        return {
            "pairs": pa.Table.from_pylist(list(pairs.values()), CONTRACTS["pairs"].schema),
            "pairs_rejected": pa.Table.from_pylist(rejected, CONTRACTS["pairs_rejected"].schema),
            "truth": pa.Table.from_pylist(truths, CONTRACTS["truth"].schema),
        }

    return ingest


def merge_duplicates(store: Store, plan: StagePlan, made: list[Part]) -> tuple[dict[str, Part], dict[str, list[str]]]:
    """One photograph under several names is one image with all its captions.

    Looks for images of the parts just ``made`` that stand in another part as well. Returns a part for each artifact
    that holds them merged (empty where there are none), and the tombstones with their single rows added.
    """
    tombstones = {key: list(ids) for key, ids in (plan.tombstones or {}).items()}
    places: dict[str, list[Part]] = {}
    parts = [*((plan.done or {}).get("pairs", ())), *made]
    for part in parts:
        gone = set(tombstones.get(part.partition, ()))
        for image_id in store.read_part("pairs", part, ["image_id"])["image_id"].to_pylist():
            if image_id not in gone:
                places.setdefault(image_id, []).append(part)
    double = {image_id: found for image_id, found in places.items() if len(found) > 1}
    if not double:
        return {}, tombstones
    rows = []
    for image_id, found in double.items():
        rows.append(_merge([_row(store, part, image_id) for part in found]))
        for part in found:
            tombstones.setdefault(part.partition, []).append(image_id)
    key = digest(["ingest", "merged", sorted(one for row in rows for one in row["fingerprints"])])
    tombstones.pop(key, None)
    tables = {"pairs": pa.Table.from_pylist(rows, CONTRACTS["pairs"].schema)}
    return {
        artifact: store.write_part(artifact, key, key, tables.get(artifact, CONTRACTS[artifact].schema.empty_table()))
        for artifact in plan.stage.writes
    }, tombstones


def fingerprint(item: SourceItem, settings: IngestSettings, version: int) -> str:
    """``<words>-<size>-<time>``: it changes when the image file, its captions or the settings that matter change."""
    words = digest(
        [
            version,
            item.name,
            item.captions,
            item.split,
            item.problem,
            settings.max_pixels,
            "" if item.split else [settings.calibrate_share, settings.test_share],
        ]
    )
    return f"{words}-{item.version or '0-0'}"


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
        columns = store.read_part("pairs", part, ["image_id", "sha256", "fingerprints"]).to_pylist()
        for row in columns:
            if row["image_id"] not in gone:
                yield _KnownRow(part.partition, row["image_id"], row["sha256"], tuple(row["fingerprints"]))
    rejected = store.snapshot("pairs_rejected")
    for part in rejected.parts if rejected is not None else ():
        gone = set(latest.tombstones.get(part.partition, ()))
        for row in store.read_part("pairs_rejected", part, ["fingerprint"]).to_pylist():
            if row["fingerprint"] not in gone:
                yield _KnownRow(part.partition, row["fingerprint"], "", (row["fingerprint"],), rejected=True)


def _by_size(items: Mapping[str, SourceItem]) -> Mapping[str, list[tuple[str, SourceItem]]]:
    """Items with a file, by all of their fingerprint but the time."""
    grouped: dict[str, list[tuple[str, SourceItem]]] = {}
    for listed, item in items.items():
        if item.path and not item.version.startswith("missing"):
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
    dumped = settings.model_dump(mode="json", exclude={"shard_size", "error_budget"})
    dumped["source"].pop("limit", None)
    return dumped


def _item_table(items: Mapping[str, SourceItem]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "name": item.name,
                "where": item.where,
                "captions": list(item.captions),
                "split": item.split,
                "path": item.path,
                "fingerprint": name,
                "url": item.url,
                "licence": item.licence,
                "reason": item.problem[0] if item.problem else None,
                "detail": item.problem[1] if item.problem else None,
            }
            for name, item in items.items()
        ]
    )


def _read(item: Mapping[str, Any], settings: IngestSettings) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A row of `pairs`, and of `truth` where it is known. Raises :class:`ImageError` for an unfit row."""
    if item["reason"]:
        raise ImageError(item["reason"], item["detail"])
    captions, truth, path = item["captions"], [], item["name"]
    if isinstance(settings.source, SampleSource):
        drawn = world.draw(settings.source, item["name"])
        data, captions = drawn.image, list(drawn.captions)
    else:
        data = read_image({"bytes": None, "path": item["path"]})
    width, height = check_image(data, settings.max_pixels)
    sha256 = hashlib.sha256(data).hexdigest()
    image_id = sha256[:16]
    if isinstance(settings.source, SampleSource):
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
        "image": {"bytes": data, "path": path},
        "captions": captions,
        "split": item["split"] or _split_of(image_id, settings),
        "source": settings.source.kind,
        "names": [item["name"]],
        "fingerprints": [item["fingerprint"]],
        "url": item["url"],
        "licence": item["licence"],
        "sha256": sha256,
        "width": width,
        "height": height,
    }, truth


def _split_of(image_id: str, settings: IngestSettings) -> str:
    """The split of an image whose source names none: by its content, so that it never moves."""
    share = int(image_id[:8], 16) / 2**32
    if share < settings.test_share:
        return "test"
    return "calibrate" if share < settings.test_share + settings.calibrate_share else "train"


def _merge(rows: list[dict[str, Any]]) -> dict[str, Any]:
    merged = dict(rows[0])
    for column in ("captions", "names", "fingerprints"):
        merged[column] = list(dict.fromkeys(value for row in rows for value in row[column]))
    return merged


def _row(store: Store, part: Part, image_id: str) -> dict[str, Any]:
    table = store.read_part("pairs", part)
    index = table["image_id"].to_pylist().index(image_id)
    row: dict[str, Any] = table.slice(index, 1).to_pylist()[0]
    return row


def _rejected(item: Mapping[str, Any], reason: str, detail: str) -> dict[str, Any]:
    return {
        "image_id": None,
        "where": f"{item['where']}: {item['name']}",
        "reason": reason,
        "detail": detail,
        "fingerprint": item["fingerprint"],
    }
