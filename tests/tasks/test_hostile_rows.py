"""Rows of strangers, planted beside good ones in every kind of source: the good ones arrive, the others have a reason."""

from __future__ import annotations

import json
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import schemas
from tasks.machine.inputs import Inputs
from tasks.settings.executor import ExecutorSettings
from tasks.settings.ingest import IngestSettings
from tasks.sources import SourceError
from tasks.sources.coco import CocoSource
from tasks.sources.csv_file import CsvSource
from tasks.sources.fitness import REASONS, ROW_BYTES, items_of
from tasks.sources.labels_file import LabelsSource
from tasks.sources.listing.current import list_all
from tasks.sources.listing.index import Listing
from tasks.sources.official import OfficialSource
from tasks.sources.reading import csv_rows, json_lists
from tasks.sources.source import Source
from tasks.stages import ingest
from tests.tasks.test_ingest import picture

GOOD = {f"{name}.png": picture(shade) for shade, name in enumerate("abc", 1)}
CAPTIONS = {name: f"picture {name}" for name in GOOD}
IDS = {sha256(data).hexdigest()[:16]: CAPTIONS[name] for name, data in GOOD.items()}
DEEP = "[" * 100_000 + "]" * 100_000
TEXTS = st.text(st.characters() | st.sampled_from('\0\ud800\udcff"\n\r,/.[]{}'), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.sampled_from([10**400, -(2**70)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the good images, in which a test may write its file of rows."""
    made = tmp_path_factory.mktemp("hostile")
    (made / "images").mkdir()
    (made / "images" / "loop.png").symlink_to("loop.png")
    for name, data in GOOD.items():
        (made / "images" / name).write_bytes(data)
    return made


def check(source: Source, captions: bool = True) -> Counter[str]:
    """The reasons of the rows that did not arrive, once all good ones did: listed, digested, read, decoded, converted."""
    wanted = IngestSettings(source=source)
    listing = Listing(list_all(wanted, 1))
    made = ingest.build(wanted, cast(Inputs, None), ExecutorSettings())({"items": listing.table(listing.numbers)})
    tables = {artifact: schemas.check(artifact, table).to_pylist() for artifact, table in made.items()}
    arrived = {row["image_id"]: row["captions"] for row in tables["pairs"]}
    assert arrived.keys() >= IDS.keys()
    assert not captions or all(caption in arrived[image_id] for image_id, caption in IDS.items())
    reasons = Counter(row["reason"] for row in tables["pairs_rejected"])
    assert set(reasons) <= set(REASONS)
    return reasons


def check_listed(source: Source) -> Counter[str]:
    """The reasons of the rows that are unfit by what is said of them, once all good ones are listed."""
    items = list(items_of(source))
    told = {(item.name, caption) for item in items if not item.problem for caption in item.captions}
    assert told >= set(CAPTIONS.items())
    reasons = Counter(item.problem[0] for item in items if item.problem)
    assert set(reasons) <= set(REASONS)
    return reasons


# CSV


def write_csv(file: Path, lines: bytes, third: str = "caption") -> None:
    """The hostile lines after a row of each kind: plain, with a quote around it, and before one of two lines."""
    quoted = f'image,{third}\r\na.png,{CAPTIONS["a.png"]}\r\nb.png,"{CAPTIONS["b.png"]}"\r\n'.encode()
    file.write_bytes(quoted + lines + f'\r\nc.png,{CAPTIONS["c.png"]}\r\na.png,"one,\r\ntwo"\r\n'.encode())


CSV_LINES = [
    (b'b.png,"not closed', {"row_malformed": 1}),
    (b'b.png,"not closed\nb.png,"not closed either', {"row_malformed": 2}),
    (b'b.png,"not closed\nx.png,odd",odd', {"row_malformed": 1}),
    (b'b.png,"closed\nc.png,by another row"', {"row_malformed": 1}),
    (b'a"b,"chain\na"b,"chain\na"b,"chain', {"row_malformed": 3}),
    (b'b.png,"quoted" and more', {}),
    (b'b.png,said "so"', {}),
    (b"b.png," + b"x" * 200_000, {}),
    (b"b.png," + b"x" * (ROW_BYTES + 9), {"too_large": 1}),
    (b"b.png," + b"x," * ROW_BYTES, {"too_large": 1}),
    (b"n\0l.png,nul", {"row_malformed": 1}),
    (b"n\0l/l.png,nul", {"image_outside_folder": 1}),
    (b"b.png,caf\xe9", {"not_utf8": 1}),
    (b"b.png,\xed\xa0\x80", {"not_utf8": 1}),
    (b"x" * 300 + b".png,long", {}),
    (b"x" * 300 + b"/x.png,long", {}),
    (b"loop.png,loop", {}),
    (b"loop.png/x.png,loop", {}),
]


@pytest.mark.parametrize(("lines", "reasons"), CSV_LINES, ids=range(len(CSV_LINES)))
def test_a_line_of_a_csv_costs_itself(folder: Path, lines: bytes, reasons: dict[str, int]) -> None:
    write_csv(folder / "c.csv", lines)
    assert check_listed(CsvSource(path=str(folder / "c.csv"))) == reasons


def test_a_cell_of_many_lines_that_is_too_long_costs_itself(folder: Path) -> None:
    with patch.object(csv_rows, "ROW_BYTES", 500):
        write_csv(folder / "c.csv", b'b.png,"' + b"odd\n" * 200 + b'"')
        reasons = check_listed(CsvSource(path=str(folder / "c.csv")))
    assert reasons["row_malformed"] == 2  # the lines with its quotes


def test_lines_that_hide_each_other_are_read_in_linear_time(folder: Path) -> None:
    """Were each of them looked at from the one before it on, a hundred times as many characters would be read."""
    write_csv(folder / "c.csv", b'a","b\n' * 5_000)
    characters = 0
    take = csv_rows._Lines.__next__

    def counted(lines: csv_rows._Lines) -> str:
        nonlocal characters
        characters += len(line := take(lines))
        return line

    with patch.object(csv_rows._Lines, "__next__", counted):
        assert check_listed(CsvSource(path=str(folder / "c.csv"))) == {"row_malformed": 5_000}
    assert characters < 3 * (folder / "c.csv").stat().st_size


@settings(max_examples=40)
@given(st.binary(max_size=40) | st.text(st.sampled_from('"\n\r,ab.png\0'), max_size=30).map(str.encode))
def test_no_bytes_in_a_csv_cost_a_good_row(folder: Path, lines: bytes) -> None:
    write_csv(folder / "c.csv", lines)
    check(CsvSource(path=str(folder / "c.csv")))


@settings(max_examples=20)
@given(st.binary(max_size=40) | st.text(st.sampled_from('"\n\r,ab.png\0'), max_size=30).map(str.encode))
def test_no_bytes_in_a_file_of_labels_cost_a_good_row(folder: Path, lines: bytes) -> None:
    write_csv(folder / "l.csv", lines, "tag")
    check(LabelsSource(path=str(folder / "l.csv")), captions=False)


# JSON

COCO_ROWS = [
    ("images", DEEP, "row_malformed"),
    ("images", '{"id": 9, "file_name": "b.png", "deep": ' + DEEP + "}", "row_malformed"),
    ("images", '{"id": 9, "file_name": "b.png", odd}', "row_malformed"),
    ("images", '{"id": 9, "file_name": "b.png", "number": ' + "9" * 5000 + "}", "row_malformed"),
    ("images", "null", "row_malformed"),
    ("images", "[]", "row_malformed"),
    ("images", "7", "row_malformed"),
    ("images", '{"file_name": "b.png"}', "row_malformed"),
    *(
        ("images", f'{{"id": {id_}, "file_name": "b.png"}}', "row_malformed")
        for id_ in ("[1]", '{"a": 1}', "true", "1.5", "null", "NaN", "1e999")
    ),
    ("images", '{"id": 9}', "row_without_image"),
    ("images", '{"id": 9, "file_name": ["b.png"]}', "row_without_image"),
    ("images", r'{"id": 9, "file_name": "n\u0000l/b.png"}', "row_without_image"),
    ("images", r'{"id": 9, "file_name": "n\u0000l.png"}', "row_malformed"),
    ("images", r'{"id": 9, "file_name": "\udce9.png"}', "not_utf8"),
    ("images", r'{"id": "\ud800", "file_name": "b.png"}', "not_utf8"),
    ("images", r'{"id": 9, "file_name": "b.png", "mood\ud800": "\ud800"}', "not_utf8"),
    ("images", '{"id": 9, "file_name": "b.png", "coco_url": 5}', "row_malformed"),
    ("images", '{"id": 9, "file_name": "b.png", "license": [1]}', "row_malformed"),
    ("images", '{"id": 9, "file_name": "b.png", "mood": "' + "x" * ROW_BYTES + '"}', "too_large"),
    ("annotations", '{"image_id": 1, "caption": "\\ud800"}', "not_utf8"),
    ("annotations", '{"image_id": 1, "caption": "caf\udce9"}', "not_utf8"),
    ("annotations", '{"image_id": 1, "caption": 5}', "caption_not_text"),
    ("annotations", '{"image_id": 1}', "row_malformed"),
    ("annotations", '{"image_id": [1], "caption": "odd"}', "row_malformed"),
    ("annotations", '{"image_id": 1, "caption": ' + DEEP + "}", "row_malformed"),
    ("licenses", '"x"', None),
    ("licenses", '{"id": [1], "name": "odd"}', None),
    ("licenses", r'{"id": 1, "name": "\ud800"}', None),
    ("licenses", '{"id": 1, "name": 5}', None),
    ("licenses", DEEP, None),
]


def write_coco(file: Path, key: str, row: str) -> None:
    """The hostile row between the first good one and the others."""
    rows = {
        "licenses": ['{"id": 1, "name": "MIT"}'],
        "images": [json.dumps({"id": at, "file_name": name, "license": 1}) for at, name in enumerate(GOOD)],
        "annotations": [json.dumps({"image_id": at, "caption": CAPTIONS[name]}) for at, name in enumerate(GOOD)],
    }
    rows[key].insert(1, row)
    lists = (f'"{name}": [{", ".join(elements)}]' for name, elements in rows.items())
    file.write_bytes(("{" + ", ".join(lists) + "}").encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize(("key", "row", "reason"), COCO_ROWS, ids=range(len(COCO_ROWS)))
def test_a_row_of_a_coco_file_costs_itself(folder: Path, key: str, row: str, reason: str | None) -> None:
    write_coco(folder / "coco.json", key, row)
    assert check(CocoSource(path=str(folder / "coco.json"))) == ({reason: 1} if reason else {})


@pytest.mark.parametrize("licences", ["null", "5", '"x"', DEEP, '{"a": 1}'])
def test_licences_that_are_no_list_cost_nothing(folder: Path, licences: str) -> None:
    write_coco(folder / "coco.json", "licenses", "{}")
    text = (folder / "coco.json").read_text()
    (folder / "coco.json").write_text(text.replace('"licenses": [', f'"licenses": {licences}, "others": ['))
    assert check(CocoSource(path=str(folder / "coco.json"))) == {}


IMAGES = st.fixed_dictionaries(
    {"id": st.integers(min_value=9) | TEXTS | VALUES.filter(lambda value: not isinstance(value, int | float))},
    optional={
        "file_name": st.sampled_from(["b.png", "loop.png", "n\0l"]) | VALUES,
        "license": st.just(1) | VALUES,
        "coco_url": VALUES,
        "flickr_url": VALUES,
        "mood": VALUES,
    },
)
ANNOTATIONS = st.fixed_dictionaries({}, optional={"image_id": st.integers(0, 3) | VALUES, "caption": VALUES})
PLANTED = (
    st.tuples(st.just("images"), IMAGES | VALUES)
    | st.tuples(st.just("annotations"), ANNOTATIONS | VALUES)
    | st.tuples(st.just("licenses"), st.fixed_dictionaries({"id": st.just(1) | VALUES, "name": VALUES}) | VALUES)
)


@settings(max_examples=40)
@given(PLANTED, st.integers(1, 300))
def test_no_row_of_a_coco_file_costs_a_good_one(folder: Path, planted: tuple[str, Any], block: int) -> None:
    write_coco(folder / "coco.json", planted[0], json.dumps(planted[1]))
    with patch.object(json_lists, "BLOCK", block):
        check(CocoSource(path=str(folder / "coco.json")))


ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "image_path": st.sampled_from(["b.png", "loop.png", "n\0l"]) | VALUES,
        "caption": st.lists(TEXTS) | VALUES,
        "parse_label_id": st.lists(st.lists(st.integers(-1, 2)) | VALUES) | VALUES,
        "union_label_id": st.lists(st.integers(-1, 2) | VALUES) | VALUES,
    },
)


@settings(max_examples=40)
@given((ENTRIES | VALUES).map(json.dumps) | st.just(DEEP), st.binary(max_size=30) | TEXTS.map(str.encode))
def test_no_entry_and_no_line_of_the_official_files_costs_a_good_one(folder: Path, entry: str, line: bytes) -> None:
    (folder / "tag_list.txt").write_text("dog\ncat\n")
    good = [json.dumps({"image_path": name, "caption": [caption]}) for name, caption in CAPTIONS.items()]
    (folder / "train.json").write_text(f"[{good[0]}, {entry}, {', '.join(good[1:])}]")
    (folder / "test.txt").write_bytes(b"a.png,dog\n" + line + b"\nb.png,0 1\n")
    source = OfficialSource(
        path=str(folder / "train.json"), evaluation=str(folder / "test.txt"), images=str(folder / "images")
    )
    check(source)


@pytest.mark.parametrize("kind", ["coco", "official"])
def test_a_json_file_that_is_cut_is_told_by_its_name(folder: Path, kind: str) -> None:
    write_coco(folder / "cut.json", "images", '{"id": 9}')
    whole = (folder / "cut.json").read_text()
    (folder / "tag_list.txt").write_text("dog\n")
    for end in (1, 50, len(whole) // 2, len(whole) - 1):
        text = whole[:end] if kind == "coco" else f"[{whole}, {whole[:end]}"
        (folder / "cut.json").write_text(text)
        source = (CocoSource if kind == "coco" else OfficialSource)(path=str(folder / "cut.json"))
        with pytest.raises(SourceError, match=r"cut\.json"):
            list(list_all(IngestSettings(source=source), 1))
