"""A bit that flips in a part is found, named, and never taken for data, whoever reads."""

from __future__ import annotations

import errno
import hashlib
import os
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.images import read_files, with_files
from storage.schemas import CONTRACTS
from storage.store import DamagedPartError, Part, Snapshot, Store
from tasks.machine.inputs import Inputs

FLIPS = 6
ROWS = 40
FILES = [bytes([number]) * 300 for number in range(ROWS)]
IDS = [hashlib.sha256(file).hexdigest()[:16] for file in FILES]


def caption_tags() -> pa.Table:
    rows = {"image_id": IDS, "caption_index": [0] * ROWS, "tag_ids": [[number, 1] for number in range(ROWS)]}
    return pa.table(rows, CONTRACTS["caption_tags"].schema)


def images() -> pa.Table:
    records = [{"bytes": file, "path": "a.png"} for file in FILES]
    return pa.table({"image_id": IDS, "image": records}, CONTRACTS["images"].schema)


def pairs() -> pa.Table:
    names = CONTRACTS["pairs"].schema.names
    row = dict.fromkeys(names) | {key: ["a"] for key in ("captions", "sources", "names", "fingerprints")}
    row |= {"split": "train", "sha256": "a", "width": 1, "height": 1, "hash": 0}
    return pa.Table.from_pylist([row | {"image_id": image_id} for image_id in IDS], CONTRACTS["pairs"].schema)


def published(store: Store, artifact: str, table: pa.Table) -> Snapshot:
    part = store.write_part(artifact, "k", "p", table)
    return store.publish(Snapshot(artifact, "k", "test", "recipe", (part,)))


def settle(file: Path) -> None:
    """Makes a file look as if it had been written a while ago."""
    os.utime(file, (1e9, 1e9 + os.stat(file).st_mtime % 1000))


def with_flips(store: Store, artifact: str, part: Part, read: Callable[[], object]) -> None:
    """Flips random bits of a part, one at a time; ``read`` has to find each, and none when it is mended."""
    file, chance = Path(store.part_file(artifact, part)), random.Random(artifact)
    whole = file.read_bytes()
    for _ in range(FLIPS):
        read()
        settle(file)
        read()  # which is remembered as checked
        data, bit = bytearray(whole), chance.randrange(8 * len(whole))
        data[bit // 8] ^= 1 << bit % 8
        file.write_bytes(data)
        with pytest.raises(DamagedPartError, match=f"{artifact}/parts/k.parquet"):
            read()
        settle(file)
        with pytest.raises(DamagedPartError):
            read()
        file.write_bytes(whole)
    read()


@pytest.mark.parametrize("columns", [None, ["image_id"]])
def test_reading_a_part_finds_it(tmp_path: Path, columns: list[str] | None) -> None:
    store = Store(tmp_path)
    (part,) = published(store, "caption_tags", caption_tags()).parts
    with_flips(store, "caption_tags", part, lambda: store.read_part("caption_tags", part, columns))


def test_a_query_finds_it_and_opens_what_it_names_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    snapshots = {"caption_tags": published(store, "caption_tags", caption_tags())}
    snapshots["pairs"] = published(store, "pairs", pairs())
    inputs = Inputs(store, snapshots)
    (part,) = snapshots["caption_tags"].parts
    Path(store.part_file("pairs", snapshots["pairs"].parts[0])).write_bytes(b"damaged")
    query = "SELECT unnest(tag_ids) AS tag_id FROM caption_tags"
    with_flips(store, "caption_tags", part, lambda: inputs.sql(query))
    with pytest.raises(DamagedPartError, match="pairs"):
        inputs.sql("SELECT image_id FROM pairs")


def test_a_picture_that_is_looked_at_alone_is_that_of_its_id(tmp_path: Path) -> None:
    store = Store(tmp_path)
    pairs_of, images_of = published(store, "pairs", pairs()), published(store, "images", images())
    assert read_files(store, pairs_of, images_of, IDS[:2]) == {
        image_id: {"bytes": file, "path": "a.png"} for image_id, file in zip(IDS[:2], FILES, strict=False)
    }
    file = Path(store.part_file("images", images_of.parts[0]))
    data = file.read_bytes()
    place = data.index(FILES[1])
    file.write_bytes(data[:place] + b"\xff" + data[place + 1 :])
    with pytest.raises(DamagedPartError, match="images"):
        read_files(store, pairs_of, images_of, IDS[:2])
    with pytest.raises(DamagedPartError, match="images"):
        list(with_files(store, pairs_of, images_of, ["image_id"]))


def test_large_files_are_read_nearly_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for size, groups in ((900_000, 6), (100, 1)):  # two large ones fit into 2 MB, and all of the small ones
        records = [{"bytes": bytes([number]) * size, "path": ""} for number in range(12)]
        table = pa.table({"image_id": IDS[:12], "image": records}, CONTRACTS["images"].schema)
        part = store.write_part("images", f"k{size}", "p", table)
        assert pq.ParquetFile(store.part_file("images", part)).num_row_groups == groups


def test_files_stand_beside_their_pairs_where_images_left(tmp_path: Path) -> None:
    store = Store(tmp_path)
    parts = {name: store.write_part(name, "k", "p", made()) for name, made in (("pairs", pairs), ("images", images))}
    left = {"p": IDS[::3]}
    there = [store.publish(Snapshot(name, "k", "test", "r", (part,), tombstones=left)) for name, part in parts.items()]
    (table,) = with_files(store, *there, ["image_id"])
    kept = {image_id: file for image_id, file in zip(IDS, FILES, strict=True) if image_id not in left["p"]}
    assert (
        dict(zip(table["image_id"].to_pylist(), [row["bytes"] for row in table["image"].to_pylist()], strict=True))
        == kept
    )
    assert read_files(store, *there, IDS[:2]).keys() == {IDS[1]}


def test_a_finished_part_is_found_by_its_end_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    part = store.write_part("caption_tags", "k", "p", caption_tags())
    file = Path(store.part_file("caption_tags", part))
    data = bytearray(file.read_bytes())
    data[10] ^= 1
    file.write_bytes(data)
    assert store.find_part("caption_tags", "k", "p") == part  # not read: its reader finds out
    with pytest.raises(DamagedPartError):
        store.read_part("caption_tags", part)


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_system_needs_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(os, "link", refuse)
    store = Store(tmp_path)
    first = store.write_part("caption_tags", "k", "p", caption_tags())
    assert store.write_part("caption_tags", "k", "p", caption_tags().slice(1)) == first
    assert store.read_part("caption_tags", first).num_rows == ROWS
    killed = Path(store.part_file("caption_tags", first)).with_name("killed.parquet")
    killed.touch()  # by a run that had the name and was killed before it gave the file
    assert store.write_part("caption_tags", "killed", "p", caption_tags()).rows == ROWS
    assert [name for name in store.names("caption_tags/parts") if name.startswith(".")] == []


def test_any_bit_of_a_footer_may_flip(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (part,) = published(store, "caption_tags", caption_tags().slice(0, 1)).parts
    file = Path(store.part_file("caption_tags", part))
    whole = file.read_bytes()
    for bit in range(8 * len(whole) - 8, 8 * (len(whole) // 2), -7):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        file.write_bytes(data)
        with pytest.raises(DamagedPartError):
            store.read_part("caption_tags", part)


def test_a_part_that_was_found_damaged_is_written_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (part,) = published(store, "caption_tags", caption_tags()).parts
    file = Path(store.part_file("caption_tags", part))
    whole = file.read_bytes()
    file.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    assert store.parts_present("caption_tags") == {"k"}  # no one has read it yet
    with pytest.raises(DamagedPartError):
        Inputs(store, {"caption_tags": store.snapshot("caption_tags")}).sql("SELECT * FROM caption_tags")
    assert Store(tmp_path).parts_present("caption_tags") == set()
    assert store.parts_present("pairs") == set()
    assert Store(tmp_path).write_part("caption_tags", "k", "p", caption_tags()) == part
    assert file.read_bytes() == whole
    assert Store(tmp_path).parts_present("caption_tags") == {"k"}


def test_a_damaged_picture_is_noted(tmp_path: Path) -> None:
    store = Store(tmp_path)
    own, files = published(store, "pairs", pairs()), published(store, "images", images())
    file = Path(store.part_file("images", files.parts[0]))
    file.write_bytes(file.read_bytes().replace(FILES[7], FILES[8]))
    with pytest.raises(DamagedPartError):
        read_files(store, own, files, [IDS[7]])
    assert store.parts_present("images") == set()
    assert store.parts_present("pairs") == {"k"}
