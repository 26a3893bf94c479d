"""Ingest: only what is new or changed makes a part; what left becomes a tombstone; unfit rows say why."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from storage.store import Snapshot, Store
from tasks.machine import planning
from tasks.machine.dag import stage_named
from tasks.machine.inputs import Inputs
from tasks.machine.stage_run import Again, StageRun
from tasks.settings.build_labels import BuildLabelsSettings
from tasks.settings.executor import ExecutorSettings
from tasks.settings.ingest import IngestSettings
from tasks.sources.csv_file import CsvSource
from tasks.sources.folder import FolderSource
from tasks.sources.item import SourceItem
from tasks.sources.listing.fingerprints import Fingerprint, of_image
from tasks.sources.listing.index import ListedItems, Listing
from tasks.sources.listing.item_rows import from_table
from tasks.sources.mixed import MixedSource
from tasks.sources.source import Source as SourceSettings
from tasks.stages import ingest

STAGE = stage_named("ingest")


def picture(shade: int, size: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def huge_png() -> bytes:
    """A PNG whose header says 30,000 x 30,000 and which holds nothing else."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def ingest_all(store: Store, settings: IngestSettings, again: Again = Again()) -> int:
    """Ingests as the flow does; returns how many shards were computed."""
    plan = planning.plan(StageRun(store, STAGE, settings, again=again))
    if plan.kept:
        planning.point_to(plan)
        return 0
    compute = ingest.build(settings, Inputs(store, {}), ExecutorSettings())
    done = {artifact: list((plan.done or {}).get(artifact, ())) for artifact in STAGE.writes}
    for shard in plan.shards:
        for artifact, table in compute(shard.tables).items():
            part = store.write_part(artifact, shard.key, shard.partition, table)
            done[artifact].append(part)
    tombstones = ingest.conclude(plan, done)
    dumped = settings.model_dump(mode="json")
    for artifact, parts in done.items():
        store.publish(
            Snapshot(
                artifact, plan.key, "ingest", plan.recipe, tuple(parts), tombstones=tombstones, settings=dumped,
                stage_version=STAGE.version,
            )
        )  # fmt: skip
    return len(plan.shards)


class Source:
    """A CSV with a folder of images that a test changes, and the store that it is ingested into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "images").mkdir()
        self.rows: list[tuple[str, str]] = []
        self.store = Store(folder / "store")
        self.settings = IngestSettings(source=CsvSource(path=str(folder / "c.csv")), shard_size=2, error_budget=1)

    def add(self, name: str, caption: str, data: bytes | None, first: bool = False) -> None:
        self.rows.insert(0 if first else len(self.rows), (name, caption))
        if data is not None:
            (self.folder / "images" / name).write_bytes(data)

    def ingest(self, again: Again = Again()) -> int:
        """Ingests as the flow does; returns how many shards were computed."""
        lines = "".join(f'{name},"{caption}"\n' for name, caption in self.rows)
        (self.folder / "c.csv").write_text("image,caption\n" + lines)
        return ingest_all(self.store, self.settings, again)

    def captions(self) -> dict[str, list[str]]:
        """Captions of every image that is alive, by the names it has."""
        table = self.store.table(self.store.snapshot("pairs"), ["names", "captions"])
        return {"+".join(row["names"]): row["captions"] for row in table.to_pylist()}

    def rejected(self) -> list[str]:
        snapshot = self.store.snapshot("pairs_rejected")
        return sorted(self.store.table(snapshot, ["reason"])["reason"].to_pylist())


@pytest.fixture
def source(tmp_path: Path) -> Source:
    made = Source(tmp_path)
    for shade, name in enumerate(["a.png", "b.png", "c.png", "d.png"]):
        made.add(name, f"picture {name}", picture(shade))
    return made


def test_a_second_ingest_computes_nothing(source: Source) -> None:
    assert source.ingest() == 2
    assert source.ingest() == 0


def test_a_row_added_at_the_top_computes_one_part(source: Source) -> None:
    source.ingest()
    source.add("new.png", "new", picture(9), first=True)
    assert source.ingest() == 1
    assert len(source.captions()) == 5


def test_a_removed_image_leaves_without_computing(source: Source) -> None:
    source.ingest()
    source.rows.pop(1)
    assert source.ingest() == 0
    assert set(source.captions()) == {"a.png", "c.png", "d.png"}


def test_an_image_that_comes_back_is_alive_again(source: Source) -> None:
    source.ingest()
    row = source.rows.pop()
    source.ingest()
    assert "d.png" not in source.captions()
    source.rows.append(row)
    source.ingest()
    assert set(source.captions()) == {"a.png", "b.png", "c.png", "d.png"}


def test_a_changed_image_and_a_changed_caption_take_the_place_of_the_old(source: Source) -> None:
    source.ingest()
    source.add("b.png", "unused", picture(77, 9))
    source.rows.pop()
    source.rows[2] = ("c.png", "other words")
    assert source.ingest() == 1
    captions = source.captions()
    assert len(captions) == 4
    assert captions["c.png"] == ["other words"]
    widths = source.store.table(source.store.snapshot("pairs"), ["names", "width"]).to_pylist()
    assert {row["names"][0]: row["width"] for row in widths}["b.png"] == 9


def test_a_touched_file_is_the_same_file(source: Source) -> None:
    source.ingest()
    file = source.folder / "images" / "a.png"
    file.write_bytes(file.read_bytes())
    assert source.ingest() == 0


def test_one_photograph_under_two_names_is_one_image(source: Source) -> None:
    source.ingest()
    source.add("copy.png", "a copy", picture(0))
    source.ingest()
    captions = source.captions()
    assert len(captions) == 4
    assert captions["a.png+copy.png"] == ["picture a.png", "a copy"]
    assert source.ingest() == 0
    source.rows = [row for row in source.rows if row[0] != "a.png"]
    source.ingest()
    assert source.captions()["copy.png"] == ["a copy"]
    assert len(source.captions()) == 4


def test_unfit_images_are_rejected_with_their_reason(source: Source) -> None:
    source.add("cut.png", "truncated", picture(5, 64)[:-60])
    source.add("empty.png", "zero bytes", b"")
    source.add("huge.png", "too large", huge_png())
    source.add("none.png", "not there", None)
    source.add("text.png", "no image", b"hello")
    source.ingest()
    assert source.rejected() == [
        "image_empty",
        "image_missing",
        "image_too_large",
        "image_truncated",
        "image_unreadable",
    ]
    assert len(source.captions()) == 4
    assert source.ingest() == 0
    source.add("none.png", "not there", picture(200))
    source.rows.pop()
    source.ingest()
    assert "none.png" in source.captions()


def test_an_image_keeps_its_split_wherever_it_stands(source: Source) -> None:
    source.settings = source.settings.model_copy(update={"test_share": 0.5})

    def splits() -> dict[str, str]:
        rows = source.store.table(source.store.snapshot("pairs"), ["image_id", "split"]).to_pylist()
        return {row["image_id"]: row["split"] for row in rows}

    source.ingest()
    before = splits()
    source.rows.reverse()
    source.store = Store(source.folder / "another")
    source.ingest()
    assert splits() == before


def test_settings_that_change_rows_make_them_new(source: Source) -> None:
    source.ingest()
    csv = source.settings.source
    item = next(iter(csv.items()))
    fingerprint = of_image(item, csv, source.settings, 1)
    assert fingerprint != of_image(item, csv, source.settings.model_copy(update={"test_share": 0.5}), 1)
    assert fingerprint != of_image(replace(item, captions=("x",)), csv, source.settings, 1)
    assert fingerprint == of_image(item, csv, source.settings.model_copy(update={"shard_size": 99}), 1)


@pytest.mark.parametrize("shard_size", [2, 256])
def test_pictures_without_a_caption_come_in_unless_they_are_to_be_rejected(source: Source, shard_size: int) -> None:
    source.settings = source.settings.model_copy(update={"test_share": 0.99, "shard_size": shard_size})

    def splits() -> dict[str, str]:
        rows = source.store.table(source.store.snapshot("pairs"), ["names", "split"]).to_pylist()
        return {row["names"][0]: row["split"] for row in rows}

    source.add("bare.png", "", picture(100))
    source.add("a.png", "", None)  # that row is no caption
    source.add("b.png", "picture b, again", None)
    source.ingest()
    assert source.captions()["bare.png"] == []
    assert source.captions()["a.png"] == ["picture a.png"]
    assert splits() == {**dict.fromkeys(("a.png", "b.png", "c.png", "d.png"), "test"), "bare.png": "train"}
    pairs = source.store.snapshot("pairs")
    assert pairs is not None
    assert ingest.told(source.store, pairs) == "1 of the pictures came without a caption"
    source.settings = source.settings.model_copy(update={"bare": "reject"})
    source.ingest()
    assert source.rejected() == ["row_without_caption"]
    assert "bare.png" not in source.captions()
    pairs = source.store.snapshot("pairs")
    assert pairs is not None
    assert ingest.told(source.store, pairs) == ""
    source.settings = source.settings.model_copy(update={"bare": "use"})
    source.ingest()
    assert source.rejected() == []
    assert source.captions()["bare.png"] == []
    source.rows = [(name, "a caption at last" if name == "bare.png" else text) for name, text in source.rows]
    source.ingest()
    assert splits()["bare.png"] == "test"  # as if it had never been without


IN_BOTH = st.lists(st.sampled_from(["captioned", "bare", "both"]), min_size=1, max_size=20).map(
    lambda kinds: [*kinds, "both"]
)


@settings(max_examples=6)
@given(IN_BOTH, st.integers(1, 9))
def test_bare_pictures_move_neither_the_ids_nor_the_splits_of_others(kinds: list[str], shard_size: int) -> None:
    """Whether they are there from the beginning, or come later."""
    with tempfile.TemporaryDirectory() as name:
        folder, lines = Path(name), ["image,caption"]
        for shade, kind in enumerate(kinds):
            for place in {"captioned": ("images",), "bare": ("more",), "both": ("images", "more")}[kind]:
                (folder / place).mkdir(exist_ok=True)
                (folder / place / f"{shade}.png").write_bytes(picture(shade))
            lines += [f"{shade}.png,shade {shade}"] if kind != "bare" else []
        (folder / "c.csv").write_text("\n".join(lines))
        captioned = CsvSource(path=str(folder / "c.csv"))
        mixed = MixedSource(parts=(FolderSource(path=str(folder / "more")), captioned))

        def split_of(store: str, source: SourceSettings) -> dict[str, tuple[str, bool]]:
            """By id, the split of each picture and whether it has a caption."""
            opened = Store(folder / store)
            shares = {"test_share": 0.3, "calibrate_share": 0.3}
            ingest_all(opened, IngestSettings(source=source, shard_size=shard_size, **shares))
            rows = opened.table(opened.snapshot("pairs"), ["image_id", "split", "captions"]).to_pylist()
            return {row["image_id"]: (row["split"], bool(row["captions"])) for row in rows}

        before, later, at_once = split_of("first", captioned), split_of("first", mixed), split_of("second", mixed)
        assert later == at_once
        assert len(later) == len(kinds)
        assert later == {**dict.fromkeys(later, ("train", False)), **before}


WORDS = st.text("0123456789abcdef", min_size=1)
VERSIONS = st.text(max_size=20)
FINGERPRINTS = st.builds(Fingerprint, WORDS, version=VERSIONS) | st.builds(
    Fingerprint, WORDS, st.integers(0), st.integers(1), WORDS | st.just(""), VERSIONS
)
TEXTS = st.text(st.characters(codec="utf-8"))
TAGS = st.lists(st.tuples(TEXTS, TEXTS)).map(tuple)
ITEMS = st.builds(
    SourceItem,
    name=TEXTS,
    where=TEXTS,
    captions=st.lists(TEXTS).map(tuple),
    path=TEXTS,
    url=TEXTS | st.none(),
    problem=st.none() | st.tuples(st.just("image_missing"), TEXTS),
    ready_tags=st.none()
    | st.lists(st.tuples(st.integers(-2, 9), st.lists(st.tuples(TEXTS, TEXTS)).map(tuple))).map(tuple),
    container=st.sampled_from(["", "tar"]),
    start=st.integers(0, 2**40),
    rows=st.integers(0, 2**20),
)


@settings(max_examples=25)
@given(st.lists(st.tuples(FINGERPRINTS, ITEMS), min_size=1))
def test_items_are_listed_and_come_to_their_worker_as_they_were(items: list[tuple[Fingerprint, SourceItem]]) -> None:
    listing = Listing(items)
    sent = pickle.loads(pickle.dumps(ListedItems(listing, listing.numbers)))
    assert list(from_table(sent["items"])) == list(dict(items).items())
    by_number = dict(zip(listing.numbers, dict(items), strict=True))
    assert {listing.find(fingerprint): fingerprint for fingerprint in dict(items)} == by_number
    for fingerprint, _ in items:
        assert Fingerprint.parse(str(fingerprint)) == fingerprint
        assert fingerprint.read([]).unread() == fingerprint.unread()


def test_rejected_rows_are_tried_again_where_asked(source: Source) -> None:
    good = picture(50)
    source.add("late.png", "a late one", good[:-20] + bytes(20))
    source.ingest()
    assert len(source.rejected()) == 1
    file = source.folder / "images" / "late.png"
    times = file.stat()
    file.write_bytes(good)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # nothing tells that the file is mended now
    assert source.ingest() == 0
    assert source.ingest(Again(retry_rejected=True)) == 1
    assert source.rejected() == []
    assert source.captions()["late.png"] == ["a late one"]
    assert source.ingest(Again(retry_rejected=True)) == 0


def test_a_rejected_row_that_left_is_no_longer_counted(source: Source) -> None:
    source.add("none.png", "nothing there", None)
    source.ingest()
    assert source.rejected() == ["image_missing"]
    source.rows.pop()
    source.ingest()
    assert source.rejected() == []


def test_images_of_a_lost_part_are_read_again(source: Source) -> None:
    source.ingest()
    before = source.captions()
    snapshot = source.store.snapshot("pairs")
    assert snapshot is not None
    source.store.remove_part("pairs", snapshot.parts[0])
    assert source.ingest() == 1
    assert source.captions() == before


def test_a_plan_does_not_hold_where_what_it_reuses_was_removed(source: Source) -> None:
    source.ingest()
    source.add("e.png", "picture e", picture(4))
    (source.folder / "c.csv").write_text("image,caption\n" + "".join(f"{name},{text}\n" for name, text in source.rows))
    run = StageRun(source.store, STAGE, source.settings)
    planned = planning.plan(run)
    assert planned.holds(run)
    source.store.remove_part("pairs", (planned.done or {})["pairs"][0])
    assert not planned.holds(run)


def test_a_plan_does_not_hold_where_a_file_that_its_settings_name_has_changed(tmp_path: Path) -> None:
    tags = tmp_path / "tags.txt"
    tags.write_text("dog")
    run = StageRun(Store(tmp_path / "store"), stage_named("build-labels"), BuildLabelsSettings(tag_list=str(tags)))
    planned = planning.StagePlan(run, {}, key="", recipe="", made_from=planning.origins(run))
    assert planned.holds(run)
    tags.write_text("dog\ncat")
    assert not planned.holds(run)
