from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from PIL import Image

from storage.schemas import check
from tasks.images.decoding import decode_image
from tasks.images.tokens import token_matrix
from tasks.settings.encode import EncodeSettings
from tasks.settings.executor import ExecutorSettings
from tasks.stages.encode import _encoder, augment, build, crop_of, views_of
from tasks.training.data import store_tokens
from tasks.training.ids import ImageIds
from tests.conftest import shared
from tests.tasks.stage_inputs import inputs_of

Encode = Callable[[Mapping[str, pa.Table]], Mapping[str, pa.Table]]
SETTINGS = EncodeSettings(image_size=64, fine_tune_size=96, views=2)


def pictures() -> dict[str, Image.Image]:
    chance = np.random.default_rng(0)
    return {
        f"{number:016x}": Image.fromarray(chance.integers(0, 255, (50, 70, 3), dtype=np.uint8)) for number in range(4)
    }


def shard(splits: list[str], caption: str = "a picture") -> dict[str, pa.Table]:
    """Pairs and their image files."""
    rows, images = [], []
    for (image_id, picture), split in zip(pictures().items(), splits, strict=False):
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        image = {"bytes": buffer.getvalue(), "path": f"{image_id}.png"}
        rows.append({"image_id": image_id, "captions": [caption], "split": split, "width": 70, "height": 50})
        images.append({"image_id": image_id, "image": image})
    return {"pairs": pa.Table.from_pylist(rows), "images": pa.Table.from_pylist(images)}


@pytest.fixture(scope="module")
def encode(tmp_path_factory: pytest.TempPathFactory) -> Encode:
    return build(SETTINGS, inputs_of(tmp_path_factory.mktemp("encode"), {}), ExecutorSettings(device="cpu"))


@pytest.fixture(scope="module")
def encoded(encode: Encode) -> pa.Table:
    table = encode(shard(["train", "train", "calibrate", "test"]))["features"]
    return check("features", table)


def test_training_images_get_views_and_the_others_the_higher_resolution(encoded: pa.Table) -> None:
    rows = zip(*encoded.select(["image_id", "view", "image_size"]).to_pydict().values(), strict=True)
    first, second, third, fourth = pictures()
    assert sorted(rows) == sorted(
        [(first, 0, 64), (first, 1, 64), (second, 0, 64), (second, 1, 64)]
        + [(image_id, 0, size) for image_id in (third, fourth) for size in (64, 96)]
    )
    assert set(encoded["image_encoder"].to_pylist()) == {"tf_efficientnet_lite0"}


def test_the_mean_token_stands_first(encoded: pa.Table) -> None:
    for tokens in encoded["tokens"]:
        values = np.array(tokens.as_py(), np.float32)
        assert values.shape[1] == 1280
        assert np.allclose(values[0], values[1:].mean(axis=0), rtol=1e-2, atol=2e-3)


def test_tokens_do_not_depend_on_the_other_images_of_the_shard(encode: Encode, encoded: pa.Table) -> None:
    four = shard(["train", "train", "calibrate", "test"])
    alone = encode({name: table.slice(1, 1) for name, table in four.items()})["features"]
    same = encoded.filter(pc.field("image_id") == list(pictures())[1])
    assert alone["view"].to_pylist() == same["view"].to_pylist() == [0, 1]
    assert np.allclose(token_matrix(alone["tokens"]), token_matrix(same["tokens"]), atol=5e-3)


def test_an_empty_shard_gives_an_empty_table(encode: Encode) -> None:
    table = encode({name: table.slice(0, 0) for name, table in shard(["train"]).items()})["features"]
    assert check("features", table).num_rows == 0


def test_stored_tokens_are_found_by_image_and_view(encoded: pa.Table, tmp_path: Path) -> None:
    second, first = list(pictures())[1::-1]
    images = store_tokens(
        inputs_of(tmp_path, {"features": encoded}), ImageIds.of([second, first]), 64, tmp_path / "tokens"
    )
    assert len(images) == 2
    (tokens,) = images.whole([np.array([1, 0])])
    table = encoded.filter((pc.field("view") == 0) & (pc.field("image_size") == 64))
    by_id = dict(zip(table["image_id"].to_pylist(), token_matrix(table["tokens"]).astype(np.float32), strict=True))
    assert np.array_equal(tokens.numpy(), np.stack([by_id[first], by_id[second]]))
    with pytest.raises(ValueError, match="no tokens at 96"):
        store_tokens(inputs_of(tmp_path / "again", {"features": encoded}), ImageIds.of([first]), 96, tmp_path / "other")


def test_what_a_view_shows_is_fixed_by_image_and_view() -> None:
    image_id = next(iter(pictures()))
    assert crop_of(image_id, 0, 0.5) == (0, 0, 1, 1)
    crops = [crop_of(image_id, view, 0.5) for view in range(1, 4)]
    assert crops == [crop_of(image_id, view, 0.5) for view in range(1, 4)]
    assert len(set(crops)) == 3
    for x0, y0, x1, y1 in crops:
        assert min(x0, y0) >= 0
        assert max(x1, y1) <= 1
        assert 0.45 < (x1 - x0) * (y1 - y0) <= 1


def test_a_view_is_cropped_and_mirrored() -> None:
    picture = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    assert augment(picture, (0, 0, 1, 1), False) is picture
    assert np.array_equal(augment(picture, (0, 0.25, 0.5, 1), False), np.asarray(picture)[2:, :4])
    assert np.array_equal(augment(picture, (0, 0, 1, 1), True), np.asarray(picture)[:, ::-1])


@pytest.mark.parametrize(("caption", "mirrored"), [("a picture", True), ("a dog on the left", False)])
def test_odd_views_are_mirrored_where_they_may_be(caption: str, mirrored: bool) -> None:
    tables = shard(["train"], caption)
    pair = {**tables["pairs"].to_pylist()[0], **tables["images"].to_pylist()[0]}
    whole, *others = views_of(pair, {64: 3}, EncodeSettings(image_size=64, crop_area=1.0))
    for view, other in enumerate(others, 1):
        crop = crop_of(pair["image_id"], view, 1.0)
        assert np.array_equal(other, augment(whole, crop, mirrored and view == 1))


def test_large_photographs_keep_their_features() -> None:
    """They are decoded smaller; what the encoder sees of them is what it would see of the whole."""
    encoder, means = _encoder("tf_efficientnet_lite0", 224, torch.device("cpu")), []
    for number, file in enumerate(sorted(shared("data/coco_photographs/images").glob("*.jpg"))[:6]):
        size = ((2016, 1344), (1500, 1346), (2753, 2715))[number % 3]  # the last no multiple of a scale
        enlarged = np.asarray(Image.open(file).convert("RGB").resize(size, Image.Resampling.BICUBIC), np.float32)
        noise = np.random.default_rng(number).normal(0, 5, (*enlarged.shape[:2], 1)).astype(np.float32)
        data = io.BytesIO()
        Image.fromarray((enlarged + noise).clip(0, 255).astype(np.uint8)).save(data, "JPEG", quality=85)
        whole, smaller = (decode_image(data.getvalue(), side=side) for side in (0, 224))
        assert smaller.width <= whole.width // 2
        pillow = whole.resize((224, 224), Image.Resampling.BICUBIC)
        views = [("whole", 0, encoder.prepare(pillow)), ("smaller", 0, encoder.prepare(smaller))]
        alike = cosines(*token_matrix(encoder.features(views)["tokens"]).astype(np.float32))
        means.append(alike[0])
        assert np.median(alike[1:]) > 0.998
    assert min(means) > 0.999


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    found = (first * second).sum(-1) / np.linalg.norm(first, axis=-1) / np.linalg.norm(second, axis=-1)
    return np.asarray(found)
