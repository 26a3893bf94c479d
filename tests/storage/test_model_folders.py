"""A model folder is what its snapshot lists, to the last bit, or it is named, and made again."""

from __future__ import annotations

import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from storage import model_folders
from storage.keys import digest, digest_bytes
from storage.store import DamagedModelError, Snapshot, Store
from tests.faults import FAULTS, SEEN_BY_SIZE
from tests.storage.test_damage import settle

FILES = {"whole/config.json": b'{"a": 1}', "whole/model.safetensors": b"weights" * 999, "fold-0/labels.json": b"[]"}


def made(folder: Path, seed: int = 0) -> Path:
    """An unfinished model folder; those of other seeds have files of the same names and sizes."""
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes((byte + seed) % 128 for byte in data))
    return folder


def published(store: Store, scratch: Path, artifact: str = "ram", seed: int = 0) -> Snapshot:
    model = store.write_model(artifact, "k", made(scratch / f"{artifact}-{seed}", seed))
    return store.publish(Snapshot(artifact, "k", "test", "recipe", model=model))


def test_its_digest_is_that_of_its_files(tmp_path: Path) -> None:
    snapshot = published(Store(tmp_path / "store"), tmp_path)
    assert snapshot.model == digest([(name, digest_bytes(FILES[name])) for name in sorted(FILES)])
    assert {name: file.bytes for name, file in snapshot.files.items()} == {n: len(data) for n, data in FILES.items()}
    assert snapshot.bytes == sum(map(len, FILES.values()))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_file_is_found_named_and_made_again(tmp_path: Path, fault: str, name: str) -> None:
    store = Store(tmp_path / "store")
    snapshot, other = published(store, tmp_path), published(store, tmp_path, "baseline", seed=1)
    file = store.model_folder(snapshot) / name
    for path in file.parent.parent.rglob("*"):
        settle(path)
    store.model_folder(snapshot)  # which is remembered as checked
    FAULTS[fault](file, store.model_folder(other) / name)
    assert store.is_whole(snapshot) == (fault not in SEEN_BY_SIZE)
    with pytest.raises(DamagedModelError, match=rf"ram/models/k/{name}.*; the next run of the pipeline computes it"):
        store.model_folder(snapshot)
    again = Store(tmp_path / "store")
    assert not again.is_whole(snapshot)
    assert again.found_damaged() == ["ram/models/k"]
    assert store.is_whole(other)
    assert again.write_model("ram", "k", made(tmp_path / "again")) == snapshot.model
    assert again.is_whole(snapshot)
    assert again.found_damaged() == []
    assert (again.model_folder(snapshot) / name).read_bytes() == FILES[name]


def test_a_folder_in_place_of_another_is_found(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    snapshot, other = published(store, tmp_path), published(store, tmp_path, "baseline", seed=1)
    shutil.rmtree(store.model_folder(snapshot))
    shutil.copytree(store.model_folder(other), tmp_path / "store/ram/models/k")
    with pytest.raises(DamagedModelError, match=r"fold-0/labels\.json is damaged"):
        store.model_folder(snapshot)


def test_a_file_too_many_is_found_unless_it_is_hidden(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    snapshot = published(store, tmp_path)
    (store.model_folder(snapshot) / ".DS_Store").write_text("a desktop's")
    assert store.is_whole(snapshot)
    (store.model_folder(snapshot) / "annotator.json").write_text("{}")
    assert not store.is_whole(snapshot)
    with pytest.raises(DamagedModelError, match=r"annotator.json is no file of this model"):
        store.model_folder(snapshot)


@pytest.mark.parametrize("of_file", [False, True])
def test_a_folder_that_is_gone_is_found(tmp_path: Path, of_file: bool) -> None:
    store = Store(tmp_path / "store")
    snapshot = published(store, tmp_path)
    folder = store.model_folder(snapshot)
    shutil.rmtree(folder)
    if of_file:
        folder.write_text("no folder")
    assert not store.is_whole(snapshot)
    with pytest.raises(DamagedModelError, match="ram/models/k is missing"):
        store.model_folder(snapshot)
    assert store.write_model("ram", "k", made(tmp_path / "again")) == snapshot.model
    assert store.is_whole(snapshot)


def test_a_snapshot_of_an_earlier_version_lists_no_files(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    earlier = replace(published(store, tmp_path), files={})
    weights = store.model_folder(earlier) / "whole/model.safetensors"
    assert store.is_whole(earlier)
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(DamagedModelError, match="ram/models/k is damaged"):
        store.model_folder(earlier)
    weights.write_bytes(b"")
    store.remove(".damaged")
    assert not store.is_whole(earlier)


def test_a_model_that_was_put_right_is_not_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    snapshot = published(store, tmp_path)
    config = store.model_folder(snapshot) / "whole/config.json"
    config.write_bytes(b"damaged!")
    with pytest.raises(DamagedModelError):
        store.model_folder(snapshot)
    assert not store.is_whole(snapshot)
    config.write_bytes(FILES["whole/config.json"])
    assert store.is_whole(snapshot)
    assert store.found_damaged() == []


def test_damage_comes_out_of_worker_processes() -> None:
    error = DamagedModelError("ram", "ram/models/k/labels.json", "is missing")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_files_are_on_the_disk_before_their_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, fsync = [], os.fsync

    def watched(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())
        fsync(handle)

    store = Store(tmp_path / "store")
    monkeypatch.setattr(os, "fsync", watched)
    published(store, tmp_path)
    models = tmp_path / "store/ram/models"
    before_snapshot = synced[: next(at for at, file in enumerate(synced) if "snapshots" in file.parts)]
    assert {*(models / "k" / name for name in FILES), models / "k/whole", models / "k", models} <= {*before_snapshot}


def test_a_copy_of_an_object_stores_model_is_checked_and_fetched_again(tmp_path: Path) -> None:
    store = Store(f"memory://{tmp_path.name}/run")
    snapshot = published(store, tmp_path)
    assert store.is_whole(snapshot)
    copy = store.model_folder(snapshot)
    (copy / "whole/config.json").write_text("planted")
    assert (store.model_folder(snapshot) / "whole/config.json").read_bytes() == FILES["whole/config.json"]
    shutil.rmtree(copy)
    store.fs.pipe_file(f"{store.root}/ram/models/k/whole/config.json", b"damaged!")
    with pytest.raises(DamagedModelError, match=r"whole/config\.json"):
        store.model_folder(snapshot)
    assert not store.is_whole(snapshot)
    shutil.rmtree(copy)


def test_a_model_is_read_in_blocks_once_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store")
    snapshot = published(store, tmp_path)
    for path in store.model_folder(snapshot).rglob("*"):
        settle(path)
    store.model_folder(snapshot)
    monkeypatch.setattr(model_folders, "read", lambda folder: pytest.fail("it was read again"))
    store.model_folder(snapshot)
