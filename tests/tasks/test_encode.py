from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from PIL import Image

from storage.schemas import check
from tasks.images.tokens import token_matrix
from tasks.settings.encode import EncodeSettings
from tasks.settings.executor import ExecutorSettings
from tasks.stages.encode import augment, build
from tasks.training.data import store_tokens
from tasks.training.ids import ImageIds
from tests.tasks.stage_inputs import inputs_of

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
def encoded(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    encode = build(SETTINGS, inputs_of(tmp_path_factory.mktemp("encode"), {}), ExecutorSettings(device="cpu"))
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


def test_tokens_do_not_depend_on_the_other_images_of_the_shard(encoded: pa.Table, tmp_path: Path) -> None:
    encode = build(SETTINGS, inputs_of(tmp_path, {}), ExecutorSettings(device="cpu"))
    four = shard(["train", "train", "calibrate", "test"])
    alone = encode({name: table.slice(1, 1) for name, table in four.items()})["features"]
    same = encoded.filter(pc.field("image_id") == list(pictures())[1])
    assert alone["view"].to_pylist() == same["view"].to_pylist() == [0, 1]
    assert np.allclose(token_matrix(alone["tokens"]), token_matrix(same["tokens"]), atol=5e-3)


def test_an_empty_shard_gives_an_empty_table(tmp_path: Path) -> None:
    encode = build(SETTINGS, inputs_of(tmp_path, {}), ExecutorSettings(device="cpu"))
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


def test_augmentation_is_fixed_by_image_and_view() -> None:
    image_id, picture = next(iter(pictures().items()))
    assert augment(picture, image_id, 0, 0.5, True) is picture
    first, again = (augment(picture, image_id, 1, 0.5, True) for _ in range(2))
    assert first.tobytes() == again.tobytes()
    other_view = augment(picture, image_id, 3, 0.5, True)
    assert first.size != other_view.size or first.tobytes() != other_view.tobytes()
    for view in range(1, 4):
        cropped = augment(picture, image_id, view, 0.5, True)
        assert 0.45 < cropped.width * cropped.height / (70 * 50) <= 1


def test_odd_views_are_mirrored_where_they_may_be() -> None:
    picture = Image.fromarray(np.repeat(np.linspace(0, 255, 64, dtype=np.uint8)[None], 64, axis=0))
    brighter_right = [
        np.asarray(augment(picture, "ab", view, 1.0, mirror))[:, [0, -1]].mean(axis=0) @ [-1, 1] > 0
        for view, mirror in [(1, True), (1, False), (2, True)]
    ]
    assert brighter_right == [False, True, True]
