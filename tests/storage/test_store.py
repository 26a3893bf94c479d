"""The store: what is written is read back, nothing half-written is ever read, damage is found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.keys import digest
from storage.schemas import CONTRACTS, ContractError
from storage.store import DamagedPartError, Part, Snapshot, Store, StoreError
from tasks.machine.inputs import Inputs
from tasks.machine.refreshing import promote
from tests.tasks.stage_inputs import inputs_of


def caption_tags(*rows: tuple[str, int, list[int]]) -> pa.Table:
    ids, indices, tags = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {"image_id": list(ids), "caption_index": list(indices), "tag_ids": list(tags)},
        CONTRACTS["caption_tags"].schema,
    )


def snapshot(store: Store, *parts: Part, tombstones: dict[str, list[str]] | None = None) -> Snapshot:
    key = digest([part.key for part in parts])
    return store.publish(Snapshot("caption_tags", key, "assign-tags", "recipe", parts, tombstones=tombstones or {}))


def test_a_part_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    table = caption_tags(("a", 0, [1, 2]), ("b", 0, []))
    part = store.write_part("caption_tags", "k", "p", table)
    assert store.read_part("caption_tags", part).equals(table)
    assert store.find_part("caption_tags", "k", "p") == part
    assert store.read_part("caption_tags", part, ["image_id"]).column_names == ["image_id"]


def test_features_keep_their_half_precision(tmp_path: Path) -> None:
    store = Store(tmp_path)
    values = np.random.default_rng(0).normal(size=40).astype(np.float16)
    table = pa.table(
        {
            "image_id": ["a", "b"],
            "tag_id": pa.array([1, 2], pa.int32()),
            "box": pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(8, np.float32)), 4),
            "detector_score": pa.array([0.5, 1.0], pa.float32()),
            "tag_score": pa.array([0.5, 1.0], pa.float32()),
            "feature": pa.FixedSizeListArray.from_arrays(pa.array(values), 20),
        }
    )
    part = store.write_part("regions", "k", "p", table)
    read = store.read_part("regions", part)["feature"].combine_chunks().flatten().to_numpy()
    assert np.array_equal(read, values)


def test_rows_of_images_that_left_are_not_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    part = store.write_part("caption_tags", "k", "p", caption_tags(("a", 0, [1]), ("b", 0, [2])))
    published = snapshot(store, part, tombstones={"p": ["a"]})
    assert store.table(published)["image_id"].to_pylist() == ["b"]
    assert store.table(published, ["caption_index"])["caption_index"].to_pylist() == [0]


def test_an_artifact_without_images_keeps_its_rows_when_an_image_leaves(tmp_path: Path) -> None:
    store = Store(tmp_path)
    words = pa.table({"lemma": ["dog"], "type": ["object"], "count": [2]}, CONTRACTS["candidates"].schema)
    part = store.write_part("candidates", "k", "p", words)
    published = store.publish(Snapshot("candidates", "k", "assign-tags", "recipe", (part,), tombstones={"p": ["a"]}))
    assert store.table(published).equals(words)
    assert store.table(published, ["lemma"]).column_names == ["lemma"]
    assert Inputs(store, {"candidates": published}).sql("SELECT sum(count) AS n FROM candidates")["n"].to_pylist() == [
        2
    ]


@pytest.mark.parametrize(
    ("name", "neighbour"),
    [
        ("st[1]", "st1"),
        ("a*", "ab"),
        ("a?", "ab"),
        ("[a-c]", "b"),
        ("{a,b}", "a"),
        ("it's", "its"),
        ("50%", "50"),
        ("**", "x"),
    ],
)
def test_a_store_beside_another_reads_its_own_rows(tmp_path: Path, name: str, neighbour: str) -> None:
    words = CONTRACTS["candidates"].schema
    inputs = {
        folder: inputs_of(tmp_path / folder, {"candidates": pa.table([["x"], ["object"], [count]], schema=words)})
        for folder, count in ((name, 3), (neighbour, 50))
    }
    query = "SELECT sum(count) AS n FROM candidates"
    sums = {folder: of_folder.sql(query)["n"][0].as_py() for folder, of_folder in inputs.items()}
    assert sums == {name: 3, neighbour: 50}


def test_a_flipped_bit_and_a_missing_file_are_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    part = store.write_part("caption_tags", "k", "p", caption_tags(("a", 0, [1])))
    file = Path(store.part_file("caption_tags", part))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(DamagedPartError, match="damaged"):
        store.read_part("caption_tags", part)
    file.unlink()
    with pytest.raises(DamagedPartError, match="missing"):
        store.read_part("caption_tags", part)


def test_a_truncated_part_is_not_taken_for_done(tmp_path: Path) -> None:
    store = Store(tmp_path)
    part = store.write_part("caption_tags", "k", "p", caption_tags(("a", 0, [1])))
    file = Path(store.part_file("caption_tags", part))
    file.write_bytes(file.read_bytes()[:-9])
    assert store.find_part("caption_tags", "k", "p") is None


def test_a_part_under_another_name_is_not_taken_for_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    part = store.write_part("caption_tags", "k", "p", caption_tags(("a", 0, [1])))
    Path(store.part_file("caption_tags", part)).rename(tmp_path / "caption_tags/parts/other.parquet")
    assert store.find_part("caption_tags", "other", "p") is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", 0, [1]), ("a", 0, [2])], "more than once"),
        ([("a", 0, [1]), (None, 1, [2])], "nulls"),
    ],
)
def test_a_broken_contract_is_refused(tmp_path: Path, rows: list[tuple[str, int, list[int]]], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        Store(tmp_path).write_part("caption_tags", "k", "p", caption_tags(*rows))


def test_a_column_too_many_is_refused(tmp_path: Path) -> None:
    table = caption_tags(("a", 0, [1])).append_column("more", [[1]])
    with pytest.raises(ContractError, match="columns"):
        Store(tmp_path).write_part("caption_tags", "k", "p", table)


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text('{"format": 99}')
    with pytest.raises(StoreError, match=r"format 99.*upgrade"):
        Store(tmp_path)


def test_a_missing_store_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="ram-engine run"):
        Store(tmp_path / "nothing", create=False)


def test_latest_is_what_was_published_or_pointed_to_last(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = snapshot(store, store.write_part("caption_tags", "one", "p", caption_tags(("a", 0, [1]))))
    second = snapshot(store, store.write_part("caption_tags", "two", "p", caption_tags(("a", 0, [2]))))
    assert store.snapshot("caption_tags") == second
    store.point_to(first)
    assert store.snapshot("caption_tags") == first
    assert {one.key for one in store.snapshots("caption_tags")} == {first.key, second.key}
    assert store.artifacts() == ["caption_tags"]


def test_equal_rows_have_equal_digests_whatever_their_key(tmp_path: Path) -> None:
    table = caption_tags(("a", 0, [1]))
    one, two = Store(tmp_path / "one"), Store(tmp_path / "two")
    assert (
        snapshot(one, one.write_part("caption_tags", "k", "p", table)).digest
        == snapshot(two, two.write_part("caption_tags", "k", "p", table)).digest
    )


def test_a_model_folder_moves_into_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    folder = store.work_folder("training")
    (folder / "config.json").write_text("{}")
    digest_of_files = store.write_model("ram", "k", folder)
    published = store.publish(Snapshot("ram", "k", "retrain", "recipe", model=digest_of_files))
    assert (store.model_folder(published) / "config.json").read_text() == "{}"
    assert not folder.exists()


def test_an_object_store_holds_the_same(tmp_path: Path) -> None:
    store = Store("memory://bucket/run")
    table = caption_tags(("a", 0, [1]))
    published = snapshot(store, store.write_part("caption_tags", "k", "p", table))
    again = Store("memory://bucket/run", create=False)
    assert again.table(published).equals(table)
    assert again.snapshot("caption_tags") == published


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.floats(allow_nan=False)), max_size=5))
def test_keys_do_not_depend_on_the_order_of_settings(settings: dict[str, object]) -> None:
    assert digest(settings) == digest(dict(reversed(list(settings.items()))))


@given(st.lists(st.integers(), min_size=1), st.integers())
def test_keys_tell_values_apart(values: list[int], more: int) -> None:
    assert digest(values) != digest([*values, more])
    assert digest([1, 1]) != digest([11])


def test_of_two_writers_the_first_one_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.write_part("caption_tags", "k", "p", caption_tags(("a", 0, [1])))
    assert store.write_part("caption_tags", "k", "p", caption_tags(("a", 0, [2]))) == first
    assert store.read_part("caption_tags", first)["tag_ids"].to_pylist() == [[1]]
    replaced = store.write_part("caption_tags", "k", "p", caption_tags(("a", 0, [3])), replace=True)
    assert store.read_part("caption_tags", replaced)["tag_ids"].to_pylist() == [[3]]
    file = Path(store.part_file("caption_tags", first))
    file.write_bytes(file.read_bytes()[:40])  # no whole part: the next writer takes its place
    whole = store.write_part("caption_tags", "k", "p", caption_tags(("a", 0, [4])))
    assert store.read_part("caption_tags", whole)["tag_ids"].to_pylist() == [[4]]


def test_a_candidate_is_the_latest_only_when_it_is_promoted(tmp_path: Path) -> None:
    store = Store(tmp_path)
    part = store.write_part("caption_tags", "k", "p", caption_tags(("a", 0, [1])))
    first = snapshot(store, part)
    held = store.publish(replace(first, key="second", created=0.0, held_back="worse"))
    assert store.snapshot("caption_tags") == first
    assert {one.key for one in store.snapshots("caption_tags")} == {first.key, held.key}
    promote(store, [held])
    assert store.snapshot("caption_tags") == replace(held, held_back="")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["store.json", "candidates/latest.json", "candidates/snapshots/k.json"]), st.data())
def test_a_file_of_a_store_is_what_it_should_be_or_named(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("store")
    store = Store(folder)
    published = store.publish(Snapshot("candidates", "k", "assign-tags", "recipe", figures={"seconds": 1.0}))
    whole = json.loads((folder / name).read_text())
    fields = st.sampled_from(sorted(whole))
    changed = st.builds(lambda field, value: json.dumps({**whole, field: value}).encode(), fields, JSON)
    lacking = st.builds(lambda field: json.dumps({k: v for k, v in whole.items() if k != field}).encode(), fields)
    content = data.draw(
        st.binary(max_size=20) | st.builds(lambda value: json.dumps(value).encode(), JSON) | changed | lacking
    )
    (folder / name).write_bytes(content)
    said, opened = "", None
    try:
        opened = Store(folder).snapshot("candidates")
    except StoreError as error:
        said = str(error)
    assert not said or name in said or "has format" in said
    assert opened is None or (opened.key == published.key and isinstance(opened.created, float))


def test_a_snapshot_of_another_artifact_is_not_taken(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for artifact in ("candidates", "phrases"):
        store.publish(Snapshot(artifact, "k", "stage", "recipe"))
    (tmp_path / "candidates/snapshots/k.json").write_bytes((tmp_path / "phrases/snapshots/k.json").read_bytes())
    with pytest.raises(StoreError, match="is the snapshot phrases@k: remove it"):
        store.snapshot("candidates")


def test_a_file_that_nests_without_end_is_named(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text("[" * 100_000)
    with pytest.raises(StoreError, match=r"store.json is not JSON"):
        Store(tmp_path)
