"""The listing, and what a plan makes of it, against plain dictionaries of all items, over histories of a source."""

from __future__ import annotations

import csv
import gc
import hashlib
import io
import json
import os
import tarfile
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.images import with_files
from storage.keys import digest
from storage.store import Snapshot, Store
from tasks.machine import planning
from tasks.machine.stage_run import Again, StageRun
from tasks.settings.ingest import IngestSettings
from tasks.sources.coco import CocoSource
from tasks.sources.csv_file import CsvSource
from tasks.sources.huggingface import HuggingFaceSource
from tasks.sources.img2dataset import Img2datasetSource
from tasks.sources.item import SourceItem
from tasks.sources.labels_file import LabelsSource
from tasks.sources.listing.current import list_all
from tasks.sources.listing.fingerprints import Fingerprint
from tasks.sources.listing.item_rows import from_table
from tasks.sources.mixed import MixedSource
from tasks.sources.official import OfficialSource
from tasks.sources.reading import containers, json_lists, parquet
from tasks.stages import ingest
from tests.tasks.test_ingest import STAGE, ingest_all, picture

Items = dict[Fingerprint, SourceItem]

# the reference: dictionaries that hold every item


def compared(
    items: Items, latest: Snapshot | None, known: Iterator[ingest._KnownRow], again: Again
) -> tuple[Items, dict[str, list[str]]]:
    tombstones = {} if latest is None else {key: list(ids) for key, ids in latest.tombstones.items()}
    unclaimed = dict(items)
    homes: dict[Fingerprint, str] = {}
    parted: list[tuple[ingest._KnownRow, Fingerprint]] = []
    for row in known:
        matched = [
            fingerprint if fingerprint in items else touched(fingerprint, row, items)
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
    for row, fingerprint in parted:
        home = homes.get(fingerprint, row.partition)
        if home != row.partition and row.row_id in tombstones.get(home, ()):
            tombstones[home].remove(row.row_id)
        else:
            unclaimed[fingerprint] = items[fingerprint]
    return unclaimed, {partition: ids for partition, ids in tombstones.items() if ids}


def touched(known: Fingerprint, row: ingest._KnownRow, items: Items) -> Fingerprint | None:
    for listed, item in items.items():
        if item.path and not item.container and listed.but_time == known.but_time and row.sha256:
            if hashlib.sha256(Path(item.path).read_bytes()).hexdigest() == row.sha256:
                return listed
    return None


def chunks(items: Items, size: int, most_bytes: int) -> Iterator[Items]:
    chunk: Items = {}
    for fingerprint, item in items.items():
        if chunk and sum(listed.file_bytes for listed in (*chunk.values(), item)) > most_bytes:
            yield chunk
            chunk = {}
        chunk[fingerprint] = item
        if sum(one.rows or 1 for one in chunk.values()) >= size:
            yield chunk
            chunk = {}
    if chunk:
        yield chunk


def reference(store: Store, wanted: IngestSettings, again: Again, most_bytes: int) -> tuple[str, dict[str, Items]]:
    """The key of the snapshot that a plan leads to, and the items of each shard."""
    latest = store.snapshot("pairs")
    items = dict(list_all(wanted, STAGE.version, ingest._known_pieces(store, latest)))
    unclaimed, tombstones = compared(items, latest, ingest._known_rows(store, latest), again)
    shards = {}
    for chunk in chunks({one.unread(): item for one, item in unclaimed.items()}, wanted.shard_size, most_bytes):
        retried = [latest.key] if latest is not None and again.retry_rejected else []
        key = digest(["ingest", [str(fingerprint) for fingerprint in chunk], *retried])
        tombstones.pop(key, None)
        shards[key] = chunk
    pairs = [(key, key) for key in shards]
    pairs += [(part.partition, part.key) for part in (latest.parts if latest else ()) if part.partition not in shards]
    return digest([STAGE.name, sorted(pairs), tombstones]), shards


# a source with a history


def write_csv(path: Path, rows: Iterable[tuple[str, ...]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *rows])


@dataclass(frozen=True)
class State:
    """What a source holds: rows of a CSV (image, caption), the files (name -> shade, touch), rows of a Parquet file.

    Other contents have another time, and each ``touch`` of the same ones gives another as well.
    """

    rows: tuple[tuple[str, str], ...]
    files: Mapping[str, tuple[int, int]]
    packed: tuple[tuple[int, str], ...]  # shade, caption
    packed_touch: int

    def write(self, folder: Path) -> None:
        images = folder / "images"
        images.mkdir(exist_ok=True)
        for old in images.iterdir():
            old.unlink()
        for name, (shade, touch) in self.files.items():
            (images / name).write_bytes(picture(shade) if shade else b"no picture")
            os.utime(images / name, (10 * shade + touch,) * 2)
        write_csv(folder / "c.csv", self.rows)
        rows = [{"image": {"bytes": picture(shade), "path": None}, "caption": text} for shade, text in self.packed]
        schema = pa.schema(
            [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("caption", pa.string())]
        )
        pq.write_table(pa.Table.from_pylist(rows, schema), folder / "p.parquet", row_group_size=2)
        os.utime(folder / "p.parquet", (10 * (int(digest(str(self.packed)), 16) % 10**6) + self.packed_touch,) * 2)


NAMES = st.sampled_from(["a.png", "b.png", "c.png", "d.png"])
CAPTIONS = st.sampled_from(["", "a dog", "a cat"])
TOUCHES = st.integers(1, 2)
STATES = st.builds(
    State,
    st.lists(st.tuples(NAMES | st.just(""), CAPTIONS), max_size=6).map(tuple),
    st.dictionaries(NAMES, st.tuples(st.integers(0, 3), TOUCHES)),
    st.lists(st.tuples(st.integers(1, 3), CAPTIONS), max_size=5).map(tuple),
    TOUCHES,
)
AGAIN = st.builds(Again, retry_rejected=st.sampled_from([False, False, True]))


def told(store: Store) -> tuple[dict[str, tuple[set[str], set[str]]], Counter[str]]:
    """Captions and names of every image that is alive, and the reasons of rejected rows."""
    pairs, images, rejected = (store.snapshot(name) for name in ("pairs", "images", "pairs_rejected"))
    assert pairs is not None
    assert images is not None
    assert rejected is not None
    alive = {}
    for table in with_files(store, pairs, images, ["image_id", "captions", "names"]):
        for row in table.to_pylist():
            assert row["image_id"] not in alive
            assert hashlib.sha256(row["image"]["bytes"]).hexdigest().startswith(row["image_id"])
            alive[row["image_id"]] = set(row["captions"]), set(row["names"])
    return alive, Counter(store.table(rejected, ["reason"])["reason"].to_pylist())


@settings(max_examples=6)
@given(
    st.lists(st.tuples(STATES, AGAIN), min_size=1, max_size=5),
    st.integers(1, 3),
    st.sampled_from([120, 10**6]),
)
def test_any_history_of_a_source_is_planned_as_dictionaries_plan_it(
    tmp_path_factory: pytest.TempPathFactory,
    history: list[tuple[State, Again]],
    shard_size: int,
    most_bytes: int,
) -> None:
    folder = tmp_path_factory.mktemp("history")
    parts = (CsvSource(path=str(folder / "c.csv")), HuggingFaceSource(path=str(folder / "p.parquet")))
    wanted = IngestSettings(source=MixedSource(parts=parts), shard_size=shard_size, error_budget=1)
    store = Store(folder / "store")
    with (
        patch.object(ingest, "SHARD_BYTES", most_bytes),
        patch.object(parquet, "PIECE", 2),
    ):
        for state, again in history:
            state.write(folder)
            if not state.rows and not state.packed:
                continue
            key, shards = reference(store, wanted, again, most_bytes)
            plan = planning.plan(StageRun(store, STAGE, wanted, again=again))
            assert plan.key == key
            for shard in plan.shards:
                listed = [(one.unread(), item) for one, item in from_table(shard.tables["items"])]
                assert listed == list(shards[shard.key].items())
                assert shard.rows == sum(item.rows or 1 for _, item in listed)
            ingest_all(store, wanted, again)
            fresh = Store(folder / f"fresh-{digest([str(state), again.retry_rejected])}")
            ingest_all(fresh, wanted)
            assert told(store) == told(fresh)


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(NAMES | st.sampled_from(["", "../a.png", " a.png "]), CAPTIONS, st.text(max_size=3)), max_size=12
    ),
    st.integers(0, 3),
)
def test_a_csv_lists_what_a_dictionary_of_its_images_holds(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], limit: int
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    with (folder / "c.csv").open("w", newline="", encoding="utf-8", errors="replace") as file:
        csv.writer(file).writerows([("image", "caption", "mood"), *rows])
    images: dict[str, tuple[list[str], str]] = {}
    problems = []
    for name, caption, mood in rows:
        name, mood = name.strip(), mood.encode(errors="replace").decode()
        if name in ("", "../a.png"):
            problems.append((name, {"": "row_without_image", "../a.png": "image_outside_folder"}[name]))
        elif name in images or not limit or len(images) < limit:
            captions, before = images.get(name, ([], ""))
            images[name] = [*captions, *filter(None, [caption])], mood or before
    listed = list(CsvSource(path=str(folder / "c.csv"), limit=limit).items())
    good = [(item.name, list(item.captions), json.loads(item.extra)) for item in listed if not item.problem]
    assert good == [(name, captions, {"mood": mood} if mood else {}) for name, (captions, mood) in images.items()]
    assert [(item.name, item.problem[0]) for item in listed if item.problem] == problems


IDS = st.sampled_from([1, 2.0, -1, -2, "1"])
FILES = st.sampled_from(["", "a.png", "b.png", "../c.png"])
PICTURES = st.fixed_dictionaries({"id": IDS}, optional={"file_name": FILES, "license": st.integers(0, 1)})


@settings(max_examples=50)
@given(
    st.lists(PICTURES, max_size=5),
    st.lists(st.tuples(IDS | st.just(2), CAPTIONS | st.none())),
    st.permutations(["images", "annotations", "licenses"]),
    st.integers(0, 3),
    st.integers(1, 30),
)
def test_a_coco_file_lists_what_dictionaries_of_its_images_hold(
    tmp_path_factory: pytest.TempPathFactory,
    pictures: list[dict[str, Any]],
    annotations: list[tuple[Any, str | None]],
    order: list[str],
    limit: int,
    block: int,
) -> None:
    folder = tmp_path_factory.mktemp("coco")
    content = {
        "images": pictures,
        "annotations": [{"image_id": image_id, "caption": text} for image_id, text in annotations],
        "licenses": [{"id": 1, "name": "MIT"}],
    }
    (folder / "c.json").write_text(json.dumps({"info": {"images": []}} | {key: content[key] for key in order}))
    by_id = {about["id"]: about for about in pictures}
    expected: list[tuple[Any, ...]] = []
    captions: dict[Any, list[str]] = {}
    for image_id, text in annotations:
        if image_id not in by_id:
            expected.append(("row_without_image",))
        elif text:
            captions.setdefault(image_id, []).append(text)
    for image_id, about in list(by_id.items())[: limit or None]:
        if about.get("file_name", "") in ("", "../c.png"):
            expected.append(("row_without_image",))
        else:
            licence = "MIT" if about.get("license") == 1 else None
            expected.append((about["file_name"], tuple(captions.get(image_id, ())), licence))
    with patch.object(json_lists, "BLOCK", block):
        listed = list(CocoSource(path=str(folder / "c.json"), limit=limit).items())
    assert [
        item.problem[:1] if item.problem else (item.name, item.captions, item.licence) for item in listed
    ] == expected


def test_a_listing_takes_few_bytes_a_row_of_memory(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        write_csv(tmp_path / "c.csv", ((f"{row % (rows // 2)}.png", f"a dog {row}") for row in range(rows)))
        wanted = IngestSettings(source=CsvSource(path=str(tmp_path / "c.csv")))
        gc.collect()
        tracemalloc.start()
        try:
            plan = planning.plan(StageRun(Store(tmp_path / "store"), STAGE, wanted))
            assert plan.rows == rows // 2
            return tracemalloc.get_traced_memory()[1] + pa.total_allocated_bytes()
        finally:
            tracemalloc.stop()

    few, many = peak(500), peak(2_500)
    assert (many - few) / 2_000 < 50


def test_large_files_make_shards_of_fewer_images_and_duplicates_parts_of_their_own(tmp_path: Path) -> None:
    """Seven pictures, three of them twice, in shards of at most two; one alone is larger than a shard should be."""
    names = [f"{shade}.png" for shade in range(1, 8)]
    (tmp_path / "images").mkdir()
    for shade, name in enumerate(names, 1):
        (tmp_path / "images" / name).write_bytes(picture(shade, 400 if shade == 7 else 8))
    for name in names[:3]:
        (tmp_path / "images" / f"copy-{name}").write_bytes((tmp_path / "images" / name).read_bytes())
    write_csv(tmp_path / "c.csv", [(name, "a dog") for name in names])
    largest, usual = ((tmp_path / "images" / name).stat().st_size for name in ("7.png", "1.png"))
    store = Store(tmp_path / "store")
    wanted = IngestSettings(source=CsvSource(path=str(tmp_path / "c.csv")), shard_size=100)
    with patch.object(ingest, "SHARD_BYTES", 2 * usual + usual // 2):
        assert largest > ingest.SHARD_BYTES
        assert ingest_all(store, wanted) == 4
        write_csv(tmp_path / "c.csv", [(name, "a dog") for name in [*names, *(f"copy-{name}" for name in names[:3])]])
        assert ingest_all(store, wanted) == 2
    pairs = store.snapshot("pairs")
    assert pairs is not None
    assert sorted(part.rows for part in pairs.parts) == [1, 1, 1, 2, 2, 2, 2, 2]
    alive, _ = told(store)
    assert sorted(len(names_) for _, names_ in alive.values()) == [1, 1, 1, 1, 2, 2, 2]


# what stores hold


@pytest.fixture
def listed_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a source of each kind, whose files have fixed sizes and times."""
    (tmp_path / "images").mkdir()
    for place, name in enumerate("abcd"):
        file = tmp_path / "images" / f"{name}.jpg"
        file.write_bytes(bytes(100 + place))
        os.utime(file, (1_000_000_000 + place,) * 2)
    (tmp_path / "c.csv").write_bytes(
        b"image,caption,split,url,mood\na.jpg,A dog,,http://x/a,\nb.jpg,,,,\nb.jpg,A cat,test,,calm\n"
        b"a.jpg,A pet,,,wild\nnone.jpg,Gone,,,\n,no name,,,\n../x.jpg,outside,,,\nc.jpg,caf\xe9,,,\n"
        b"c.jpg,A bird,odd,,\nd.jpg,A fish,train,,\n"
    )
    (tmp_path / "l.csv").write_text(
        "image,tag,type,split,described\na.jpg,dog,object,test,\na.jpg,grass,,,yes\nb.jpg,cat,,,\nc.jpg,,,calibrate,yes\n"
        "d.jpg,,,,\nd.jpg,fish,animal,,\n"
    )
    pictures = [
        {"id": place, "file_name": f"{name}.jpg", "mood": name, "license": 1} for place, name in enumerate("abc")
    ]
    pictures += [
        {"id": 7},
        {"id": 8, "file_name": "../x.jpg"},
        {"id": 1, "file_name": "d.jpg", "coco_url": "http://x/d"},
    ]
    captions = [(0, "A dog"), (2, " "), (9, "nothing"), (1, "A fish "), (0, "A pet"), (7, "no file"), (2, None)]
    annotations = [{"image_id": image_id, "caption": text} for image_id, text in captions]
    licences = [{"id": 1, "name": "MIT"}]
    (tmp_path / "o.json").write_text(json.dumps({"annotations": annotations, "images": pictures, "licenses": licences}))
    (tmp_path / "tag_list.txt").write_text("dog\ncat\nbird\n")
    (tmp_path / "e.txt").write_text("c.jpg,2\nd,0 1\nnone,9\n../x.jpg,1\n")
    entries = [
        {"image_path": "a.jpg", "caption": ["A dog", "A pet"], "parse_label_id": [[0], []], "union_label_id": [0, 2]},
        {"image_path": "b", "caption": "A cat", "union_label_id": [1]},
        {"image_path": "none.jpg", "caption": "A cat", "union_label_id": [7]},
        {"caption": "A cat"},
    ]
    (tmp_path / "t.json").write_text(json.dumps(entries))
    rows = [{"image": {"bytes": bytes(9), "path": None}, "caption": f"A dog {row}"} for row in range(700)]
    (tmp_path / "rows").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows" / "p.parquet", row_group_size=100)
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars" / "a.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for row in range(600):
            for suffix, data in (("jpg", bytes(9)), ("txt", b"A dog")):
                member = tarfile.TarInfo(f"{row:05d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    (tmp_path / "tars" / "broken.tar").write_bytes((tmp_path / "tars" / "a.tar").read_bytes()[:5000])
    monkeypatch.setattr(containers, "file_version", lambda path: "1000-1000000000")  # Parquet's size may vary
    return tmp_path


KNOWN = {  # a key of the keys of all parts
    "csv": "c77922328801e3cd24f457f6",
    "csv, limit": "a0f043106822b70e12949005",
    "labels": "649c6e5d538ab4d84a8dfc98",
    "coco": "495455aed6efcc78c255f4e6",
    "coco, limit": "fa4d25bf334ca88b76e9d6ab",
    "official": "3fba24743da8e17d8cb6437f",
    "huggingface": "3e7b3fdda9d7fccfd0a1f94d",
    "huggingface, limit": "f7ed2245701a282d8087a05b",
    "img2dataset": "c1beefe967abfb0956fa5a06",
}


@pytest.mark.parametrize("kind", KNOWN)
def test_the_parts_of_a_store_keep_their_keys(listed_before: Path, kind: str) -> None:
    """Known values: with other ones all that people have in their stores would be computed again."""
    images, labels = str(listed_before / "images"), str(listed_before / "tag_list.txt")
    source = {
        "csv": CsvSource(path=str(listed_before / "c.csv")),
        "csv, limit": CsvSource(path=str(listed_before / "c.csv"), limit=2),
        "labels": LabelsSource(path=str(listed_before / "l.csv")),
        "coco": CocoSource(path=str(listed_before / "o.json")),
        "coco, limit": CocoSource(path=str(listed_before / "o.json"), limit=2),
        "official": OfficialSource(
            path=str(listed_before / "t.json"), evaluation=str(listed_before / "e.txt"), images=images, tags=labels
        ),
        "huggingface": HuggingFaceSource(path=str(listed_before / "rows")),
        "huggingface, limit": HuggingFaceSource(path=str(listed_before / "rows"), limit=300),
        "img2dataset": Img2datasetSource(path=str(listed_before / "tars")),
    }[kind]
    run = StageRun(
        Store(listed_before / "store"),
        replace(STAGE, declared=replace(STAGE.declared, version=5)),
        IngestSettings(source=source, shard_size=2),
    )
    assert digest([shard.key for shard in planning.plan(run).shards]) == KNOWN[kind]
