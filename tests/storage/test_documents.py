"""A JSON file of a store says itself whether any bit of it has changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import documents
from storage.store import Part, Snapshot, Store, StoreError
from tests.storage.test_store import JSON

DOCUMENTS = st.dictionaries(st.text(max_size=8), JSON, min_size=1, max_size=3)
SNAPSHOT = Snapshot("ram", "0" * 24, "retrain", "recipe", (Part("k", "p", 3, 40, "d"),), figures={"seconds": 1.5})


def is_found(data: bytes, bit: int) -> bool:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    try:
        documents.from_text(changed.decode())
    except ValueError:
        return True
    return False


@given(DOCUMENTS)
def test_a_document_comes_back(value: dict[str, object]) -> None:
    assert documents.from_text(documents.to_text(value)) == value
    assert json.loads(documents.to_text(value)).keys() - value.keys() <= {documents.CHECKSUM}


@given(DOCUMENTS, st.data())
def test_a_flipped_bit_of_a_document_is_found(value: dict[str, object], data: st.DataObject) -> None:
    text = documents.to_text(value).encode()
    assert is_found(text, data.draw(st.integers(0, 8 * len(text) - 1)))


@pytest.mark.parametrize("value", [{"snapshot": "0123456789abcdef01234567"}, {"format": 2}, SNAPSHOT.to_json()])
def test_any_bit_of_a_stores_files_may_flip(value: dict[str, object]) -> None:
    text = documents.to_text(value).encode()
    assert [bit for bit in range(8 * len(text)) if not is_found(text, bit)] == []


@given(DOCUMENTS, st.sampled_from([None, 1]))
def test_documents_of_earlier_versions_are_read(value: dict[str, object], indent: int | None) -> None:
    value.pop(documents.CHECKSUM, None)
    assert documents.from_text(json.dumps(value, indent=indent)) == value


def test_a_store_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    published = Store(tmp_path).publish(SNAPSHOT)
    for file in tmp_path.rglob("*.json"):
        value = documents.from_text(file.read_text())
        value.pop("artifact", None) if file.name == "latest.json" else value.pop("files", None)
        file.write_text(json.dumps(value, indent=1))
    assert Store(tmp_path, create=False).snapshot("ram") == published


def test_a_figure_that_was_changed_by_hand_is_named(tmp_path: Path) -> None:
    Store(tmp_path).publish(SNAPSHOT)
    file = tmp_path / "ram/snapshots" / f"{SNAPSHOT.key}.json"
    file.write_text(file.read_text().replace('"rows": 3', '"rows": 4'))
    with pytest.raises(StoreError, match=rf"{SNAPSHOT.key}.json is damaged .its checksum differs.: remove it and run"):
        Store(tmp_path).snapshot("ram")


def test_a_pointer_to_nothing_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.publish(SNAPSHOT)
    (tmp_path / "ram/snapshots" / f"{SNAPSHOT.key}.json").unlink()
    assert store.snapshot("ram", SNAPSHOT.key) is None
    with pytest.raises(StoreError, match=r"ram/latest.json names the snapshot 0+, which is missing: remove it"):
        store.snapshot("ram")
