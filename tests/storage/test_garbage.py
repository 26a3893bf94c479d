from __future__ import annotations

import os
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from storage import garbage, leases
from storage.schemas import contract
from storage.store import TEMPORARY, Snapshot, Store, StoreError
from tests.conftest import ram_engine


def table(number: int) -> pa.Table:
    row = {"image_id": f"{number:016x}", "caption_index": 0, "tag_ids": [number]}
    return pa.Table.from_pylist([row], contract("caption_tags").schema)


def version(store: Store, number: int, made_from: str = "", artifact: str = "caption_tags") -> Snapshot:
    """A snapshot of the part of this number and the part that all share."""
    keys = {f"{number:016x}": number, "f" * 16: 0}
    parts = tuple(store.write_part(artifact, key, key, table(content)) for key, content in keys.items())
    inputs = {"phrases": made_from} if made_from else {}
    snapshot = Snapshot(artifact, f"{number:08x}", "test", "test", parts=parts, inputs=inputs, created=float(number))
    return store.publish(snapshot)


def test_what_recent_snapshots_need_stays(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    versions = [version(store, number) for number in range(1, 6)]
    store.point_to(versions[1])  # the latest is not the newest: an older setting was run again
    written = tmp_path / "store/caption_tags/parts" / f"{TEMPORARY}abc"
    written.write_bytes(b"half")
    os.utime(written, (1, 1))
    found = garbage.find(store, keep=2)
    assert [(one.what, one.path.rsplit("/", 1)[-1]) for one in found] == [
        ("snapshot", "00000001.json"),
        ("snapshot", "00000003.json"),
        ("temporary file", f"{TEMPORARY}abc"),
        ("part", "0000000000000001.parquet"),
        ("part", "0000000000000003.parquet"),
    ]
    garbage.remove(store, found)
    assert garbage.find(store, keep=2) == []
    assert [one.key for one in store.snapshots("caption_tags")] == [versions[at].key for at in (4, 3, 1)]
    for snapshot in store.snapshots("caption_tags"):
        assert store.table(snapshot).num_rows == 2


def test_what_a_kept_snapshot_was_made_from_stays(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    old = version(store, 1)
    version(store, 2)
    version(store, 3, made_from=f"caption_tags@{old.key}")
    assert {one.path.rsplit("/", 1)[-1] for one in garbage.find(store, keep=1)} == {
        "00000002.json",
        "0000000000000002.parquet",
    }


def test_models_of_dropped_snapshots_go_with_all_their_files(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for number in (1, 2):
        folder = tmp_path / f"model-{number}"
        (folder / "whole").mkdir(parents=True)
        (folder / "whole" / "weights").write_bytes(b"0" * 10)
        key = f"{number:08x}"
        digest = store.write_model("ram", key, folder)
        store.publish(Snapshot("ram", key, "test", "test", model=digest, created=float(number)))
    found = garbage.find(store, keep=1)
    assert [one.path for one in found] == ["ram/snapshots/00000001.json", "ram/models/00000001/whole/weights"]


def test_what_a_running_stage_counts_on_stays(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    old = version(store, 1)
    version(store, 2)
    written = tmp_path / "store/caption_tags/parts" / f"{TEMPORARY}abc"
    written.write_bytes(b"being written")
    with leases.leased(store, "assign-tags") as lease:
        with leases.collecting(store) as collection:
            assert garbage.find(store, 1, collection.others) == []
        leases.narrow(store, lease, {"caption_tags": frozenset({old.parts[0].key})})
        with leases.collecting(store) as collection:
            assert [one.what for one in garbage.find(store, 1, collection.others)] == ["snapshot"]
            os.utime(written, (1, 1))  # before the run began
            assert [one.what for one in garbage.find(store, 1, collection.others)] == ["snapshot", "temporary file"]
    with leases.collecting(store) as collection:
        assert {one.what for one in garbage.find(store, 1, collection.others)} == {"snapshot", "part", "temporary file"}


def test_what_a_killed_run_was_writing_goes_wherever_it_lies(tmp_path: Path) -> None:
    store = Store(tmp_path)
    version(store, 1)
    names = [f"{folder}{TEMPORARY}abc" for folder in ("", "reports/", "regions/parts/", f"{leases.FOLDER}/")]
    for name in [*names, f"{leases.FOLDER}/now-abc"]:
        store.write_text(name, "half")
    assert garbage.find(store, 1) == []  # somebody may be at it
    with leases.leased(store, "judge") as lease:
        leases.narrow(store, lease, {})
        for name in [*names, f"{leases.FOLDER}/now-abc"]:
            os.utime(tmp_path / name, (1, 1))
        lease.begun = None  # one of which nobody knows how long it has been at work
        assert garbage.find(store, 1, [lease]) == []
    assert {one.path for one in garbage.find(store, 1)} == {*names, f"{leases.FOLDER}/now-abc"}


def test_a_note_goes_with_its_part(tmp_path: Path) -> None:
    store = Store(tmp_path)
    parts = version(store, 1).parts
    for part in parts:
        store.damaged("caption_tags", part, "is damaged")
    Path(store.part_file("caption_tags", parts[0])).unlink()
    assert [one.path for one in garbage.find(store, 1)] == [f".damaged/caption_tags@{parts[0].key}.json"]
    store.write_part("caption_tags", parts[0].key, parts[0].partition, table(1))
    assert store.parts_present("caption_tags") == {parts[0].key}  # written anew, so that it is not noted any more
    assert garbage.find(store, 1) == []


def test_an_unfinished_training_stays_while_a_run_may_go_on_with_it(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def unfinished(name: str, at: float) -> Path:
        folder = store.work_folder(name)
        (folder / "whole").mkdir()
        for path in (folder / "whole" / "checkpoint.pt", folder / "whole", folder):
            path.touch()
            os.utime(path, (at, at))
        return folder

    old, own = unfinished("retrain-2-aaaa", 100), unfinished("retrain-2-bbbb", 200)
    baseline = unfinished("train-baseline-cccc", 300)
    assert [one.path for one in garbage.find(store, 1)] == [str(old)]
    folder = tmp_path / "model"
    folder.mkdir()
    digest = store.write_model("baseline", "dddd", folder)
    store.publish(Snapshot("baseline", "dddd", "train-baseline", "test", model=digest, created=400.0))
    assert {one.path for one in garbage.find(store, 1)} == {str(old), str(baseline)}
    running = leases.Lease("retrain-2", {"ram-2": frozenset({"aaaa"})})
    found = garbage.find(store, 1, [running])
    assert [one.path for one in found] == [str(own), str(baseline)]  # the run has begun another
    garbage.remove(store, found)
    assert [folder.name for folder in store.unfinished_work()] == ["retrain-2-aaaa"]


def test_the_lease_of_a_killed_run_counts_for_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with leases.leased(store, "assign-tags") as lease:
        file = tmp_path / "store" / leases.FOLDER / f"{lease.name}.json"
        long_ago = file.stat().st_mtime - leases.DEAD_AFTER - 1
        os.utime(file, (long_ago, long_ago))
        assert leases.living(store) == []


def test_one_collection_at_a_time_and_runs_wait_for_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    planned = threading.Event()

    def run() -> None:
        with leases.leased(store, "assign-tags"):
            planned.set()

    with leases.collecting(store):
        with pytest.raises(StoreError, match="being collected already"), leases.collecting(store):
            pass
        thread = threading.Thread(target=run)
        thread.start()
        assert not planned.wait(1)
    assert planned.wait(10)
    thread.join()


def test_gc_lists_first_and_spares_what_runs_need(finished_store: Path, copied_store: Path) -> None:
    store = str(copied_store)
    assert "0 files" in ram_engine("gc", "--store", store, "--keep", "1").stdout
    ram_engine("run", "--preset", "tiny", "--store", store, "--until", "judge", "--set", "judge.outlier_share=0.3")
    assert "0 files" in ram_engine("gc", "--store", store, "--keep", "1").stdout  # the models were made from the first
    ram_engine("run", "--preset", "tiny", "--store", store, "--until", "judge", "--set", "judge.outlier_share=0.4")
    listed = ram_engine("gc", "--store", store, "--keep", "1", "--dry-run").stdout
    assert "judge_checks/snapshots/" in listed
    assert "would be removed" in listed
    opened = Store(store)
    with leases.leased(opened, "judge"):  # it has not planned yet: anything may be needed
        spared = ram_engine("gc", "--store", store, "--keep", "1").stdout
    assert "spared: what a running judge counts on" in spared
    assert "0 files" in spared
    assert "MB removed" in ram_engine("gc", "--store", store, "--keep", "1").stdout
    for name in opened.artifacts():
        snapshot = opened.snapshot(name)
        assert snapshot is not None
        if not snapshot.model:
            opened.table(snapshot)
    assert "0 files" in ram_engine("gc", "--store", store, "--keep", "1").stdout
