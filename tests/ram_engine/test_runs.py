"""What a run will need is tried before it starts, and what is missing is said with what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from flows.pipeline import patiently
from ram_engine import runs
from storage import full_disk
from storage.store import Store, StoreError
from storage.user_folder import UserFolderError
from tests.conftest import ROOT
from tests.test_faults import remount, small_disk


def test_a_store_where_none_can_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "store", Path("/proc/store")):
        with pytest.raises(StoreError, match=f"the store {place} cannot be used .*: name another with --store"):
            Store(place)


def test_folders_are_tried_before_a_run_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store")
    runs.try_folders(store, runs.prefect_home(store))
    assert [path.name for path in (tmp_path / "store").iterdir() if path.name != "store.json"] == [".prefect"]
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(OSError, match=rf"nothing can be written in the folder {file}/home \(Not a directory\): name"):
        runs.try_folders(store, file / "home")
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    with pytest.raises(UserFolderError, match="XDG_CACHE_HOME"):
        runs.try_folders(Store("memory://bucket/runs"), tmp_path / "home")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # of a user that the system does not know
    with pytest.raises(UserFolderError, match="no home folder: name one in the variable HOME"):
        runs.prefect_home(Store("memory://bucket/runs"))


def test_a_full_disk_is_told_and_not_what_comes_of_it(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        store = Store(disk / "store")
        with pytest.raises(ChildProcessError, match="did not start"), runs.full_disk_told(store, tmp_path):
            raise ChildProcessError("Prefect's server did not start")
        with pytest.raises(full_disk.FullDiskError, match="the disk is full"), runs.full_disk_told(store, disk):
            raise httpx.ReadError("")
        (disk / "filling").write_bytes(bytes(20_000))
        with pytest.raises(OSError, match="No space left"):
            (disk / "more").write_bytes(bytes(99_000))
        with pytest.raises(full_disk.FullDiskError, match="the disk is full"):
            runs.try_folders(store, runs.prefect_home(store))
        remount(disk, "ro")
        with pytest.raises(OSError, match=r"nothing can be written .* \(Read-only file system\): name"):
            runs.try_folders(store, runs.prefect_home(store))


def test_a_server_on_a_full_disk_is_not_waited_for(tmp_path: Path) -> None:
    from prefect.settings import PREFECT_HOME, temporary_settings

    def ill() -> None:
        raise httpx.ReadError("")

    told = pytest.raises(full_disk.FullDiskError, match="the disk is full")
    with small_disk(tmp_path / "disk", "64k") as disk, temporary_settings({PREFECT_HOME: disk}), told:
        patiently(ill)


@pytest.mark.soak  # Prefect makes a database by all migrations of its history
def test_caches_are_missed_by_nobody(tmp_path: Path) -> None:
    code = "from flows import empty_database; empty_database.make()"
    (tmp_path / "home").mkdir()
    environment = {"PREFECT_HOME": str(tmp_path / "home"), "PATH": "", "HOME": "/dev/null/home"}
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, check=True)
    assert (tmp_path / "home" / "prefect.db").is_file()
