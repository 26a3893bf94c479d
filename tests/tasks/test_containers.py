"""Files of many images: every row is an item or a problem with its reason, whatever the file is like."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.sources import SourceError, SourceItem, official
from tasks.sources.official import OfficialSource
from tasks.sources.reading import json_lists, parquet, tars
from tasks.sources.reading.columns import Columns
from tasks.sources.reading.containers import divide, list_folder, read

Members = list[tuple[str, bytes]]


def write_tar(path: Path, members: Members) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def sample(key: str, caption: str = "a dog", **about: object) -> Members:
    return [
        (f"{key}.jpg", b"image " + key.encode()),
        (f"{key}.txt", caption.encode()),
        (f"{key}.json", json.dumps({"caption": caption, **about}).encode()),
    ]


def everything(folder: Path, columns: Columns = Columns()) -> list[SourceItem]:
    items = []
    for file in list_folder(str(folder), columns):
        if not file.container:
            items.append(file)
            continue
        for piece in divide(file):
            items += read(piece, columns) if piece.container else [piece]
    return items


def reasons(items: list[SourceItem]) -> dict[str, str]:
    return {item.name: item.problem[0] for item in items if item.problem}


def test_tars_keep_captions_and_columns_in_any_number_of_pieces(tmp_path: Path) -> None:
    members = [one for number in range(600) for one in sample(f"{number:05}", url=f"http://x/{number}", NSFW=0.25)]
    write_tar(tmp_path / "0.tar", members)
    (listed,) = list_folder(str(tmp_path), Columns())
    assert [piece.rows for piece in divide(listed)] == [256, 256, 88]
    items = everything(tmp_path)
    assert [item.name for item in items] == [f"0.tar/{number:05}" for number in range(600)]
    assert items[300].data == b"image 00300"
    assert (items[300].url, items[300].captions) == ("http://x/300", ("a dog",))
    assert json.loads(items[300].extra) == {"NSFW": 0.25}
    assert not reasons(items)


def test_unfit_members_of_a_tar_are_rows_with_a_reason(tmp_path: Path) -> None:
    link = tarfile.TarInfo("link.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    path = write_tar(
        tmp_path / "a.tar",
        [
            *sample("good"),
            ("../../x.jpg", b"image"), ("../../x.txt", b"outside"),
            *sample("twice"), ("twice.txt", b"again"),
            ("alone.txt", b"no image"),
            ("silent.jpg", b"image"),
            ("odd.jpg", b"image"), ("odd.txt", b"caf\xe9"),
            ("broken.jpg", b"image"), ("broken.json", b"{"),
            *sample("good"),
        ],
    )  # fmt: skip
    with tarfile.open(path, "a") as tar:
        tar.addfile(link)
    items = everything(tmp_path)
    assert [(item.name, item.captions != ()) for item in items if not item.problem] == [
        ("a.tar/good", True),
        ("a.tar/silent", False),
    ]
    assert {item.problem[0] for item in items if item.problem and item.name == "a.tar/good"} == {"duplicate_key"}
    found = reasons(items)
    del found["a.tar/good"]
    assert found == {
        "a.tar/../../x": "member_outside_archive",
        "a.tar/twice": "duplicate_key",
        "a.tar/alone": "row_without_image",
        "a.tar/odd": "sample_damaged",
        "a.tar/broken": "sample_damaged",
        "a.tar/link": "member_is_link",
    }


@settings(max_examples=40)
@given(st.integers(0, 52_000))
def test_a_tar_that_breaks_off_loses_nothing_before(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    folder = tmp_path_factory.mktemp("cut")
    path = write_tar(folder / "a.tar", [one for number in range(8) for one in sample(f"{number}", "a dog " * 200)])
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    items = everything(folder)
    good = [item.name for item in items if not item.problem]
    assert good == [f"a.tar/{number}" for number in range(len(good))]
    ends = [whole.index(f"{number}.json".encode()) + 512 + 1536 for number in range(8)]
    assert len(good) >= sum(end <= size for end in ends)
    # where not all is there, a row says so
    assert bool(reasons(items)) == (size < ends[-1] + 512)


def test_what_img2dataset_could_not_fetch_is_a_row_with_its_status(tmp_path: Path) -> None:
    write_tar(tmp_path / "00000.tar", sample("000000000"))
    rows = [
        {"key": "000000000", "url": "http://x/0", "status": "success", "error_message": None},
        {"key": "000000001", "url": "http://x/1", "status": "failed_to_download", "error_message": "HTTP Error 404"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "00000.parquet")
    items = everything(tmp_path)
    assert reasons(items) == {"00000.parquet/000000001": "failed_to_download"}
    assert [item.problem for item in items if item.problem] == [("failed_to_download", "HTTP Error 404")]
    assert [item.name for item in items if not item.problem] == ["00000.tar/000000000"]


@pytest.mark.parametrize("rows_a_group", [3, 100, 5000])
def test_parquet_is_read_whole_whatever_its_row_groups(tmp_path: Path, rows_a_group: int) -> None:
    rows = [
        {
            "image": {"bytes": f"{number}".encode(), "path": None},
            "caption": f"dog {number}",
            "LICENSE": "MIT",
            "n": number,
        }
        for number in range(5000)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=rows_a_group)
    items = everything(tmp_path)
    assert [item.data for item in items] == [f"{number}".encode() for number in range(5000)]
    assert [json.loads(item.extra)["n"] for item in items] == list(range(5000))
    assert {item.licence for item in items} == {"MIT"}


def test_large_images_make_smaller_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a tar, of row groups of one row, and of one large row group; nothing is lost at a cut."""
    for module in (tars, parquet):
        monkeypatch.setattr(module, "SHARD_BYTES", 100_000)
    sizes = [30_000, 30_000, 30_000, 30_000, 250_000, 30_000, 30_000, 30_000]
    rows = [{"image": b"x" * size, "caption": f"dog {number}"} for number, size in enumerate(sizes)]
    write_tar(
        tmp_path / "tar" / "a.tar",
        [
            (f"{number}.{suffix}", data)
            for number, row in enumerate(rows)
            for suffix, data in (("jpg", row["image"]), ("txt", row["caption"].encode()))
        ],
    )
    cuts = {"tar": [4, 1, 3], "single": [3, 1, 1, 3], "together": [1] * 8}
    for name, rows_a_group in (("single", 1), ("together", 8)):
        (tmp_path / name).mkdir()
        pq.write_table(
            pa.Table.from_pylist(rows), tmp_path / name / "a.parquet", row_group_size=rows_a_group,
            use_dictionary=False, compression="none",
        )  # fmt: skip
    for name, expected in cuts.items():
        (listed,) = list_folder(str(tmp_path / name), Columns())
        pieces = list(divide(listed))
        assert [piece.rows for piece in pieces] == expected
        assert sum(piece.size for piece in pieces) == pytest.approx(sum(sizes), rel=0.1)
        items = [item for piece in pieces for item in read(piece, Columns())]
        assert [(item.data, item.captions) for item in items] == [(row["image"], (row["caption"],)) for row in rows]


def test_captions_are_texts_lists_of_texts_or_several_columns(tmp_path: Path) -> None:
    rows = [
        {"img": b"1", "short": "a dog", "long": ["a dog runs", None, "a dog"], "vector": [0.5]},
        {"img": b"2", "short": None, "long": []},
        {"img": None, "short": "a cat", "long": ["a cat"]},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="none of them is a caption"):
        everything(tmp_path)
    items = everything(tmp_path, Columns(captions=("short", "long")))
    assert items[0].captions == ("a dog", "a dog runs")
    assert json.loads(items[0].extra) == {}
    assert items[1].captions == ()
    assert reasons(items) == {"a.parquet/2": "image_missing"}
    wrong = [{"image": b"1", "caption": [{"raw": "a dog"}]}]
    pq.write_table(pa.Table.from_pylist(wrong), tmp_path / "a.parquet")
    assert reasons(everything(tmp_path)) == {"a.parquet/0": "caption_not_text"}


def test_a_foreign_file_beside_good_ones_is_a_row_and_alone_an_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "foreign.parquet")
    (tmp_path / "text.parquet").write_text("no Parquet")
    with pytest.raises(SourceError, match="has the columns a, and none of them is an image"):
        everything(tmp_path)
    pq.write_table(pa.table({"image": [b"1"], "text": ["a dog"]}), tmp_path / "good.parquet")
    items = everything(tmp_path)
    assert reasons(items) == {"foreign.parquet": "foreign_schema", "text.parquet": "foreign_schema"}
    assert [item.captions for item in items if not item.problem] == [("a dog",)]
    with pytest.raises(SourceError, match="there is no file or folder"):
        everything(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"holds no \.tar and no \.parquet"):
        everything(tmp_path / "empty")


def test_paths_in_a_table_stay_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"1")
    rows = [
        {"image": {"bytes": None, "path": path}, "caption": "a dog"} for path in ("a.jpg", "../b.jpg", "/etc/passwd")
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    items = everything(tmp_path)
    assert items[0].path == str(tmp_path / "a.jpg")
    assert set(reasons(items).values()) == {"image_outside_folder"}
    assert len(reasons(items)) == 2


@pytest.fixture
def official_folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"1")
    (tmp_path / "tag_list.txt").write_text("dog\ncat\nred\tattribute\n")
    entries = [
        {"image_path": "a.jpg", "caption": ["a dog", "red"], "union_label_id": [0, 1, 2], "parse_label_id": [[0], [2]]},
        {"image_path": "b.jpg", "caption": ["a dog"], "union_label_id": [7], "parse_label_id": [[0]]},
        {"image_path": "../c.jpg", "caption": ["a dog"], "union_label_id": [0], "parse_label_id": [[0]]},
        {"image_path": "d.jpg", "caption": ["a dog", "x"], "union_label_id": [], "parse_label_id": [[0]]},
        {"caption": ["a dog"]},
    ]
    (tmp_path / "train.json").write_text(json.dumps(entries))
    return tmp_path


def test_the_official_json_brings_its_tags(official_folder: Path) -> None:
    first, *unfit = OfficialSource(path=str(official_folder / "train.json")).items()
    assert first.captions == ("a dog", "red")
    assert first.ready_tags == ((0, (("dog", ""),)), (1, (("red", "attribute"),)), (-1, (("cat", ""),)))
    found = [item.problem[0] for item in unfit if item.problem]
    assert found == ["unknown_label", "image_outside_folder", "labels_do_not_fit", "row_without_image"]


def test_evaluation_lists_are_read_by_index_and_by_name(official_folder: Path) -> None:
    lists = {"index": "a.jpg,0 2\nnone.jpg,1\na,\n,0\n../x.jpg,0\na.jpg,9\n", "name": "a.jpg,dog,cat\na.jpg,horse\n"}
    found = {}
    for name, text in lists.items():
        (official_folder / f"{name}.txt").write_text(text)
        listed = OfficialSource(evaluation=str(official_folder / f"{name}.txt"), images=str(official_folder / "images"))
        found[name] = list(listed.items())
    by_index, by_name = found["index"], found["name"]
    assert [item.ready_tags for item in by_index[:3]] == [
        ((-1, (("dog", ""), ("red", "attribute"))),),
        ((-1, (("cat", ""),)),),
        ((-1, ()),),
    ]
    assert {item.split for item in by_index[:3]} == {"test"}
    assert by_index[1].version == "missing-0"  # ingest says that the image is missing
    assert by_index[2].path.endswith("a.jpg")
    reasons_ = [item.problem[0] for item in by_index[3:] if item.problem]
    assert reasons_ == ["row_without_image", "image_outside_folder", "unknown_label"]
    assert by_name[0].ready_tags == ((-1, (("dog", ""), ("cat", ""))),)
    assert by_name[1].problem is not None


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text()))), st.integers(1, 50))
def test_a_json_list_is_read_in_blocks_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, entries: list[dict[str, object]], block: int
) -> None:
    file = tmp_path_factory.mktemp("json") / "a.json"
    file.write_text(json.dumps(entries, indent=1))
    before, json_lists.BLOCK = json_lists.BLOCK, block
    try:
        assert list(official._entries(file)) == entries
        file.write_text(json.dumps(entries)[:-1] + ", {")
        with pytest.raises(SourceError, match="damaged JSON"):
            list(official._entries(file))
    finally:
        json_lists.BLOCK = before


def test_a_damaged_header_in_the_middle_is_told(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [one for number in range(4) for one in sample(f"{number}")])
    data = bytearray(path.read_bytes())
    at = data.index(b"2.jpg")
    data[at : at + 512] = b"x" * 512
    path.write_bytes(data)
    items = everything(tmp_path)
    assert [item.name for item in items if not item.problem] == ["a.tar/0", "a.tar/1"]
    assert reasons(items) == {"a.tar": "archive_damaged"}
