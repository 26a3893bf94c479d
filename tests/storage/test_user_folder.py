"""What a store of objects keeps on this machine lies in a folder of the user's own, or nowhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from storage.store import Snapshot, Store
from storage.user_folder import UserFolderError, user_folder

NOBODY = 65_534


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ram-engine"


def test_it_is_the_users_alone(cache: Path) -> None:
    before = os.umask(0)
    try:
        made = user_folder("models", "a")
    finally:
        os.umask(before)
    assert made == cache / "models" / "a"
    assert [folder.stat().st_mode & 0o777 for folder in (made, made.parent, cache)] == [0o700] * 3
    assert user_folder("models", "a") == made


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
@pytest.mark.parametrize("place", [".", "models"])
def test_one_that_others_can_write_in_is_refused(cache: Path, mode: int, place: str) -> None:
    (cache / place).mkdir(parents=True)
    (cache / place).chmod(mode)
    with pytest.raises(UserFolderError, match="other users can write in"):
        user_folder("models")


@pytest.mark.parametrize("place", [".", "models"])
@pytest.mark.parametrize("linked", [False, True])
def test_one_of_another_user_is_refused(cache: Path, tmp_path: Path, place: str, linked: bool) -> None:
    if os.geteuid():
        pytest.skip("only root can make a folder of another user")
    theirs = cache / place
    theirs.parent.mkdir(parents=True, exist_ok=True)
    if linked:
        (tmp_path / "own").mkdir()
        theirs.symlink_to(tmp_path / "own")
    else:
        theirs.mkdir(mode=0o700)
    os.chown(theirs, NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(UserFolderError, match="belongs to another user"):
        user_folder("models")


def test_one_that_cannot_be_made_is_named_with_what_to_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.parent.parent.mkdir(exist_ok=True)
    cache.parent.touch()
    with pytest.raises(
        UserFolderError, match=r"cannot be made \(Not a directory\): name a folder .* in XDG_CACHE_HOME"
    ):
        user_folder("models")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # of a user that the system does not know
    with pytest.raises(UserFolderError, match="no home folder"):
        user_folder("models")


def test_a_store_of_objects_works_in_it_and_a_local_one_in_itself(cache: Path, tmp_path: Path) -> None:
    remote, local = Store("memory://bucket/user-folder"), Store(tmp_path / "store")
    local.work_folder("retrain-a")
    local.lock_file("retrain.lock")
    assert not cache.exists()
    folder = remote.work_folder("retrain-a")
    assert remote.unfinished_work() == [folder]
    assert {folder.parents[1], remote.lock_file("retrain.lock").parents[1]} == {cache / "work", cache / "locks"}
    (folder / "config.json").write_text("{}")
    model = remote.write_model("ram", "k", folder)
    fetched = remote.model_folder(remote.publish(Snapshot("ram", "k", "retrain", "recipe", model=model)))
    assert fetched.parent == cache / "models"
    assert (fetched / "config.json").read_text() == "{}"
