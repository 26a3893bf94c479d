"""Screening: what is nearly the same is found at linear cost, the worse one falls, and nothing held out ever does."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from storage.schemas import check, contract
from tasks.images import near_duplicates
from tasks.images.classifiers import unwanted_probability
from tasks.images.decoding import check_image
from tasks.images.perceptual_hash import HASH_SIDE, perceptual_hash
from tasks.sample_world import world
from tasks.settings.measure import MeasureSettings
from tasks.settings.screen import ScreenSettings
from tasks.sources.sample import SampleSource
from tasks.stages import screen
from tasks.training.targets import ids_by_split
from tests.tasks.stage_inputs import inputs_of


def vectors(count: int, seed: int = 0, width: int = 32) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal((count, width))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_altered_pictures_have_nearly_the_hash_of_the_original() -> None:
    source = SampleSource(train=3)
    pictures = [Image.open(io.BytesIO(world.draw(source, name).image)) for name, _ in world.item_names(source)[:3]]
    for picture in pictures:
        data = io.BytesIO()
        picture.convert("RGB").resize((200, 200)).save(data, "JPEG", quality=50)
        for altered in (Image.open(data), ImageEnhance.Brightness(picture.convert("RGB")).enhance(1.1)):
            assert (perceptual_hash(picture) ^ perceptual_hash(altered)).bit_count() <= 6
    first, second, third = map(perceptual_hash, pictures)
    assert min((first ^ second).bit_count(), (first ^ third).bit_count()) > 10


@pytest.mark.parametrize("size", [(224, 150), (1200, 900), (1999, 1333)])
def test_the_hash_of_a_smaller_decode_is_that_of_the_whole(size: tuple[int, int]) -> None:
    source = SampleSource(train=4)
    for name, _ in world.item_names(source)[:4]:
        data = io.BytesIO()
        Image.open(io.BytesIO(world.draw(source, name).image)).convert("RGB").resize(size).save(data, "JPEG")
        smaller, whole = (check_image(data.getvalue(), side=side).picture for side in (2 * HASH_SIDE, 0))
        assert (smaller.size == whole.size) == (min(size) < 200)
        bits = (perceptual_hash(smaller) ^ perceptual_hash(whole)).bit_count()
        assert bits <= 2 if min(size) >= 200 else bits == 0


def test_near_copies_are_found_across_buckets() -> None:
    many = vectors(3000)
    many[:100] = many[100:200] + 0.02 * vectors(100, 1)
    hashes = np.random.default_rng(2).integers(2**63, size=3000).astype(np.uint64)
    hashes[2000] = hashes[2001] ^ np.uint64(1 << 40)
    many[2000] = many[2001] + 0.3 * vectors(1, 3)[0]
    hashes[500] = hashes[600]  # equal hashes are found wherever they lie
    many /= np.linalg.norm(many, axis=1, keepdims=True)
    near = near_duplicates.find(many.astype(np.float16), hashes, 2, 0.98)
    pairs = {tuple(pair) for pair in near.pairs.tolist()}
    assert sum((at, at + 100) in pairs for at in range(100)) >= 98
    assert {(2000, 2001), (500, 600)} <= pairs
    assert len(pairs) <= 102
    assert near.nearest[0] == 100


@settings(max_examples=12)
@given(st.integers(0, 1200), st.integers(0, 3))
def test_buckets_hold_every_image_once_and_are_small(count: int, seed: int) -> None:
    same = np.ones((count, 4), np.float16) if seed == 3 else vectors(count, seed, 4)
    found = list(near_duplicates.buckets(same, seed))
    assert all(len(bucket) <= near_duplicates.BUCKET for bucket in found)
    together = np.concatenate(found) if found else np.zeros(0)
    assert len(together) == len(np.unique(together))
    assert len(together) >= count - len(found) - 1 or count <= 1


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda one: one[0] < one[1])), st.integers(0, 9))
def test_of_near_duplicates_one_stays(pairs: list[tuple[int, int]], held_out: int) -> None:
    protected = np.arange(10) < held_out
    kept, falls_for = near_duplicates.keep(np.array(pairs, np.int64).reshape(-1, 2), 10, protected)
    assert kept[protected].all()
    for place in range(10):
        if not kept[place]:
            assert kept[falls_for[place]]
            assert (falls_for[place], place) in pairs
    for first, second in pairs:
        assert not (kept[first] and kept[second]) or protected[second]


def measures(**columns: list[object]) -> pa.Table:
    """Images that have nothing in common, but for what ``columns`` say."""
    count = len(next(iter(columns.values())))
    rows: dict[str, object] = {
        "image_id": [f"{at:016x}" for at in range(count)],
        "split": ["train"] * count,
        "width": [640] * count,
        "height": [480] * count,
        "hash": [0xF << (10 * at) for at in range(count)],
        "bare": [False] * count,
        "caption_fits": [[]] * count,
        "unwanted": [None] * count,
        "vector": np.eye(count, 8).tolist(),
        **columns,
    }
    schema = contract("measures").schema
    place = schema.get_field_index("vector")
    schema = schema.set(place, pa.field("vector", pa.list_(pa.float16(), 8)))
    rows["vector"] = [np.array(each, np.float16) for each in rows["vector"]]  # type: ignore[attr-defined]
    return pa.table({field.name: pa.array(rows[field.name], field.type) for field in schema})


def reasons(table: pa.Table, bounds: ScreenSettings = ScreenSettings()) -> list[list[str]]:
    decided = check("screening", screen.decide(table, bounds)).sort_by("image_id")
    assert decided["kept"].to_pylist() == [not one for one in decided["reasons"].to_pylist()]
    return decided["reasons"].to_pylist()


def test_images_fall_for_their_reasons_and_held_out_ones_stay() -> None:
    table = measures(split=["train", "train", "test", "test"], hash=[1, 1, 1, 1], width=[640, 800, 640, 640])
    assert reasons(table) == [["leaks"], ["leaks"], [], []]
    assert reasons(table, ScreenSettings(leakage=False)) == [[], [], [], []]
    table = measures(hash=[1, 1, 1], width=[640, 800, 640])
    assert reasons(table) == [["duplicate"], [], ["duplicate"]]
    worse = screen.decide(table, ScreenSettings()).to_pylist()[-1]
    assert worse["nearest"] == worse["duplicate_of"] == f"{1:016x}"
    assert worse["hash_bits"] == 0
    assert reasons(table, ScreenSettings(hash_bits=-1)) == [[], [], []]
    table = measures(
        width=[100, 900, 640, 640], height=[80, 300, 480, 480],
        caption_fits=[[0.5], [0.5], [-0.1, 0.05], [0.1, 0.3]], unwanted=[0.9, 0.1, None, 0.1],
    )  # fmt: skip
    bounds = ScreenSettings(least_side=90, most_aspect=2, least_caption_fit=0.2, most_unwanted=0.5)
    assert reasons(table, bounds) == [["too_small", "unwanted"], ["too_long"], ["caption_disagrees"], []]
    assert reasons(table) == [["unwanted"], [], [], []]


def test_a_captioned_picture_wins_over_a_larger_one_without_captions() -> None:
    table = measures(hash=[1, 1, 1], width=[640, 1600, 800], bare=[False, True, True])
    assert reasons(table) == [[], ["duplicate"], ["duplicate"]]
    assert {*screen.decide(table, ScreenSettings())["duplicate_of"].to_pylist()} == {None, f"{0:016x}"}
    alone = measures(hash=[1, 1], width=[640, 1600], bare=[True, True])
    assert reasons(alone) == [["duplicate"], []]
    # nothing is measured on one that its source holds out, so that no other leaks into it
    held_out = measures(
        hash=[1, 1, 0xFF00, 0xFF00], split=["train", "test", "train", "test"], bare=[False, True, True, False]
    )
    assert reasons(held_out) == [[], ["duplicate"], ["leaks"], []]


def test_trainings_leave_out_what_was_screened(tmp_path: Path) -> None:
    table = measures(hash=[1, 1, 0xFF << 20], split=["train", "train", "train"])
    pairs = pa.table(
        {
            **{field.name: pa.nulls(3, field.type) for field in contract("pairs").schema},
            "image_id": table["image_id"], "split": table["split"], "sources": [["a"]] * 3, "names": [["a"]] * 3,
            "fingerprints": [["a"]] * 3, "captions": [["a"]] * 3, "sha256": ["a"] * 3, "width": table["width"],
            "height": table["height"], "hash": table["hash"],
        }
    )  # fmt: skip
    both = inputs_of(tmp_path, {"pairs": pairs, "screening": screen.decide(table, ScreenSettings())})
    assert list(ids_by_split(both)["train"]) == [f"{at:016x}" for at in (0, 2)]
    alone = inputs_of(tmp_path / "alone", {"pairs": pairs})
    assert len(ids_by_split(alone)["train"]) == 3


def test_any_classifier_in_onnx_form_is_a_filter(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    mean = onnx.helper.make_node("ReduceMean", ["images"], ["means"], axes=[2, 3], keepdims=0)
    graph = onnx.helper.make_graph(
        [mean],
        "brightness",
        [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["n", 3, 8, 8])],
        [onnx.helper.make_tensor_value_info("means", onnx.TensorProto.FLOAT, ["n", 3])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    file = str(tmp_path / "classifier.onnx")
    onnx.save(model, file)
    red = unwanted_probability(file, (0,), torch.device("cpu"))
    likely, unlikely = red([Image.new("RGB", (20, 10), "red"), Image.new("RGB", (20, 10), "blue")])
    assert likely > 0.9 > 0.1 > unlikely
    with pytest.raises(ValueError, match="has 3 classes"):
        unwanted_probability(file, (3,), torch.device("cpu"))([Image.new("RGB", (8, 8))])
    with pytest.raises(ValueError, match="does not exist"):
        unwanted_probability("none.onnx", (0,), torch.device("cpu"))
    with pytest.raises(ValueError, match="go together"):
        MeasureSettings(classifier="timm:resnet18")
