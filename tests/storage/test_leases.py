"""What lies among the leases, and who was paused, holds nothing up and loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import garbage, leases
from storage.store import Snapshot, Store, StoreError
from tests.conftest import ROOT
from tests.storage.test_garbage import table, version

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
LEASE = st.fixed_dictionaries({"who": JSON, "keys": JSON, "begun": JSON, "name": JSON}).map(json.dumps)
RUN = """
import sys
from storage.leases import confirm, leased
from storage.schemas import contract
from storage.store import DamagedPartError, Snapshot, Store

store = Store(sys.argv[1], create=False)
with leased(store, "assign-tags") as lease:
    part = store.write_part("caption_tags", "k", "p", contract("caption_tags").schema.empty_table())
    snapshot = Snapshot("caption_tags", "paused", "test", "test", parts=(part,))
    print("written", flush=True)
    sys.stdin.readline()
    confirm(store, lease)
    try:
        store.check_present(snapshot)
        print("published", store.publish(snapshot).name, flush=True)
    except DamagedPartError as error:
        print(error, flush=True)
"""


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Store]:
    """The one store of all examples of a property."""
    store = Store(tmp_path_factory.mktemp("store"))
    return lambda: store


def make_old(file: Path, seconds: float = 2 * leases.DEAD_AFTER) -> None:
    """Makes a file look as if it had been written so long ago."""
    then = file.stat().st_mtime - seconds
    os.utime(file, (then, then))


@settings(max_examples=50)
@given(
    st.binary(max_size=60) | st.sampled_from([b"", b"{", b"[" * 9999]) | (JSON.map(json.dumps) | LEASE).map(str.encode)
)
def test_whatever_lies_among_the_leases_stops_no_run(stores: Callable[[], Store], content: bytes) -> None:
    store = stores()
    file = Path(store.root) / leases.FOLDER / "lease.json"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    with leases.leased(store, "judge") as lease:
        assert {other.name for other in leases.living(store)} == {lease.name, "lease"}
    make_old(file)
    assert leases.living(store) == []


def test_what_is_no_lease_counts_as_one_on_everything_while_it_is_new(tmp_path: Path) -> None:
    store = Store(tmp_path)
    version(store, 1)
    version(store, 2)
    folder = tmp_path / leases.FOLDER
    (folder / "folder.json").mkdir(parents=True)
    (folder / "empty.json").touch()
    with leases.collecting(store) as collection:
        assert len(collection.others) == 2
        assert garbage.find(store, 1, collection.others) == []
    for file in folder.iterdir():
        make_old(file, -2 * leases.DEAD_AFTER)  # of tomorrow: no run renews it
    assert leases.living(store) == []
    for file in folder.iterdir():
        make_old(file, 4 * leases.DEAD_AFTER)
    with leases.collecting(store) as collection:
        found = garbage.find(store, 1, collection.others)
        assert f"{leases.FOLDER}/empty.json" in [one.path for one in found]
        garbage.remove(store, found, collection.check)
    assert store.names(leases.FOLDER) == ["folder.json"]


@pytest.mark.parametrize("collected", [False, True])
def test_a_run_that_was_paused_publishes_nothing_that_is_gone(tmp_path: Path, collected: bool) -> None:
    store = Store(tmp_path)
    version(store, 1)
    command = [sys.executable, "-c", RUN, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        assert run.stdout.readline() == "written\n"
        run.send_signal(signal.SIGSTOP)
        for file in (tmp_path / leases.FOLDER).iterdir():
            make_old(file)
        if collected:
            with leases.collecting(store) as collection:
                garbage.remove(store, garbage.find(store, 1, collection.others), collection.check)
        run.send_signal(signal.SIGCONT)
        said, _ = run.communicate("\n", timeout=60)
    if collected:
        assert said == "caption_tags/parts/k.parquet is missing; the next run of the pipeline computes it again\n"
        assert store.latest_key("caption_tags") == "00000001"
    else:
        assert said == "published caption_tags@paused\n"
        assert store.latest_key("caption_tags") == "paused"


def test_a_run_that_goes_on_waits_for_the_collection_that_took_it_for_dead(tmp_path: Path) -> None:
    store = Store(tmp_path)
    version(store, 1)
    with leases.leased(store, "judge") as lease:
        part = store.write_part("caption_tags", "k", "p", table(9))
        make_old(tmp_path / leases.FOLDER / f"{lease.name}.json")
        with leases.collecting(store) as collection:
            assert collection.others == []
            leases.narrow(store, lease, {})  # as the thread that renews it does
            found = garbage.find(store, 1, collection.others)
            garbage.remove(store, found, collection.check)
            assert "caption_tags/parts/k.parquet" in [one.path for one in found]
        leases.confirm(store, lease)
        with pytest.raises(StoreError, match=r"caption_tags/parts/k\.parquet is missing"):
            store.check_present(Snapshot("caption_tags", "late", "test", "test", parts=(part,)))


def test_a_collection_that_was_paused_removes_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    version(store, 1)
    version(store, 2)
    with leases.collecting(store) as collection:
        found = garbage.find(store, 1, collection.others)
        assert found
        monkeypatch.setattr(leases.time, "time", lambda then=leases.time.time(): then + leases.DEAD_AFTER + 1)
        with pytest.raises(StoreError, match="collect again"):
            garbage.remove(store, found, collection.check)
    assert len(store.snapshots("caption_tags")) == 2


@pytest.mark.parametrize("cut", [0, 10])
def test_parts_that_are_cut_are_not_published(tmp_path: Path, cut: int) -> None:
    store = Store(tmp_path)
    snapshot = version(store, 1)
    store.check_present(snapshot)
    file = Path(store.part_file("caption_tags", snapshot.parts[0]))
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(StoreError, match=f"has {cut} bytes in place of"):
        store.check_present(snapshot)
    with pytest.raises(StoreError, match="removed before its snapshot was published"):
        store.check_present(Snapshot("ram", "k", "retrain", "recipe", model="digest"))
