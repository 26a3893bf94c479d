"""What a training reads of a store of many parts: the same as is there when all is read at once."""

from __future__ import annotations

import pickle
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_matrix

import tasks.machine.inputs
import tasks.training.calibration
from models import Label
from storage.schemas import DESCRIBED, contract
from storage.store import Snapshot, Store
from tasks.machine.inputs import Inputs
from tasks.settings.encode import EncodeSettings
from tasks.settings.training import TrainSettings
from tasks.stages.calibrate import _DESCRIBED, _SEVERAL_CAPTIONS, _by_tag
from tasks.stages.encode import token_array
from tasks.training.blueprint import Blueprint
from tasks.training.data import TagColumns, store_tokens
from tasks.training.ids import ImageIds, fold_of
from tasks.training.jobs import with_folds
from tasks.training.material import gather
from tasks.training.scratch import is_soft, mean_targets
from tasks.training.targets import (
    BY_CAPTIONS,
    BY_DESCRIPTION,
    BY_TRUTH,
    by_generation,
    by_verdicts,
    described_ids,
    ids_by_split,
    matrix,
    mention_shares,
    store_targets,
)
from tasks.training.whitening import Whitening

IMAGES, PARTS, TAGS, WIDTH = 60, 7, 6, 8
QUERIES = [
    BY_CAPTIONS,
    BY_DESCRIPTION,
    BY_TRUTH,
    *(by(soft) for by in (by_verdicts, by_generation) for soft in (True, False)),
]
NAMES = [f"tag {tag}" for tag in range(TAGS)]
LABELS = TagColumns(tuple(range(1, TAGS)), tuple(Label(name) for name in NAMES[1:]))  # the first is switched off


def rows_of(name: str, rows: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=contract(name).schema)


def of_images(ids: list[str], chance: random.Random) -> dict[str, pa.Table]:
    """What a store may have of some images; some have no verdicts, captions or generated tags."""

    def some() -> list[int]:
        return sorted(chance.sample(range(TAGS), chance.randrange(TAGS)))

    names = ("pairs", "caption_tags", "generated", "tag_verdicts", "truth")
    rows: dict[str, list[dict[str, object]]] = {name: [] for name in names}
    for image_id in ids:
        texts = [f"caption {number} of {image_id}" for number in range(chance.randint(1, 3))]
        split = chance.choice(["train", "train", "train", "calibrate", "test"])
        rows["pairs"].append(
            {
                **dict.fromkeys(contract("pairs").schema.names, ()),
                **dict.fromkeys(("url", "licence", "extra"), None),
                **{"image_id": image_id, "captions": texts, "split": split, "sources": ["a"], "sha256": image_id},
                **{"width": 8, "height": 8, "hash": 0},
            }
        )
        said = [number for number in (DESCRIBED, *range(len(texts))) if chance.random() < 0.7]
        rows["caption_tags"] += [{"image_id": image_id, "caption_index": at, "tag_ids": some()} for at in said]
        rows["generated"].append(
            {
                "image_id": image_id,
                "captions": [],
                "caption_tag_ids": [],
                "caption_fits": [],
                "original_caption_fits": [],
                "scores": [{"tag_id": tag, "score": chance.random()} for tag in some()],
                "predicted": [],
            }
        )
        rows["tag_verdicts"] += [
            {
                "image_id": image_id,
                "tag_id": tag,
                "source": chance.randrange(1, 8),
                "kept": chance.random() < 0.5,
                "reason": "kept",
                **{name: chance.random() for name in ("score", "target", "confidence")},
            }
            for tag in some()
        ]
        shown = [{"name": NAMES[tag], "type": chance.choice(["object", "scene"])} for tag in some()]
        rows["truth"].append({"image_id": image_id, "objects": [], "tags": shown, "caption_of": image_id})
    return {name: rows_of(name, own) for name, own in rows.items()}


def features_of(pairs: pa.Table, chance: random.Random) -> pa.Table:
    """Two views of training images, one of others, their rows in no particular order; another size beside them."""
    rows = [
        (image_id, view, size)
        for image_id, split in zip(pairs["image_id"].to_pylist(), pairs["split"].to_pylist(), strict=True)
        for size in (224, 96)
        for view in range(2 if split == "train" else 1)
    ]
    chance.shuffle(rows)
    ids, views, sizes = map(list, zip(*rows, strict=True))
    tokens = np.array([[[int(one[:4], 16) / 9e4 + view + at / 9] * WIDTH for at in range(3)] for one, view, _ in rows])
    tokens *= np.arange(1, WIDTH + 1)
    return pa.table(
        {
            "image_id": ids,
            "view": pa.array(views, pa.int8()),
            "image_size": pa.array(sizes, pa.int16()),
            "image_encoder": ["tf_efficientnet_lite0"] * len(ids),
            "tokens": token_array(tokens.astype(np.float16)),
        }
    )


def store_of(folder: Path, seed: int) -> Inputs:
    """A store of several parts, from which some images have left, with those artifacts that are one part."""
    chance = random.Random(seed)
    ids = [f"{chance.randrange(2**64):016x}" for _ in range(IMAGES)]
    store = Store(folder / "store")
    parts: dict[str, list[object]] = {}
    tombstones = {}
    for number in range(PARTS):
        own, partition = ids[number::PARTS], f"{number:016x}"
        tables = of_images(own, chance)
        tables["features"] = features_of(tables["pairs"], chance)
        for name, table in tables.items():
            parts.setdefault(name, []).append(store.write_part(name, partition, partition, table))
        tombstones[partition] = chance.sample(own, chance.randrange(3))
    parts["generated"].pop()  # of what is in this partition nothing was generated
    label = {"type": "object", "synonyms": [], "count": 1, "groundable": True, "prompt": ""}
    system = [{**label, "tag_id": tag, "name": NAMES[tag], "active": tag > 0} for tag in range(TAGS)]
    parts["label_system"] = [store.write_part("label_system", "a" * 16, "", rows_of("label_system", system))]
    settings = EncodeSettings(fine_tune_size=96).model_dump(mode="json")
    snapshots = {
        name: Snapshot(name, "a" * 16, "test", "test", tuple(own), tombstones=tombstones, settings=settings)
        for name, own in parts.items()
    }
    return Inputs(store, {name: store.publish(snapshot) for name, snapshot in snapshots.items()})


@pytest.fixture(params=[0, 1, 2])
def inputs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inputs:
    monkeypatch.setattr(tasks.machine.inputs, "PIECE", 2)
    return store_of(tmp_path, request.param)


def plainly(table: pa.Table, ids: ImageIds, tags: TagColumns) -> np.ndarray:
    """The greatest target of each pair, found one by one."""
    targets = np.zeros((len(ids), len(tags.ids)), np.float32)
    places = {image_id: at for at, image_id in enumerate(ids)}
    for row in table.to_pylist():
        if row["image_id"] in places and row["tag_id"] in tags.column:
            cell = places[row["image_id"]], tags.column[row["tag_id"]]
            targets[cell] = max(targets[cell], row["target"])
    return targets


@pytest.mark.parametrize("query", QUERIES)
def test_targets_are_those_of_the_query_over_all_parts(inputs: Inputs, tmp_path: Path, query: str) -> None:
    ids = ids_by_split(inputs)["train"]
    ids = ids.subset(np.random.default_rng(0).permutation(len(ids)))
    expected = plainly(inputs.sql(query), ids, LABELS)
    assert expected.any()
    in_memory = matrix(inputs.sql_by_piece(query), ids, LABELS)
    stored = store_targets(inputs.sql_by_piece(query), ids, LABELS, tmp_path / "targets")
    assert (in_memory.toarray() == expected).all()
    assert (stored.toarray() == expected).all()
    chosen = np.array([5, 2, 2, 9])
    assert (stored[chosen].toarray() == expected[chosen]).all()
    assert (stored[:0].toarray() == expected[:0]).all()
    np.testing.assert_allclose(mean_targets(stored), expected.mean(axis=0), rtol=1e-6)
    assert is_soft(stored) == is_soft(in_memory)
    if query == BY_CAPTIONS:
        np.testing.assert_allclose(mention_shares(inputs, ids, LABELS), expected.mean(axis=0), rtol=1e-6)


def test_images_are_known_by_split_and_place(inputs: Inputs) -> None:
    rows = inputs.table("pairs", ["image_id", "split"]).to_pylist()
    for split in ("train", "calibrate", "fine_tune"):
        ids = ids_by_split(inputs)[split]
        assert list(ids) == sorted(row["image_id"] for row in rows if row["split"] == split)
        asked = [row["image_id"] for row in rows]
        assert ids.finder()(asked).tolist() == [list(ids).index(one) if one in list(ids) else -1 for one in asked]
        assert ids.folds(3).tolist() == [fold_of(image_id, 3) for image_id in ids]
    said = inputs.table("caption_tags").to_pylist()
    described = {row["image_id"] for row in said if row["caption_index"] == DESCRIBED}
    few = [row["image_id"] for row in rows[::2]]
    assert described_ids(inputs, few) == [image_id for image_id in few if image_id in described]


def tokens_by_view(inputs: Inputs, size: int) -> Mapping[tuple[str, int], list[object]]:
    rows = inputs.table("features").to_pylist()
    return {(row["image_id"], row["view"]): row["tokens"] for row in rows if row["image_size"] == size}


@pytest.mark.parametrize("only_mean", [False, True])
def test_tokens_are_those_of_each_image_and_view(inputs: Inputs, tmp_path: Path, only_mean: bool) -> None:
    ids = ids_by_split(inputs)["train"]
    ids = ids.subset(np.random.default_rng(0).permutation(len(ids)))
    images = store_tokens(inputs, ids, 96, tmp_path / "tokens", only_mean)
    stored, expected = np.memmap(images.file, np.float16, "r", shape=images.shape), tokens_by_view(inputs, 96)
    assert images.views.tolist() == [2] * len(ids)
    assert images.shape[0] == sum(view < 2 and image_id in set(ids) for image_id, view in expected)
    for at, image_id in enumerate(ids):
        for view in range(2):
            tokens = np.array(expected[image_id, view], np.float16)[: 1 if only_mean else None]
            assert (stored[images.first[at] + view] == tokens).all()
    with pytest.raises(ValueError, match=f"image {7:016x} has no tokens at 96 pixels"):
        store_tokens(inputs, ImageIds.of([ids[0], f"{7:016x}"]), 96, tmp_path / "other")


@pytest.mark.parametrize("components", [0, 4])
def test_tokens_are_whitened_where_they_lie(inputs: Inputs, tmp_path: Path, components: int) -> None:
    images = store_tokens(inputs, ids_by_split(inputs)["train"], 224, tmp_path / "tokens")
    whitening = Whitening.of_tokens(images, components)
    elsewhere = images.mapped(whitening, tmp_path / "elsewhere")
    assert images.mapped(whitening, images.file) == elsewhere == (*images.shape[:2], components or WIDTH)
    assert images.file.read_bytes() == (tmp_path / "elsewhere").read_bytes()


def test_captions_and_the_tags_that_they_name_are_found_again(inputs: Inputs, tmp_path: Path) -> None:
    settings = TrainSettings(caption=True, architecture="tag2text")
    said = {row["image_id"]: row["captions"] for row in inputs.table("pairs").to_pylist()}
    named = {
        (row["image_id"], row["caption_index"]): [NAMES[tag] for tag in row["tag_ids"] if tag]
        for row in inputs.table("caption_tags").to_pylist()
    }
    with gather(inputs, settings, tmp_path, "train") as material:
        examples = material.examples
        assert sorted(examples.texts()) == sorted(text for image_id in examples.image_ids for text in said[image_id])
        images = np.random.default_rng(0).permutation(len(examples))
        texts, tags = examples.caption_choice(images, random.Random(3))
        for at, text, names in zip(images, texts, tags, strict=True):
            image_id = examples.image_ids[at]
            assert names == named.get((image_id, said[image_id].index(text)), [])
        assert {said[one].index(text) for one, text in zip(examples.subset(images).image_ids, texts, strict=True)} > {0}


def test_a_job_brings_places_to_its_process_and_no_contents(inputs: Inputs, tmp_path: Path) -> None:
    settings = TrainSettings(caption=True, architecture="tag2text", folds=2)
    with gather(inputs, settings, tmp_path, "train") as material:
        many = replace(material, examples=material.examples.subset(np.arange(10_000) % len(material.examples)))
        plans = with_folds(tmp_path, Blueprint(None, LABELS), many, settings, "cpu")  # type: ignore[arg-type]
        assert all(len(pickle.dumps(job)) < 10_000 * 40 for job in plans)
        examples, images = plans[1].examples, np.arange(20)
        again = pickle.loads(pickle.dumps(examples))
        assert again.caption_choice(images, random.Random(0)) == examples.caption_choice(images, random.Random(0))
        assert (again.targets[images].toarray() == examples.targets[images].toarray()).all()
        assert again.targets.toarray().any()
    assert not any(tmp_path.glob("scratch-*"))


def test_models_are_calibrated_on_so_many_images_at_most(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TrainSettings(folds=2)
    with gather(inputs, settings, tmp_path, "train") as material:
        plans = with_folds(tmp_path, Blueprint(None, LABELS), material, settings, "cpu")  # type: ignore[arg-type]
        everyone = list(plans[1].held_out.image_ids)
        assert set(everyone) == set(material.examples.image_ids) - set(plans[1].examples.image_ids)
        monkeypatch.setattr(tasks.training.calibration, "EVIDENCE", 4)
        assert [len(plan.held_out) for plan in plans] == [4, 4, 4]
        few = list(plans[1].held_out.image_ids)
        assert few == [everyone[at] for at in np.linspace(0, len(everyone) - 1, 4).astype(int)]


@pytest.mark.parametrize("query", [_DESCRIBED, _SEVERAL_CAPTIONS])
def test_mentions_are_counted_as_over_all_parts(inputs: Inputs, query: str) -> None:
    whole = {row["tag_id"]: (row["first"], row["second"]) for row in inputs.sql(query).to_pylist()}
    counted = _by_tag(inputs, query, [*range(TAGS), 99])
    np.testing.assert_allclose(counted.T, [whole.get(tag, (0, 0)) for tag in (*range(TAGS), 99)])
    assert counted.any()


def test_nothing_is_taught_where_there_are_no_images(tmp_path: Path) -> None:
    nobody = ImageIds.of(())
    assert matrix([], nobody, LABELS).shape == (0, TAGS - 1)
    assert store_targets([], nobody, LABELS, tmp_path / "targets").toarray().shape == (0, TAGS - 1)
    assert mean_targets(csr_matrix((0, TAGS))).tolist() == [0.0] * TAGS
