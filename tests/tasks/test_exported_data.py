"""Exports of whatever a source may hold: any names of columns and files, any numbers, image files with metadata."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from storage.keys import digest
from storage.schemas import contract
from storage.spreadsheets import text_of
from storage.store import Snapshot, Store
from tasks.exports import Export, Request, save_image
from tasks.exports.huggingface import as_type
from tasks.exports.request import beside
from tasks.exports.room import EXPORTS
from tasks.exports.writing.exported_rows import ExportedStore, Selection, column_types

SECRET = b"12 Acacia Avenue"
DATA_FORMATS = sorted(kind for kind in EXPORTS.members if kind != "diff")


def store_of(folder: Path, rows: Sequence[dict[str, Any]], image: bytes = b"") -> ExportedStore:
    """A store whose pairs have at least what ``rows`` say, all with the same ``image`` file."""
    usual = {
        "split": "train",
        "names": ["a.jpg"],
        "captions": [],
        "sources": [],
        "fingerprints": [],
        "sha256": "0",
        "extra": "{}",
    }
    whole = [
        {"image_id": f"{number:016x}", "width": 4, "height": 3, "hash": 0, **usual, **row}
        for number, row in enumerate(rows)
    ]
    store, key = Store(folder), digest(whole)
    files = [{"image_id": row["image_id"], "image": {"bytes": image, "path": None}} for row in whole]
    for artifact, table in (("pairs", whole), ("images", files)):
        part = store.write_part(artifact, key, "", pa.Table.from_pylist(table, contract(artifact).schema))
        store.publish(Snapshot(artifact, key, stage="ingest", recipe=key, parts=(part,)))
    return ExportedStore(store)


def written(exported: ExportedStore, kind: str, folder: Path, selection: Selection) -> Path:
    folder.mkdir(exist_ok=True)
    made: Export = EXPORTS.named(kind)()
    made.write(Request(folder, "x", (), exported, selection))
    return folder


def picture(format_: str) -> bytes:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112], exif[0x013B] = 6, SECRET.decode()
    Image.new("RGB", (4, 3), "red").save(buffer, format_, exif=exif)
    return buffer.getvalue()


AWKWARD = ["", "a\\", '"', "a.b", "[0]", "*", "$", "/", "~1", "tags", "source_tags", "source_source_tags", "=x", "a\0b"]
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(AWKWARD)
NUMBERS = st.integers() | st.sampled_from([2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**40])
VALUES = NUMBERS | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | KEYS


@given(st.lists(st.dictionaries(KEYS, VALUES, max_size=5), min_size=1, max_size=3))
def test_columns_of_any_name_hold_any_numbers_as_they_are(extras: list[dict[str, Any]]) -> None:
    types = column_types(extras)
    names = beside(types, ("tags", "image"))
    assert len(set(names.values())) == len(names) == len({name for extra in extras for name in extra})
    assert not {"tags", "image"} & set(names.values())
    columns = {
        called: pa.array([as_type(extra.get(name), types[name]) for extra in extras], types[name])
        for name, called in names.items()
    }
    file = io.BytesIO()
    pq.write_table(pa.table({"image": [None] * len(extras), **columns}), file)
    for extra, row in zip(extras, pq.read_table(file).to_pylist(), strict=True):
        for name, value in extra.items():
            kept = row[names[name]]
            as_text = isinstance(kept, str) and not isinstance(value, str)  # beside values of other types
            assert (json.loads(kept) if as_text else kept) == value


@pytest.mark.parametrize("kind", DATA_FORMATS)
def test_every_format_takes_columns_of_any_name(kind: str, tmp_path: Path) -> None:
    extra = {name: number for number, name in enumerate(AWKWARD, 2**63)}
    exported = store_of(tmp_path / "store", [{"extra": json.dumps(extra)}], picture("PNG"))
    folder = written(exported, kind, tmp_path / "out", Selection())
    for file in folder.rglob("*.json"):
        json.loads(file.read_bytes())
    if kind == "csv":
        rows = list(csv.DictReader(io.StringIO((folder / "captions.csv").read_bytes().decode(), newline="")))
        assert {text_of(cell) for cell in rows[0].values()} >= {str(number) for number in extra.values()}


@pytest.mark.parametrize("kind", DATA_FORMATS)
def test_image_files_leave_without_metadata_where_that_is_asked_for(kind: str, tmp_path: Path) -> None:
    exported = store_of(tmp_path / "store", [{"names": ["a.jpg"]}], picture("JPEG"))
    for strip, folder in ((True, tmp_path / "bare"), (False, tmp_path / "whole")):
        written(exported, kind, folder, Selection(strip_exif=strip))
        # Parquet compresses what it holds
        files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".parquet"]
        contents = [path.read_bytes() for path in files]
        for path in folder.rglob("*.parquet"):
            contents += [row["bytes"] for row in pq.read_table(path)["image"].to_pylist()]
        assert any(SECRET in content for content in contents) != strip
        if kind == "huggingface":
            card = (folder / "README.md").read_text()
            assert ("were written without metadata" in card) == strip
            assert ("are as they came" in card) != strip


def test_a_file_that_became_a_png_is_called_so(tmp_path: Path) -> None:
    exported = store_of(tmp_path / "store", [{"names": ["scans/a.tif"]}], picture("TIFF"))
    rows = [row for table in exported.rows(Selection(strip_exif=True)) for row in table.to_pylist()]
    assert rows[0]["name"] == "scans/a.tif.png"
    assert Image.open(io.BytesIO(rows[0]["image"]["bytes"])).size == (3, 4)  # it stands upright


def test_names_that_other_systems_take_for_devices_or_for_the_same_are_changed(tmp_path: Path) -> None:
    names = {
        "a/Photo.jpg": "a/Photo.jpg",
        "a/photo.JPG": "a/photo-1.JPG",
        "A/PHOTO.jpg": "A/PHOTO-2.jpg",
        "caf\u00e9.png": "caf\u00e9.png",
        "cafe\u0301.png": "cafe\u0301-4.png",
        "con.jpg": "_con.jpg",
        "x/AUX": "x/_AUX.png",
        "lpt1.tar.png": "_lpt1.tar.png",
        "a. /b": "a/b.png",
        "\x9b\u202egpj.exe\n\ud800\0.png": "__gpj.exe___.png",
        "/../..": "10.png",
    }
    png = {"bytes": b"\x89PNG", "path": None}
    rows = [{"image_id": str(number), "image": png, "name": name} for number, name in enumerate(names)]
    assert [save_image(tmp_path / "images", row) for row in rows] == list(names.values())


def test_lists_of_the_authors_have_a_line_an_image_whatever_it_is_called(tmp_path: Path) -> None:
    exported = store_of(tmp_path, [{"names": ["a\nb.jpg,c\u2028d"], "split": "test"}])
    folder = written(exported, "official", tmp_path, Selection(images=False))
    assert (folder / "test_annots.txt").read_text("utf-8").splitlines() == ["a_b.jpg_c_d,"]


def test_licences_and_names_make_no_markup_in_the_card(tmp_path: Path) -> None:
    exported = store_of(tmp_path / "store", [{"licence": "![x](http://evil) <img> | a\n\n# b"}])
    made: Export = EXPORTS.named("huggingface")()
    made.write(Request(tmp_path, "[x](http://evil)", (), exported, Selection(images=False)))
    card = (tmp_path / "README.md").read_text("utf-8").partition("\n---\n")[2]
    assert "](" not in card.replace("\\](", "").replace("[RAM](https://arxiv.org/abs/2306.03514)", "")
    assert "<img>" not in card
    assert "\n# b" not in card
