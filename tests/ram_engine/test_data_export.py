"""Exports of data: what leaves a store is what is in it, and comes back through each format's own library and ours."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from storage.images import read_files
from storage.schemas import TagSource, contract
from storage.store import Store
from tasks.exports import save_image
from tasks.exports.writing.exported_rows import ExportedStore
from tasks.labels.tags import read_tags
from tasks.settings.ingest import IngestSettings
from tasks.sources.coco import CocoSource
from tasks.sources.csv_file import CsvSource
from tasks.sources.huggingface import HuggingFaceSource
from tasks.sources.img2dataset import Img2datasetSource
from tasks.sources.official import OfficialSource
from tasks.sources.source import Source
from tests.conftest import ram_engine
from tests.report_store import make_store
from tests.tasks.test_ingest import ingest_all

EXTRA = {"NSFW": 0.25, "language": "en", "tags": "own", "seen": True}
GENERATED = TagSource.GENERATED_CAPTION | TagSource.PREDICTED
ANYONE = GENERATED | TagSource.CAPTION | TagSource.BY_HAND


class Truth:
    """What a store holds, read table by table and joined by hand."""

    def __init__(self, store: Store) -> None:
        self.store = store
        tables = {name: self._rows(name) for name in ("pairs", "tag_verdicts", "label_system", "caption_tags")}
        self.pairs = {row["image_id"]: row for row in tables["pairs"]}
        self.label = {row["tag_id"]: row for row in tables["label_system"]}
        self.verdicts: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in tables["tag_verdicts"]:
            self.verdicts[row["image_id"]].append(row)
        self.named = {(row["image_id"], row["caption_index"]): row["tag_ids"] for row in tables["caption_tags"]}

    def _rows(self, name: str) -> list[dict[str, Any]]:
        snapshot = self.store.snapshot(name)
        assert snapshot is not None
        return self.store.table(snapshot).to_pylist()

    def tags(self, image_id: str, least: float = 0.0, said_by: int = ANYONE) -> set[str]:
        kept = [
            one for one in self.verdicts[image_id] if one["kept"] and one["source"] & said_by and one["score"] >= least
        ]
        return {self.label[one["tag_id"]]["name"] for one in kept}


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """The report's store, some of whose images have further columns, an address and a licence."""
    store = make_store(str(tmp_path_factory.mktemp("export") / "store"))
    pairs = store.snapshot("pairs")
    assert pairs is not None
    ids = store.table(pairs, ["image_id"])["image_id"].to_pylist()
    files = read_files(store, pairs, store.snapshot("images"), ids)
    parts = []
    for number, part in enumerate(pairs.parts):
        rows = store.read_part("pairs", part).to_pylist()
        for row in rows:
            row |= {"extra": json.dumps(EXTRA) if number else None, "url": "http://x/1", "licence": "CC-BY-4.0 | x"}
            row["sha256"] = hashlib.sha256(files[row["image_id"]]["bytes"]).hexdigest()
        table = pa.Table.from_pylist(rows, contract("pairs").schema)
        parts.append(store.write_part("pairs", f"{part.key}-more", part.partition, table))
    store.publish(replace(pairs, parts=tuple(parts)))
    return Truth(store)


def export(truth: Truth, folder: Path, format_: str, *more: str) -> Path:
    done = ram_engine("export", str(folder / format_), "--format", format_, "--store", truth.store.url, *more)
    assert str(folder / format_) in done.stdout
    return folder / format_


def ingested(folder: Path, source: Source) -> dict[str, dict[str, Any]]:
    """What our own reader makes of an export."""
    store = Store(folder / "again")
    ingest_all(store, IngestSettings(source=source))
    snapshot = store.snapshot("pairs")
    assert snapshot is not None
    return {row["sha256"][:16]: row for row in store.table(snapshot).to_pylist()}


def content_ids(truth: Truth) -> dict[str, str]:
    """The id that ingest gives to each image: the store's own are not its contents' here."""
    return {row["image_id"]: row["sha256"][:16] for row in truth.pairs.values()}


def same_images(truth: Truth, found: dict[str, dict[str, Any]]) -> None:
    ids = content_ids(truth)
    assert set(found) == set(ids.values())
    for image_id, content in ids.items():
        stripped = list(dict.fromkeys(caption.strip() for caption in truth.pairs[image_id]["captions"]))
        assert found[content]["captions"] == stripped
        assert found[content]["split"] == truth.pairs[image_id]["split"]
        assert found[content]["licence"] == truth.pairs[image_id]["licence"]


def test_a_hugging_face_folder_opens_with_datasets_and_comes_back(truth: Truth, tmp_path: Path) -> None:
    folder = export(truth, tmp_path, "huggingface")
    card = (folder / "README.md").read_text("utf-8")
    for expected in (
        "| train | 36 |",
        "CC-BY-4.0 / x | 40",
        "stage `judge`",
        "the sample world, seed 3",
        "split: test",
    ):
        assert expected in card
    assert str(tmp_path) not in card
    back = ingested(tmp_path, HuggingFaceSource(path=str(folder)))
    same_images(truth, back)
    extras = [json.loads(row["extra"]) for row in back.values()]
    assert {"NSFW": 0.25, "language": "en", "source_tags": "own", "seen": True} in extras
    datasets = pytest.importorskip("datasets")
    opened = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {name: len(split) for name, split in opened.items()} == {"train": 36, "test": 4}
    for row in opened["train"]:
        assert isinstance(row["image"], Image.Image)
        assert set(row["tags"]) == truth.tags(row["image_id"])
        assert row["captions"] == truth.pairs[row["image_id"]]["captions"]
        assert len(row["tags"]) == len(row["tag_types"]) == len(row["tag_scores"]) == len(row["tag_sources"])


def test_webdataset_shards_are_read_by_the_library_and_by_ours(truth: Truth, tmp_path: Path) -> None:
    folder = export(truth, tmp_path, "webdataset")
    sizes = json.loads((folder / "sizes.json").read_text())
    assert sizes == {"train-000000.tar": 36, "test-000000.tar": 4}
    same_images(truth, ingested(tmp_path, Img2datasetSource(path=str(folder))))
    webdataset = pytest.importorskip("webdataset")
    # as open_clip's trainer reads it
    pipeline = webdataset.DataPipeline(
        webdataset.SimpleShardList([str(folder / name) for name in sizes]),
        webdataset.tarfile_to_samples(),
        webdataset.decode("pilrgb"),
        webdataset.rename(image="jpg;png;jpeg;webp", text="txt"),
    )
    seen = {sample["__key__"]: sample for sample in pipeline}
    assert set(seen) == set(truth.pairs)
    for key, sample in seen.items():
        assert sample["text"] == truth.pairs[key]["captions"][0]
        assert sample["image"].size == (384, 384)
        assert {tag["name"] for tag in sample["json"]["tags"]} == truth.tags(key)


def test_coco_files_hold_tags_regions_and_captions(truth: Truth, tmp_path: Path) -> None:
    folder = export(truth, tmp_path, "coco")
    items = list(CocoSource(path=str(folder / "captions_train.json")).items())
    assert {item.captions for item in items} == {
        tuple(caption.strip() for caption in row["captions"]) for row in truth.pairs.values() if row["split"] == "train"
    }
    assert {item.licence for item in items} == {"CC-BY-4.0 | x"}
    pycocotools = pytest.importorskip("pycocotools.coco")
    opened = pycocotools.COCO(str(folder / "instances_train.json"))
    names = {one["id"]: one["name"] for one in opened.dataset["categories"]}
    for image in opened.loadImgs(opened.getImgIds()):
        assert Path(image["file_name"]).stem == truth.pairs[image["image_id"]]["names"][0]
        assert {names[tag] for tag in image["tag_ids"]} == truth.tags(image["image_id"])
        for box in opened.loadAnns(opened.getAnnIds(image["id"])):
            x, y, width, height = box["bbox"]
            assert 0 <= x <= x + width <= 384.01
            assert 0 <= y <= y + height <= 384.01
            assert names[box["category_id"]] in truth.tags(image["image_id"])
    assert len(opened.getAnnIds()) > 36
    captions = pycocotools.COCO(str(folder / "captions_test.json"))
    assert len(captions.getImgIds()) == 4


def test_the_official_files_come_back_with_their_tags(truth: Truth, tmp_path: Path) -> None:
    folder = export(truth, tmp_path, "official")
    lists = [(folder / name).read_text().splitlines() for name in ("tag_list.txt", "tag_list_threshold.txt")]
    assert lists[0] == [row["name"] for row in sorted(truth.label.values(), key=lambda row: row["tag_id"])]
    assert set(lists[1]) == {"0.68"}  # this store has no model
    source = OfficialSource(path=str(folder / "train.json"), evaluation=str(folder / "test_annots.txt"))
    items = list(source.items())
    by_name = list(OfficialSource(evaluation=str(folder / "test_tags.txt")).items())
    assert Counter(item.split for item in items) == {"": 36, "test": 4}
    ids = {row["names"][0]: image_id for image_id, row in truth.pairs.items()}
    for item in items:
        image_id = ids[Path(item.name).stem]
        assert item.problem is None
        assert Path(item.path).is_file()
        found = {name for _, named in item.ready_tags or () for name, _ in named}
        assert found == truth.tags(image_id)
        for at, named in item.ready_tags or ():
            if at >= 0:
                wanted = {truth.label[tag]["name"] for tag in truth.named.get((image_id, at), [])} & truth.tags(
                    image_id
                )
                assert {name for name, _ in named} == wanted
    assert [item.ready_tags for item in by_name] == [
        tuple((at, tuple(sorted(named, key=lambda one: lists[0].index(one[0])))) for at, named in item.ready_tags or ())
        for item in items[36:]
    ]


def test_a_csv_and_fiftyones_json_hold_all_rows(truth: Truth, tmp_path: Path) -> None:
    folder = export(truth, tmp_path, "csv")
    items = list(CsvSource(path=str(folder / "captions.csv")).items())
    assert Counter(item.split for item in items) == {"train": 36, "test": 4}
    assert {item.captions for item in items} == {
        tuple(caption.strip() for caption in row["captions"]) for row in truth.pairs.values()
    }
    with (folder / "captions.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            assert Path(row["image"]).stem == truth.pairs[row["image_id"]]["names"][0]
            assert set(filter(None, row["tags"].split("; "))) == truth.tags(row["image_id"])
            assert row["source_tags"] in ("", "own")
    folder = export(truth, tmp_path, "fiftyone")
    samples = json.loads((folder / "samples.json").read_text("utf-8"))["samples"]
    assert "version" not in json.loads((folder / "metadata.json").read_text())  # by this FiftyOne tells the plain form
    assert len(samples) == 40
    for sample in samples:
        labels = sample["ram_tags"]["classifications"]
        assert {label["_cls"] for label in labels} <= {"Classification"}
        assert {label["label"] for label in labels} == truth.tags(sample["image_id"])
        assert Image.open(io.BytesIO((folder / sample["filepath"]).read_bytes())).size == (384, 384)


@pytest.fixture(scope="module")
def some_bare(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """The report's store, six of whose pictures came without captions."""
    return Truth(make_store(str(tmp_path_factory.mktemp("bare") / "store"), bare=6))


@pytest.mark.parametrize("format_", ["csv", "coco", "webdataset", "huggingface", "official"])
def test_pictures_without_captions_leave_with_none_and_come_back(
    some_bare: Truth, tmp_path: Path, format_: str
) -> None:
    folder = export(some_bare, tmp_path, format_)
    sources: dict[str, Source] = {
        "csv": CsvSource(path=str(folder / "captions.csv")),
        "coco": CocoSource(path=str(folder / "captions_train.json")),
        "webdataset": Img2datasetSource(path=str(folder)),
        "huggingface": HuggingFaceSource(path=str(folder), tags="tags"),
        "official": OfficialSource(path=str(folder / "train.json")),
    }
    back = ingested(tmp_path, sources[format_])
    bare = {image_id for image_id, row in some_bare.pairs.items() if not row["captions"]}
    assert {image_id for image_id, row in back.items() if not row["captions"]} == bare
    for image_id in bare:
        named = {tag["name"] for ready in back[image_id]["ready_tags"] or () for tag in ready["tags"]}
        assert named == (some_bare.tags(image_id) if format_ in ("official", "huggingface") else set())
        assert back[image_id]["split"] == "train" or format_ == "official"  # whose training file names no split
    if format_ == "huggingface":
        assert "6 of them came without captions" in (folder / "README.md").read_text()
    if format_ == "official":  # the authors' code draws a caption and takes its list
        entries = json.loads((folder / "train.json").read_text())
        assert all(len(entry["caption"]) == len(entry["parse_label_id"]) > 0 for entry in entries)


def test_a_csv_and_fiftyones_json_say_what_was_added_to_pictures_without_captions(
    some_bare: Truth, tmp_path: Path
) -> None:
    bare = {image_id for image_id, row in some_bare.pairs.items() if not row["captions"]}
    with (export(some_bare, tmp_path, "csv") / "captions.csv").open(newline="", encoding="utf-8") as file:
        lines = [row for row in csv.DictReader(file) if row["image_id"] in bare]
    assert len(lines) == len(bare) == 6
    for row in lines:
        assert row["caption"] == ""
        assert set(filter(None, row["added"].split("; "))) == some_bare.tags(row["image_id"])
    samples = json.loads((export(some_bare, tmp_path, "fiftyone") / "samples.json").read_text("utf-8"))["samples"]
    without = [sample for sample in samples if sample["captions"] == []]
    assert {sample["image_id"] for sample in without} == bare
    for sample in without:
        labels = {label["label"] for label in sample["ram_tags"]["classifications"]}
        assert labels == some_bare.tags(sample["image_id"])


def test_the_difference_is_what_the_verdicts_say(truth: Truth, tmp_path: Path) -> None:
    folder = export(truth, tmp_path, "diff")
    rows = pq.read_table(folder / "data" / "changes.parquet").to_pylist()
    verdicts = [row for rows in truth.verdicts.values() for row in rows]
    expected = {
        change: {
            (row["image_id"], row["tag_id"])
            for row in verdicts
            if row["kept"] == kept and bool(row["source"] & TagSource.CAPTION) != kept
        }
        for change, kept in (("removed", False), ("added", True))
    }
    ids = {(row["name"], row["type"]): tag_id for tag_id, row in truth.label.items()}
    for change, wanted in expected.items():
        assert wanted
        assert {(row["image_id"], ids[row["tag"], row["type"]]) for row in rows if row["change"] == change} == wanted
    assert {row["stage"] for row in rows if row["change"] == "added"} == {"generate"}
    assert "image" not in rows[0]
    assert "removed" in (folder / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "least", "said_by"),
    [
        (("--min-score", "0.5"), 0.5, ANYONE),
        (("--source", "caption"), 0.0, TagSource.CAPTION),
        (("--source", "generated", "--source", "predicted", "--min-score", "0.3"), 0.3, GENERATED),
    ],
)
def test_a_selection_takes_only_such_tags(
    truth: Truth, tmp_path: Path, options: tuple[str, ...], least: float, said_by: int
) -> None:
    folder = export(truth, tmp_path, "huggingface", "--split", "test", "--no-images", *options)
    assert [file.name for file in (folder / "data").iterdir()] == ["test-00000.parquet"]
    rows = pq.read_table(folder / "data" / "test-00000.parquet").to_pylist()
    assert len(rows) == 4
    for row in rows:
        assert row["image"] is None
        assert set(row["tags"]) == truth.tags(row["image_id"], least, said_by)


def test_images_leave_under_the_names_that_they_came_with(tmp_path: Path) -> None:
    names = {  # by what the source calls it, what it is called
        "holiday/IMG 1.JPG": "holiday/IMG 1.JPG",
        "train/0001": "train/0001.png",
        "../../etc/a.jpg": "etc/a.jpg",
        "/a\\b:c?.jpeg": "a/b_c_.jpeg",
        "holiday/IMG 1.JPG/b.jpg": "4.png",  # its folder is a file
        "ä" * 200 + ".jpg": "5.png",
        "": "6.png",
    }
    png = {"bytes": b"\x89PNG", "path": None}
    rows = [{"image_id": str(number), "image": png, "name": name} for number, name in enumerate(names)]
    saved = [save_image(tmp_path / "images", row) for row in rows]
    assert saved == list(names.values())
    assert save_image(tmp_path / "images", {**rows[0], "image_id": "7"}) == "holiday/IMG 1-7.JPG"
    assert save_image(tmp_path / "images", {**rows[0], "image": None}) == "holiday/IMG 1.JPG"
    assert all((tmp_path / "images" / name).is_file() for name in saved)
    assert {path.name for path in tmp_path.iterdir()} == {"images"}


def test_what_cannot_be_exported_says_why_and_leaves_nothing(truth: Truth, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    for name, options, expected in (
        ("full", ("--format", "csv"), "is not empty"),
        ("new", ("--format", "csv", "--split", "tests"), "no image is of the split 'tests'"),
        ("new", ("--format", "csv", "--source", "guess"), "not by 'guess'"),
        ("new", ("--format", "webdataset", "--no-images"), "leave out --no-images"),
        ("new", ("--format", "folder", "--split", "test"), "are for data"),
        ("new", ("--format", "csv", "--int8"), "are for models"),
    ):
        done = ram_engine("export", str(tmp_path / name), *options, "--store", truth.store.url, check=False)
        assert done.returncode == 1
        assert expected in " ".join(done.stdout.split())
    assert [file.name for file in tmp_path.iterdir()] == ["full"]
    assert (tmp_path / "full" / "file").read_text() == "mine"


def test_exports_begin_before_the_verdicts_and_follow_the_last_round(tmp_path: Path) -> None:
    early = make_store(str(tmp_path / "early"), until="assign-tags")
    done = ram_engine("export", str(tmp_path / "csv"), "--format", "csv", "--store", early.url)
    assert "36 train" in done.stdout
    with (tmp_path / "csv" / "captions.csv").open(newline="", encoding="utf-8") as file:
        assert any(row["tags"] for row in csv.DictReader(file))
    refused = ram_engine("export", str(tmp_path / "d"), "--format", "diff", "--store", early.url, check=False)
    assert "before `judge` has run" in refused.stdout
    late = ExportedStore(make_store(str(tmp_path / "late"), rounds=2))
    assert late.snapshots["tag_verdicts"].artifact == "tag_verdicts-2"
    assert [tag.tag_id for tag in late.active] == [
        tag.tag_id for tag in read_tags(late.store.table(late.snapshots["label_system"])) if tag.active
    ]


def test_without_a_network_the_folder_is_left(truth: Truth, tmp_path: Path) -> None:
    order = ("export", "--format", "csv", "--no-images", "--push-to-hub", "me/data", "--store", truth.store.url)
    unreachable = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_none"}
    for name, environment, expected in (
        ("offline", {}, "is not asked while HF_HUB_OFFLINE is set"),
        ("unreachable", unreachable, "the Hub cannot be reached"),
    ):
        folder = tmp_path / name
        done = ram_engine(*order, str(folder), check=False, env={**os.environ, **environment})
        assert done.returncode == 1
        said = " ".join(done.stdout.split())
        assert expected in said
        assert "is left, to upload later" in said
        assert (folder / "captions.csv").is_file()
