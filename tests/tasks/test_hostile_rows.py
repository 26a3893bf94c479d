"""Rows of strangers beside good ones, in every kind of source: the good ones arrive, the others have a reason."""

from __future__ import annotations

import json
import os
import tempfile
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, cast
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from storage import schemas
from storage.store import Store
from tasks.images.decoding import MAX_BYTES
from tasks.machine.inputs import Inputs
from tasks.settings.executor import ExecutorSettings
from tasks.settings.ingest import IngestSettings
from tasks.sources import SourceError, SourceItem, fitness
from tasks.sources.coco import CocoSource
from tasks.sources.csv_file import CsvSource
from tasks.sources.fitness import MOST_CAPTIONS, REASONS, ROW_BYTES, fit, images_of, items_of
from tasks.sources.folder import FolderSource
from tasks.sources.huggingface import HuggingFaceSource
from tasks.sources.img2dataset import Img2datasetSource
from tasks.sources.labels_file import LabelsSource
from tasks.sources.listing.current import list_all
from tasks.sources.listing.index import Listing
from tasks.sources.listing.merging import merge
from tasks.sources.official import OfficialSource
from tasks.sources.reading import csv_rows, json_lists, tars
from tasks.sources.source import Source
from tasks.stages import ingest
from tests.tasks.test_ingest import ingest_all, picture

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
    """The reasons of the rows that did not arrive, once all good ones did: through every door, but not into a store."""
    wanted = IngestSettings().model_copy(update={"source": source})
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


@settings(max_examples=25)
@given((ENTRIES | VALUES).map(json.dumps) | st.just(DEEP), st.binary(max_size=30))
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


# tars

Member = tuple[bytes, bytes, bytes]  # name, type, content


def block(name: bytes, kind: bytes, size: bytes, magic: bytes = b"ustar\00000") -> bytes:
    """A header that says anything."""
    header = bytearray(512)
    header[:100], header[124:136], header[156:157] = name[:100].ljust(100, b"\0"), size.ljust(12, b"\0"), kind
    header[257:265], header[148:156] = magic, b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def member(name: bytes, kind: bytes, content: bytes) -> bytes:
    """A member that says of itself what it is: one of the kinds 1 to 6 has no content."""
    content = b"" if kind in b"123456" else content
    return block(name, kind, b"%o" % len(content)) + content + bytes(-len(content) % 512)


def pax(**records: str) -> bytes:
    """The header of a header that follows."""
    text = b""
    for name, value in records.items():
        record = f" {name.replace('_', '.')}={value}\n".encode("utf-8", "surrogateescape")
        length = next(n for n in range(len(record), len(record) + 9) if n == len(record) + len(str(n)))
        text += str(length).encode() + record
    return member(b"pax", b"x", text)


def write_tar(file: Path, hostile: bytes) -> None:
    """The hostile members between good samples, and such as a header before them would be of."""
    samples = [
        member(name.encode(), b"0", data) + member(name.replace("png", "txt").encode(), b"0", CAPTIONS[name].encode())
        for name, data in GOOD.items()
    ]
    last = member(b"last.bin", b"0", b"x")
    file.write_bytes(samples[0] + hostile + last + samples[1] + samples[2] + bytes(1024))


PICTURE = GOOD["b.png"]
SPARSE = pax(GNU_sparse_major="1", GNU_sparse_minor="0", GNU_sparse_name="s.png", GNU_sparse_realsize=str(2**37))
TAR_MEMBERS = [
    (member(b"s.png", b"0", PICTURE) + member(b"s.json", b"0", DEEP.encode()), "sample_damaged"),
    (member(b"s.png", b"0", PICTURE) + member(b"s.json", b"0", b"9" * 5000), "sample_damaged"),
    (member(b"s.png", b"0", PICTURE) + member(b"s.json", b"0", rb'{"caption": "\ud800"}'), "not_utf8"),
    (member(b"s.png", b"0", PICTURE) + member(b"s.json", b"0", rb'{"\ud800": 1}'), "not_utf8"),
    (member(b"s.png", b"0", PICTURE) + member(b"s.json", b"0", b'{"caption": [[1]]}'), "caption_not_text"),
    (member(b"s.png", b"0", PICTURE) + member(b"s.json", b"0", b'{"status": "odd"}'), "not_fetched"),
    (member(b"s.png", b"0", PICTURE) + member(b"s.txt", b"0", b"caf\xe9"), "sample_damaged"),
    (member(b"s.png", b"0", PICTURE) + member(b"s.txt", b"0", b"x" * (ROW_BYTES + 1)), "too_large"),
    (member(b"caf\xe9.png", b"0", PICTURE), "not_utf8"),
    (pax(path="n\0l.png") + member(b"s.png", b"0", PICTURE), "row_malformed"),
    (member(b"s.png", b"1", b""), "member_is_link"),
    (member(b"s.png", b"2", b""), "member_is_link"),
    *((member(b"s.png", kind, b""), "member_not_regular") for kind in (b"3", b"4", b"6", b"Z")),
    (block(b"s.png", b"S", b"0", b"ustar  \0"), "member_not_regular"),
    (SPARSE + member(b"s.png", b"0", b"0\n".ljust(512, b"\0")), "member_not_regular"),
    (SPARSE + member(b"s.png", b"0", b"no map"), "member_not_regular"),
    (pax(GNU_sparse_map="0,1", GNU_sparse_size=str(2**37)) + member(b"s.png", b"0", PICTURE), "member_not_regular"),
    (block(b"s.png", b"0", b"\xff" * 12), "image_empty"),  # a size of -1
    (member(b"long", b"L", b"x" * (tars.HEADER_BYTES + 1)), "row_without_image"),
    (member(b"all", b"g", b"16 path=all.bin\n"), None),
    (member(b".png", b"0", PICTURE), None),
]


@pytest.mark.parametrize(("members", "reason"), TAR_MEMBERS, ids=range(len(TAR_MEMBERS)))
def test_a_member_of_a_tar_costs_its_sample(folder: Path, members: bytes, reason: str | None) -> None:
    write_tar(folder / "a.tar", members)
    reasons = check(Img2datasetSource(path=str(folder / "a.tar")))
    assert reasons == Counter(filter(None, ["row_without_image", reason]))  # the last one holds no image


def test_members_are_refused_by_the_size_that_they_name(folder: Path) -> None:
    """Nothing of them is read, and no memory is taken for what they are said to have."""
    for suffix, most in (("png", MAX_BYTES), ("json", tars.MOST_BYTES["json"])):
        with (folder / "large.tar").open("wb") as file:
            for name in ("good.png", f"large.{suffix}"):
                size = most + 1 if name.startswith("large") else len(PICTURE)
                file.write(block(name.encode(), b"0", b"%o" % size))
                file.write(PICTURE.ljust(512, b"\0"))
                file.seek(-512 + size + -size % 512, 1)
            file.write(bytes(1024))
        source = Img2datasetSource(path=str(folder / "large.tar"))
        tracemalloc.start()
        items = [image for _, item in list_all(IngestSettings(source=source), 1) for image in images_of(source, item)]
        assert tracemalloc.get_traced_memory()[1] < most / 2
        tracemalloc.stop()
        assert [item.problem and item.problem[0] for item in items] == [None, "member_too_large"]


def test_a_tar_whose_sizes_lead_back_ends_there(folder: Path) -> None:
    """pax may say any size; and a thousand headers of headers are more than Python reads."""
    for hostile in (pax(size="-2000") + member(b"s.png", b"0", PICTURE), pax(comment="odd") * 2000):
        write_tar(folder / "a.tar", hostile)
        source = Img2datasetSource(path=str(folder / "a.tar"))
        problems = [item.problem[0] for _, item in list_all(IngestSettings(source=source), 1) if item.problem]
        assert problems == ["archive_damaged"]


KINDS = st.sampled_from([bytes([kind]) for kind in b"0123456789\0ASVZ"])
SUFFIXES = st.sampled_from([b".png", b".txt", b".json", b".cls", b""])
NAMES = st.builds(bytes.__add__, st.sampled_from([b"s", b"", b"/s", b"../s", b"s/s"]) | st.binary(max_size=9), SUFFIXES)
CONTENTS = (
    st.just(PICTURE)
    | st.binary(max_size=60)
    | (VALUES | st.dictionaries(TEXTS, VALUES)).map(json.dumps).map(str.encode)
)
SAFE = NAMES.filter(lambda name: name[:1] not in (b"a", b"b", b"c"))


@settings(max_examples=60)
@given(st.lists(st.builds(member, SAFE, KINDS, CONTENTS), max_size=3).map(b"".join))
def test_no_member_of_a_tar_costs_a_good_sample(folder: Path, members: bytes) -> None:
    write_tar(folder / "a.tar", members)
    check(Img2datasetSource(path=str(folder / "a.tar")))


@settings(max_examples=60)
@given(st.integers(0, 4000), st.binary(min_size=1, max_size=300))
def test_no_bytes_in_a_tar_raise(folder: Path, at: int, by: bytes) -> None:
    write_tar(folder / "a.tar", SPARSE + member(b"s.png", b"0", b"no map") + pax(path="s.txt"))
    data = bytearray((folder / "a.tar").read_bytes())
    data[at : at + len(by)] = by
    (folder / "a.tar").write_bytes(data)
    source = Img2datasetSource(path=str(folder / "a.tar"))
    for _, item in list_all(IngestSettings(source=source), 1):
        assert all(image.problem is None or image.problem[0] in REASONS for image in images_of(source, item))


# Parquet

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def text_column(values: list[bytes]) -> pa.Array:
    """A column of texts, which need not be UTF-8."""
    return pa.array(values, pa.binary()).view(pa.string())


def write_parquet(file: Path, images: list[Any], captions: list[bytes], **others: Any) -> None:
    """The hostile rows between the good ones, in row groups of two."""
    first, *rest = CAPTIONS.items()
    records = [{"bytes": GOOD[name], "path": None} for name in GOOD]
    texts = [first[1].encode(), *captions, *(caption.encode() for _, caption in rest)]
    columns = {"image": pa.array([records[0], *images, *records[1:]], IMAGE), "caption": text_column(texts)}
    pq.write_table(pa.table(columns | others), file, row_group_size=2)


PATHS = st.sampled_from(["images/loop.png", "../x.png", "n\0l/x.png", "n\0l", "", "/etc/passwd", "x" * 300])
RECORDS = st.none() | st.fixed_dictionaries(
    {"bytes": st.none() | st.just(PICTURE) | st.binary(max_size=9), "path": st.none() | PATHS}
)
ROWS = st.lists(st.tuples(RECORDS, st.binary(max_size=9)), min_size=1, max_size=4)
OTHERS = st.sampled_from(
    [
        pa.array([2**60], pa.timestamp("ms")),
        pa.array([1], pa.timestamp("ms", tz="No/Where")),
        pa.array([2**62], pa.duration("s")),
        pa.array([[1, 2]]),
        pa.array([{"a": [1]}]),
        pa.array([float("nan")]),
        pa.array([True]),
        pa.array([10**30], pa.decimal128(38)),
        pa.array([b"\xff"], pa.binary()).view(pa.string()),
        pa.array([b"\xff"], pa.binary()).view(pa.string()).dictionary_encode(),
        pa.nulls(1),
    ]
)
COLUMNS = st.sampled_from(["image_id", "url", "license", "split", "status", "sha256", "mood", "a.b", "caption2", ""])


@settings(max_examples=60)
@given(ROWS, st.dictionaries(COLUMNS, OTHERS, max_size=3))
def test_no_row_of_a_parquet_file_costs_a_good_one(folder: Path, rows: list[Any], others: dict[str, pa.Array]) -> None:
    """The other columns hold nothing in the good rows."""
    images, captions = zip(*rows, strict=True)
    place = pa.array([None, *[0] * len(rows), None, None], pa.int32())
    write_parquet(
        folder / "a.parquet",
        list(images),
        list(captions),
        **{name: other.take(place) for name, other in others.items()},
    )
    check(HuggingFaceSource(path=str(folder / "a.parquet")))


def test_a_damaged_row_group_costs_its_own_rows(folder: Path) -> None:
    file = folder / "a.parquet"
    write_parquet(file, [{"bytes": b"odd", "path": None}] * 3, [b"odd"] * 3)
    page = pq.read_metadata(file).row_group(1).column(0).data_page_offset
    data = bytearray(file.read_bytes())
    data[page : page + 20] = bytes(20)
    file.write_bytes(data)
    reasons = check(HuggingFaceSource(path=str(file)))
    assert reasons == {"file_unreadable": 1, "image_unreadable": 1}


@settings(max_examples=60)
@given(st.integers(0, 3000), st.binary(min_size=1, max_size=40))
def test_no_bytes_in_a_parquet_file_raise(folder: Path, at: int, by: bytes) -> None:
    """Beside a good file: alone it may be refused as a whole."""
    (folder / "files").mkdir(exist_ok=True)
    write_parquet(folder / "files" / "a.parquet", [], [])
    write_parquet(folder / "files" / "b.parquet", [None], [b"odd"], mood=pa.array([1, 2, 3, 4]))
    data = bytearray((folder / "files" / "b.parquet").read_bytes())
    data[at : at + len(by)] = by
    (folder / "files" / "b.parquet").write_bytes(data)
    check(HuggingFaceSource(path=str(folder / "files")))


def test_files_that_are_none_cost_themselves(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [], [])
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "loop.parquet").symlink_to("loop.parquet")
    os.mkfifo(tmp_path / "pipe.parquet")
    (tmp_path / os.fsdecode(b"caf\xe9.parquet")).write_bytes((tmp_path / "a.parquet").read_bytes())
    found = check(HuggingFaceSource(path=str(tmp_path)))
    assert found == {"file_unreadable": 2, "foreign_schema": 1}


def test_what_a_piece_holds_is_bounded(folder: Path) -> None:
    """A dictionary makes many large rows of a small file, whatever its headers say."""
    write_parquet(folder / "a.parquet", [{"bytes": b"x" * 400, "path": None}] * 9, [b"odd"] * 9)
    with patch.object(fitness, "PIECE_BYTES", 2000):
        (file,) = items_of(HuggingFaceSource(path=str(folder / "a.parquet")))
        items = list(images_of(HuggingFaceSource(path=str(folder / "a.parquet")), replace(file, rows=12)))
    assert sum(len(item.data or b"") for item in items) <= 2000
    assert len(items) == 12


@settings(max_examples=20)
@given(st.lists(st.tuples(*[st.none() | st.binary(max_size=9)] * 3), max_size=3))
def test_no_row_of_img2datasets_lists_costs_a_sample(folder: Path, rows: list[tuple[bytes | None, ...]]) -> None:
    (folder / "wds").mkdir(exist_ok=True)
    write_tar(folder / "wds" / "0.tar", b"")
    status, key, url = (text_column([row[at] for row in rows]) for at in range(3))  # type: ignore[misc]
    pq.write_table(pa.table({"status": status, "key": key, "url": url}), folder / "wds" / "0.parquet")
    check(Img2datasetSource(path=str(folder / "wds")))


# folders, and sources of others


@settings(max_examples=20)
@given(st.sets(st.binary(min_size=1, max_size=60).filter(lambda name: not set(name) & set(b"/\0")), max_size=3))
def test_no_file_in_a_folder_costs_a_picture(folder: Path, names: set[bytes]) -> None:
    made = Path(tempfile.mkdtemp(dir=folder))
    for name, data in GOOD.items():
        (made / name).write_bytes(data)
    for kind, name in enumerate(sorted(names)):
        path = os.fsencode(made) + b"/odd " + name + b".png"
        make = (os.mkfifo, os.mkdir, lambda path: os.symlink(path, path), lambda path: Path(os.fsdecode(path)).touch())
        make[kind % len(make)](path)
    check(FolderSource(path=str(made)), captions=False)


ANYTHING = VALUES | st.binary(max_size=9) | st.just(2**70) | st.lists(TEXTS | st.tuples(VALUES, VALUES)).map(tuple)
HOSTILE: list[SourceItem] = []


class HostileSource(Source):
    """What an installed package might give."""

    kind: Literal["hostile"] = "hostile"

    def items(self) -> Iterator[SourceItem]:
        """The good rows, and the hostile ones between them."""
        for name, data in GOOD.items():
            yield SourceItem(name, name, (CAPTIONS[name],), data=data, version="1-0")
            yield from HOSTILE

    def read(self, item: SourceItem) -> Iterator[SourceItem]:
        """The contents, which a listing does not keep; those of a hostile row are a good one's."""
        yield replace(item, data=GOOD.get(item.name, PICTURE))


def item_of(values: dict[str, Any]) -> SourceItem:
    return replace(SourceItem("x", "x", version="1-0"), **values)


@settings(max_examples=80)
@given(
    st.dictionaries(st.sampled_from([field.name for field in fields(SourceItem)]), ANYTHING, min_size=1).map(item_of)
)
@example(SourceItem("x", "x", ("odd",) * (MOST_CAPTIONS + 1)))
@example(SourceItem("x" * ROW_BYTES, "x"))
@example(SourceItem("x", "x", extra='{"mood": "\\ud800"}'))
@example(SourceItem("x", "x", extra="[]"))
@example(SourceItem("x", "x", ready_tags=((3, (("dog", ""),)),)))
def test_no_item_of_any_source_costs_another(hostile: SourceItem) -> None:
    """Whatever an item is made of passes the doors as one that can be written, or as a problem."""
    assume(not (isinstance(hostile.problem, tuple) and len(hostile.problem) == 2))  # a reason of the package's own
    passed = fit(hostile)
    assert fit(passed) == passed
    json.dumps([passed.name, passed.where, passed.problem], ensure_ascii=False).encode()
    if not passed.container:
        HOSTILE[:] = [hostile]
        check(HostileSource())


def test_a_source_that_breaks_off_is_told_by_its_name() -> None:
    class Broken(HostileSource):
        def items(self) -> Iterator[SourceItem]:
            raise KeyError("odd")

    with pytest.raises(SourceError, match="hostile cannot be listed: KeyError: 'odd'"):
        list(items_of(Broken()))


def test_an_image_of_more_captions_than_are_counted_keeps_the_first() -> None:
    """A placeholder stands for thousands of pictures that are gone, each with its caption and its tags."""
    tags = [{"caption_index": 0, "tags": [{"name": "dog", "type": ""}]}]
    row = {"sources": ["x"], "names": ["x"], "fingerprints": ["x"], "url": None, "licence": None, "split": "train"}
    rows = [
        {**row, "captions": [f"caption {at}"], "extra": "{}", "ready_tags": tags} for at in range(MOST_CAPTIONS + 5)
    ]
    merged = merge(rows)
    assert merged["captions"] == [f"caption {at}" for at in range(MOST_CAPTIONS)]
    assert [tags["caption_index"] for tags in merged["ready_tags"]] == list(range(MOST_CAPTIONS))


def test_a_value_of_json_longer_than_any_row_is_passed_over(folder: Path) -> None:
    write_coco(folder / "coco.json", "images", json.dumps({"id": 9, "file_name": "b.png", "odd": r"]}\"" * 200}))
    with patch.object(json_lists, "BLOCK", 7), patch.object(json_lists, "LONGEST", 300):
        assert check(CocoSource(path=str(folder / "coco.json"))) == {"row_malformed": 1}


def test_a_folder_in_the_place_of_a_picture_is_a_row_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for at in range(400):
        (tmp_path / "images" / f"a.png-{at}").mkdir()
    size = (tmp_path / "images").stat().st_size
    if size < 2 * len(PICTURE):
        pytest.skip("this file system tells no sizes of folders")
    (tmp_path / "c.csv").write_text("image,caption\na.png,odd\nb.png,dog\n")
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(GOOD[name].ljust(size, b"\0"))
    store, wanted = (
        Store(tmp_path / "store"),
        IngestSettings(source=CsvSource(path=str(tmp_path / "c.csv"), images=str(tmp_path))),
    )
    ingest_all(store, wanted)
    (tmp_path / "a.png").unlink()
    (tmp_path / "images").rename(tmp_path / "a.png")
    ingest_all(store, wanted)
    pairs, rejected = store.snapshot("pairs"), store.snapshot("pairs_rejected")
    assert pairs
    assert [row["names"] for row in store.table(pairs).to_pylist()] == [["b.png"]]
    assert rejected
    assert [row["reason"] for row in store.table(rejected).to_pylist()] == ["image_missing"]
