"""Every file of a store under every fault: found, named and refused, or made again; never used as it is."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from filelock import FileLock

from storage import leases
from storage.store import Snapshot, Store, StoreError
from tasks.machine.inputs import Inputs, view_of
from tests.faults import FAULTS, SEEN_BY_SIZE
from tests.report_store import make_store
from tests.storage.test_damage import images, pairs, published
from tests.storage.test_model_folders import made

MODELS = ("baseline", "ram")


def with_models(store: Store, scratch: Path) -> Path:
    """The store's folder; it has models of a few bytes then."""
    for seed, name in enumerate(MODELS):
        model = store.write_model(name, f"{name}-key", made(scratch / name, seed))
        store.publish(Snapshot(name, f"{name}-key", "test", "recipe", model=model))
    return Path(store.root)


def files_of(store: Path, artifact: str) -> Iterator[tuple[Path, Path]]:
    """The files of an artifact, below the store, and for each another of its kind."""
    other = next(name for name in (MODELS if artifact in MODELS else ("images", "pairs")) if name != artifact)
    for file in sorted(path for path in (store / artifact).rglob("*") if path.is_file()):
        kind = file.relative_to(store / artifact).parts[0]
        theirs = sorted((store / other).rglob(file.name)) or sorted((store / other / kind).rglob("*.*"))
        yield file.relative_to(store), theirs[0].relative_to(store)


def use(folder: Path, artifact: str) -> None:
    """Reads all that the latest snapshot of an artifact lists."""
    store = Store(folder)
    snapshot = store.snapshot(artifact)
    if snapshot is None:
        raise StoreError(f"{artifact} was never made")  # and a run makes it
    if snapshot.model:
        store.model_folder(snapshot)
    else:
        store.table(snapshot)


def query(folder: Path, artifact: str) -> None:
    """The same by DuckDB, which opens parts that have rows."""
    snapshot = Store(folder).snapshot(artifact)
    assert snapshot is not None
    Inputs(Store(folder), {artifact: snapshot}).sql(f"SELECT count(*) FROM {view_of(artifact)}")


def is_found(whole: Path, scratch: Path, artifact: str) -> None:
    folder = Path(shutil.copytree(whole, scratch / "store"))
    snapshot = Store(folder).snapshot(artifact)
    assert snapshot is not None
    filled = {f"{part.key}.parquet" for part in snapshot.parts if part.rows}
    for file, other in files_of(folder, artifact):
        for name, fault in FAULTS.items():
            fault(folder / file, folder / other)
            listed = file.parts[1] in ("parts", "models")
            assert not (listed and name in SEEN_BY_SIZE and Store(folder).is_whole(snapshot))
            named = str(file) if listed or name != "missing" else artifact
            with pytest.raises(StoreError, match=re.escape(named)):
                use(folder, artifact)
            if file.name in filled:
                with pytest.raises(StoreError, match=re.escape(named)):
                    query(folder, artifact)
            if (folder / file).is_dir():
                shutil.rmtree(folder / file)
            shutil.copy(whole / file, folder / file)
            shutil.rmtree(folder / ".damaged", ignore_errors=True)
    use(folder, artifact)


def test_a_fault_is_found(tmp_path: Path) -> None:
    store = Store(tmp_path / "whole")
    for name, table in {"pairs": pairs(), "images": images()}.items():
        published(store, name, table)
    whole = with_models(store, tmp_path)
    for artifact in store.artifacts():
        is_found(whole, tmp_path / f"of {artifact}", artifact)


@pytest.mark.soak
def test_a_fault_of_any_file_that_a_pipeline_writes_is_found(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "whole"))
    whole = with_models(store, tmp_path)
    for artifact in store.artifacts():
        is_found(whole, tmp_path / f"of {artifact}", artifact)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_marker_is_named(tmp_path: Path, fault: str) -> None:
    Store(tmp_path / "a").publish(Snapshot("ram", "k", "test", "recipe"))
    FAULTS[fault](tmp_path / "a/store.json", tmp_path / "a/ram/latest.json")
    with pytest.raises(StoreError, match=r"store\.json|there is no store at"):
        Store(tmp_path / "a", create=False)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_note_still_says_what_is_damaged(tmp_path: Path, fault: str) -> None:
    store = Store(tmp_path / "store")
    model = store.write_model("ram", "k", made(tmp_path / "model"))
    snapshot = store.publish(Snapshot("ram", "k", "test", "recipe", model=model))
    (store.model_folder(snapshot) / "whole/config.json").write_text("damaged!")
    with pytest.raises(StoreError):
        store.model_folder(snapshot)
    FAULTS[fault](tmp_path / "store/.damaged/ram@k.json", tmp_path / "store/store.json")
    assert store.is_whole(snapshot) == (fault == "missing")  # whoever reads it notes it again
    with pytest.raises(StoreError, match=r"whole/config\.json"):
        store.model_folder(snapshot)
    store.write_model("ram", "k", made(tmp_path / "again"))
    assert store.is_whole(snapshot)


@pytest.mark.parametrize("fault", sorted(FAULTS.keys() - {"swapped"}))
def test_a_damaged_lease_is_passed_over_or_named(tmp_path: Path, fault: str) -> None:
    store = Store(tmp_path)
    with leases.leased(store, "judge") as lease:
        file = tmp_path / leases.FOLDER / f"{lease.name}.json"
        FAULTS[fault](file, tmp_path / "store.json")
        said = ""
        try:
            leases.living(store)
        except StoreError as error:
            said = str(error)
        assert not said or file.name in said
        shutil.rmtree(file, ignore_errors=True)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lock_needs_no_contents(tmp_path: Path, fault: str) -> None:
    store = Store(tmp_path)
    file = store.lock_file("judge.lock")
    file.write_text("whatever")
    FAULTS[fault](file, tmp_path / "store.json")
    refused = pytest.raises(OSError, match=file.name) if fault == "made_a_directory" else nullcontext()
    with refused, FileLock(file, timeout=0):
        pass
