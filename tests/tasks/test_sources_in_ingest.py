"""Ingest of files of many images, of several sources at once, and of tags that the source gives."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models import Label
from storage.schemas import DESCRIBED, contract
from storage.store import Store
from tasks.evaluation.known import known_targets, measured
from tasks.evaluation.verdict import FEWEST
from tasks.machine.inputs import Inputs
from tasks.settings.executor import ExecutorSettings
from tasks.settings.ingest import IngestSettings
from tasks.settings.parse_captions import ParseCaptionsSettings
from tasks.settings.training import TrainSettings
from tasks.sources import SourceError
from tasks.sources.csv_file import CsvSource
from tasks.sources.datasets_library import DatasetsSource
from tasks.sources.huggingface import HuggingFaceSource
from tasks.sources.img2dataset import Img2datasetSource
from tasks.sources.labels_file import LabelsSource
from tasks.sources.mixed import MixedSource
from tasks.sources.official import OfficialSource
from tasks.stages import parse_captions
from tasks.training.data import TagColumns
from tasks.training.gradient import data_order
from tasks.training.ids import ImageIds
from tasks.training.material import _weights
from tests.tasks.stage_inputs import inputs_of
from tests.tasks.test_containers import write_tar
from tests.tasks.test_ingest import ingest_all, picture


def rows_of(store: Store, artifact: str = "pairs") -> list[dict[str, Any]]:
    snapshot = store.snapshot(artifact)
    assert snapshot is not None
    return store.table(snapshot).to_pylist()


def write_parquet(path: Path, shades: range, **changes: str) -> None:
    rows = [
        {
            "image": {"bytes": picture(shade), "path": None},
            "caption": changes.get(f"c{shade}", f"shade {shade}"),
            "n": shade,
        }
        for shade in shades
    ]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=4)


def test_only_files_that_changed_are_read_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write_parquet(data / "a.parquet", range(0, 10))
    write_parquet(data / "b.parquet", range(10, 20))
    store = Store(tmp_path / "store")
    settings = IngestSettings(source=HuggingFaceSource(path=str(data)), shard_size=4)
    assert ingest_all(store, settings) == 2
    assert len(rows_of(store)) == 20
    for row in rows_of(store):
        assert json.loads(row["extra"]) == {"n": int(row["captions"][0].removeprefix("shade "))}
    assert ingest_all(store, settings) == 0
    os.utime(data / "a.parquet", (1, 1))  # touched: its contents decide
    assert ingest_all(store, settings) == 0
    write_parquet(data / "c.parquet", range(20, 25))
    assert ingest_all(store, settings) == 1
    write_parquet(data / "b.parquet", range(10, 20), c15="other one")
    assert ingest_all(store, settings) == 1
    captions = {row["captions"][0] for row in rows_of(store)}
    assert len(rows_of(store)) == 25
    assert "other one" in captions
    assert "shade 15" not in captions
    (data / "a.parquet").rename(tmp_path / "a.parquet")
    assert ingest_all(store, settings) == 0
    assert len(rows_of(store)) == 15
    assert ingest_all(store, settings) == 0
    (tmp_path / "a.parquet").rename(data / "a.parquet")
    ingest_all(store, settings)
    assert len(rows_of(store)) == 25
    assert ingest_all(store, settings) == 0


def test_a_data_set_is_loaded_by_its_name(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    write_parquet(tmp_path / "train.parquet", range(300))
    store = Store(tmp_path / "store")
    settings = IngestSettings(source=DatasetsSource(path=str(tmp_path)), max_pixels=10**6)
    assert ingest_all(store, settings) == 2
    assert len(rows_of(store)) == 256  # of 300 shades a picture shows 256
    assert ingest_all(store, settings) == 0
    with pytest.raises(SourceError, match="cannot be loaded"):
        ingest_all(store, IngestSettings(source=DatasetsSource(path=str(tmp_path / "none"))))


def test_a_data_set_names_no_file_outside_of_its_folder(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    data, secret = tmp_path / "data", tmp_path / "secret.png"
    (data / "images").mkdir(parents=True)
    secret.write_bytes(picture(7))
    (data / "images" / "own.png").write_bytes(picture(8))
    (data / "images" / "link.png").symlink_to(secret)
    paths = [str(secret), "../secret.png", "images/link.png", "images/own.png", str(data / "images" / "own.png"), ""]
    rows = [{"image": {"bytes": None, "path": path}, "caption": f"number {at}"} for at, path in enumerate(paths)]
    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    schema = pa.schema({"image": image, "caption": pa.string()})
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), data / "train.parquet")
    source = DatasetsSource(path=str(data), image="image", captions=["caption"])
    (file,) = source.items()
    (piece,) = source.divide(file)
    problems = [item.problem[0] if item.problem else item.path for item in source.read(piece)]
    own = str(data / "images" / "own.png")
    assert problems == [*["image_outside_folder"] * 3, own, own, "image_missing"]


def test_a_row_of_a_data_set_costs_itself(tmp_path: Path) -> None:
    """A text that is not UTF-8, a path with a NUL, no picture; and a column of dates beyond all dates."""
    pytest.importorskip("datasets")
    good = {"bytes": picture(1), "path": None}
    images = [good, {"bytes": b"odd", "path": None}, {"bytes": None, "path": "n\0l/x"}, good, None, good]
    captions = pa.array([b"a dog", b"odd", b"odd", b"\xff", b"odd", b"a cat"], pa.binary()).view(pa.string())
    columns = {"image": images, "caption": captions, "when": pa.array([2**60] * 6, pa.timestamp("ms"))}
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    store = Store(tmp_path / "store")
    ingest_all(store, IngestSettings(source=DatasetsSource(path=str(tmp_path))))
    assert [row["captions"] for row in rows_of(store)] == [["a dog", "a cat"]]
    assert [row["reason"] for row in rows_of(store, "pairs_rejected")] == [
        "image_unreadable",
        "image_outside_folder",
        "not_utf8",
        "image_missing",
    ]


def test_a_limit_takes_the_first_images(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", range(10))
    store = Store(tmp_path / "store")
    for limit, expected in ((3, 3), (7, 7), (0, 10)):
        source = HuggingFaceSource(path=str(tmp_path / "a.parquet"), limit=limit)
        ingest_all(store, IngestSettings(source=source))
        assert len(rows_of(store)) == expected
        assert ingest_all(store, IngestSettings(source=source)) == 0


@pytest.fixture
def mixed(tmp_path: Path) -> IngestSettings:
    """The image of shade 1 stands in both sources."""
    (tmp_path / "images").mkdir()
    for shade in (0, 1):
        (tmp_path / "images" / f"{shade}.png").write_bytes(picture(shade))
    (tmp_path / "c.csv").write_text("image,caption,licence,mood\n0.png,zero,MIT,\n1.png,one,,calm\n")
    about = json.dumps({"url": "http://x/1", "NSFW": 0.5}).encode()
    write_tar(
        tmp_path / "t" / "a.tar",
        [("1.png", picture(1)), ("1.txt", b"uno"), ("1.json", about), ("2.png", picture(2)), ("2.txt", b"dos")],
    )
    parts = (CsvSource(path=str(tmp_path / "c.csv")), Img2datasetSource(path=str(tmp_path / "t")))
    return IngestSettings(source=MixedSource(parts=parts))


def test_one_image_in_two_sources_is_one_with_all_captions_and_columns(tmp_path: Path, mixed: IngestSettings) -> None:
    store = Store(tmp_path / "store")
    first = mixed.model_copy(update={"source": mixed.source.parts[0]})
    ingest_all(store, first)
    assert ingest_all(store, mixed) == 1  # the first source is not read again
    rows = {tuple(row["captions"]): row for row in rows_of(store)}
    assert set(rows) == {("zero",), ("one", "uno"), ("dos",)}
    both = rows["one", "uno"]
    assert both["sources"] == ["csv:c.csv", "img2dataset:t"]
    assert both["url"] == "http://x/1"
    assert json.loads(both["extra"]) == {"NSFW": 0.5, "mood": "calm"}
    assert ingest_all(store, mixed) == 0


@pytest.mark.parametrize("shard_size", [1, 256])
def test_an_image_that_left_one_source_stays_by_the_other(
    tmp_path: Path, mixed: IngestSettings, shard_size: int
) -> None:
    mixed = mixed.model_copy(update={"shard_size": shard_size})
    store = Store(tmp_path / "store")
    ingest_all(store, mixed)
    file = tmp_path / "c.csv"
    file.write_text(file.read_text().replace("1.png,one,,calm\n", ""))
    for _ in range(2):
        ingest_all(store, mixed)
        assert sorted(row["captions"] for row in rows_of(store)) == [["dos"], ["uno"], ["zero"]]
    (tmp_path / "t" / "a.tar").unlink()
    write_tar(tmp_path / "t" / "b.tar", [("2.png", picture(2)), ("2.txt", b"dos")])
    file.write_text("image,caption\n0.png,zero\n1.png,one\n")
    ingest_all(store, mixed)
    assert sorted(row["captions"] for row in rows_of(store)) == [["dos"], ["one"], ["zero"]]


def test_sources_are_seen_as_often_as_their_weight_asks(tmp_path: Path, mixed: IngestSettings) -> None:
    store = Store(tmp_path / "store")
    ingest_all(store, mixed)
    pairs = store.snapshot("pairs")
    assert pairs is not None
    rows = rows_of(store)
    ids = ImageIds.of(row["image_id"] for row in rows)
    inputs = Inputs(store, {"pairs": pairs})
    weights = _weights(inputs, ids, TrainSettings(source_weights=("img2dataset:t=3",)))
    assert weights is not None
    assert weights.tolist() == [3.0 if "img2dataset:t" in row["sources"] else 1.0 for row in rows]
    assert _weights(inputs, ids, TrainSettings()) is None
    with pytest.raises(ValueError, match="there is no source 'x'"):
        _weights(inputs, ids, TrainSettings(source_weights=("x=2",)))
    with pytest.raises(ValueError, match="SOURCE=WEIGHT"):
        TrainSettings(source_weights=("x",))


def test_an_epoch_of_weighted_images_is_as_long_and_as_heavy_as_it_should_be() -> None:
    weights = np.array([1.0] * 30 + [3.0] * 10)
    order = np.concatenate(data_order(40, 7, 5, weights))
    counts = np.bincount(order, minlength=40)
    assert len(order) == 40
    assert set(counts[30:]) <= {1, 2, 3}
    assert set(counts[:30]) <= {0, 1}
    assert counts[30:].sum() == pytest.approx(20, abs=1)
    assert sorted(np.concatenate(data_order(40, 7, 5))) == list(range(40))


def test_tags_that_the_source_gives_are_not_parsed(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / "tag_list.txt").write_text("zeppelin\nscarlet\tattribute\nmoor\n")
    entry = {
        "image_path": "a.png", "caption": ["a dog on the beach", "a cat"],
        "union_label_id": [0, 1, 2], "parse_label_id": [[0, 1], []],
    }  # fmt: skip
    (tmp_path / "train.json").write_text(json.dumps([entry]))
    store = Store(tmp_path / "store")
    ingest_all(store, IngestSettings(source=OfficialSource(path=str(tmp_path / "train.json"))))
    pairs = store.snapshot("pairs")
    assert pairs is not None
    parse = parse_captions.build(ParseCaptionsSettings(), Inputs(store, {}), ExecutorSettings())
    phrases = parse({"pairs": store.table(pairs)})["phrases"].to_pylist()
    found = {row["caption_index"]: [(one["lemma"], one["type"]) for one in row["phrases"]] for row in phrases}
    assert found[0] == [("zeppelin", "object"), ("scarlet", "attribute")]
    assert found[1] == []
    assert [name for name, _ in found[-1]] == ["moor"]


def test_labels_of_ones_own_are_held_out_and_count_as_the_truth_where_they_name_everything(tmp_path: Path) -> None:
    """A captioned picture that is labelled too leaves training; enough described ones are what is measured on."""
    names = [f"{shade}.png" for shade in range(60)]
    for shade, name in enumerate(names):
        (tmp_path / name).write_bytes(picture(shade))
    captioned, labelled = names[:10], names[5:]
    lines = [f"{name},a cat" for name in captioned]
    (tmp_path / "captions.csv").write_text("\n".join(["image,caption", *lines]))
    lines = [f"{name},{'dog' if at % 2 else ''},yes" for at, name in enumerate(labelled)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,tag,described", *lines]))
    parts = (CsvSource(path=str(tmp_path / "captions.csv")), LabelsSource(path=str(tmp_path / "labels.csv")))
    store = Store(tmp_path / "store")
    ingest_all(store, IngestSettings(source=MixedSource(parts=parts), test_share=0.3, calibrate_share=0.1))
    pairs = rows_of(store)
    own = [row for row in pairs if "labels:labels.csv" in row["sources"]]
    assert len(own) == len(labelled)
    assert {row["split"] for row in own} == {"test", "calibrate"}
    test = sorted(row["image_id"] for row in own if row["split"] == "test")
    assert FEWEST <= len(test) < len(own)
    both = next(row for row in own if row["captions"])
    assert [one["caption_index"] for one in both["ready_tags"]] == [DESCRIBED]

    parse = parse_captions.build(ParseCaptionsSettings(), Inputs(store, {}), ExecutorSettings())
    phrases = parse({"pairs": _pairs(store)})["phrases"].to_pylist()
    tags = {"cat": 0, "dog": 1}
    named = [{**row, "tag_ids": [tags[phrase["lemma"]] for phrase in row["phrases"]]} for row in phrases]
    schema = contract("caption_tags").schema
    inputs = inputs_of(
        tmp_path / "known",
        {"pairs": _pairs(store), "caption_tags": pa.Table.from_pylist(named, schema)},
    )
    columns = TagColumns((0, 1), (Label("cat"), Label("dog")))
    ids, against = measured(inputs, sorted(row["image_id"] for row in pairs if row["split"] == "test"))
    assert (ids, against) == (test, "described")
    truth = known_targets(inputs, ids, columns, against).toarray()
    dogs = {row["image_id"] for row in own if row["names"][0] in labelled[1::2]}
    assert not truth[:, 0].any()  # that captions say cat counts nothing where a person named everything
    assert [image_id in dogs for image_id in ids] == truth[:, 1].tolist()
    few = [*ids[: FEWEST - 1], "f" * 16]
    assert measured(inputs, few)[0] == few  # too few to measure on alone


def _pairs(store: Store) -> pa.Table:
    return pa.Table.from_pylist(rows_of(store), contract("pairs").schema)
