"""One flipped bit in any part of a finished run: always found, named, and computed again by the run that meets it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.store import DamagedPartError, Part, Snapshot, Store
from tasks.machine.dag import stages
from tasks.machine.inputs import Inputs, view_of
from tests.conftest import ram_engine
from tests.faults import FAULTS

ARTIFACTS = {name: stage.name for stage in stages(1) for name in stage.writes}  # and the stage that writes each
# A run that goes through the store again from `clean-tags` on, with these parts damaged at once.
TOGETHER = ("regions", "caption_tags", "generated", "clusters")


def filled_parts(store: Store, artifact: str) -> tuple[Snapshot, list[Part]]:
    """The latest snapshot of an artifact of the finished run, and those of its parts that have rows."""
    snapshot = store.snapshot(artifact)
    parts = [part for part in snapshot.parts if part.rows] if snapshot is not None else []
    if snapshot is None or not parts:
        pytest.skip(f"the finished run has no rows of {artifact}")
    return snapshot, parts


def flipped(data: bytes, chance: random.Random) -> bytes:
    """The same with one bit of it changed."""
    changed, bit = bytearray(data), chance.randrange(8 * len(data))
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def flips(file: Path, number: int) -> Iterator[None]:
    """A file with one random bit flipped, ``number`` times, and mended afterwards."""
    whole, chance = file.read_bytes(), random.Random(file.name)
    for _ in range(number):
        file.write_bytes(flipped(whole, chance))
        os.utime(file, (1e9, chance.random() * 1e9))  # as if it had lain there for long
        yield
    file.write_bytes(whole)


def is_found_wherever_it_is_read(folder: Path, artifact: str, number: int) -> None:
    store = Store(folder)
    snapshot, parts = filled_parts(store, artifact)
    part, inputs = parts[-1], Inputs(store, {artifact: snapshot})
    named, column = f"{artifact}/parts/{part.key}.parquet", store.read_part(artifact, part).column_names[0]
    for _ in flips(Path(store.part_file(artifact, part)), number):
        with pytest.raises(DamagedPartError, match=named):
            store.read_part(artifact, part, [column])
        with pytest.raises(DamagedPartError, match=named):
            list(inputs.parts(artifact))
        with pytest.raises(DamagedPartError, match=named):
            inputs.sql(f"SELECT count({column}) FROM {view_of(artifact)}")
    store.read_part(artifact, part)


@pytest.mark.parametrize("artifact", ARTIFACTS)
def test_a_flipped_bit_is_found_wherever_it_is_read(copied_store: Path, artifact: str) -> None:
    is_found_wherever_it_is_read(copied_store, artifact, 6)


@pytest.mark.soak
@pytest.mark.parametrize("artifact", ARTIFACTS)
def test_sixty_flipped_bits_are_found_wherever_they_are_read(copied_store: Path, artifact: str) -> None:
    is_found_wherever_it_is_read(copied_store, artifact, 60)


def is_mended_by_a_run(folder: Path, artifacts: tuple[str, ...], force: str, named: bool = True) -> None:
    store = Store(folder)
    before = {}
    for artifact in artifacts:
        before[artifact], parts = filled_parts(store, artifact)
        file = Path(store.part_file(artifact, parts[0]))
        file.write_bytes(flipped(file.read_bytes(), random.Random(artifact)))
    run = ram_engine("run", "--preset", "tiny", "--store", str(folder), "--force", force)
    for artifact, snapshot in before.items():
        assert not named or f"{artifact}/parts/" in run.stdout + run.stderr
        mended = Store(folder).snapshot(artifact)
        assert mended is not None
        parts = [[(part.key, part.digest if named else "") for part in of.parts] for of in (mended, snapshot)]
        assert parts[0] == parts[1]  # a training that is made anew may round otherwise
        assert list(store.tables(mended))


def test_a_run_mends_what_it_finds(copied_store: Path) -> None:
    is_mended_by_a_run(copied_store, TOGETHER, "judge")


def test_a_run_with_nothing_else_to_do_mends_what_a_reader_found(copied_store: Path) -> None:
    store, before = Store(copied_store), {}
    for artifact in ("regions", "predictions"):
        before[artifact], parts = filled_parts(store, artifact)
        file = Path(store.part_file(artifact, parts[0]))
        file.write_bytes(flipped(file.read_bytes(), random.Random(artifact)))
        with pytest.raises(DamagedPartError, match="the next run of the pipeline computes it again"):
            store.table(before[artifact])
    ram_engine("run", "--preset", "tiny", "--store", str(copied_store))
    for snapshot in before.values():
        assert Store(copied_store).table(snapshot).num_rows == snapshot.rows


@pytest.mark.soak
@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_trains_a_damaged_model_again(copied_store: Path, fault: str) -> None:
    store = Store(copied_store)
    before, other = store.snapshot("ram"), store.snapshot("baseline")
    assert before is not None
    assert other is not None
    weights = "whole/model.safetensors"
    FAULTS[fault](store.model_folder(before) / weights, store.model_folder(other) / weights)
    if fault in ("flipped", "swapped"):  # all else a plan sees
        refused = ram_engine("tag", "--store", str(copied_store), str(copied_store / "none.png"), check=False)
        assert f"ram/models/{before.key}/{weights}" in refused.stdout
    run = ram_engine("run", "--preset", "tiny", "--store", str(copied_store))
    assert f"ram/models/{before.key}" in run.stdout + run.stderr
    mended = Store(copied_store).snapshot("ram")
    assert mended is not None
    assert mended.key == before.key
    assert (Store(copied_store).model_folder(mended) / weights).stat().st_size == before.files[weights].bytes


@pytest.mark.soak
@pytest.mark.parametrize("artifact", ARTIFACTS)
def test_a_run_mends_each_artifact(copied_store: Path, artifact: str) -> None:
    readers = [stage.name for stage in stages(1) if artifact in stage.inputs.values()]
    unread = "judge"  # what no stage reads the report does, after any run
    if artifact.endswith("_log"):  # but the curves of trainings, which only the stage itself makes anew
        unread = ARTIFACTS[artifact]
    is_mended_by_a_run(copied_store, (artifact,), next(iter(readers), unread), named=not artifact.endswith("_log"))
