"""Pictures without captions, stage by stage: nothing is learnt from their captions, nothing is measured on them."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ram_engine import configuration
from storage.bare import are_bare
from storage.schemas import DESCRIBED, OF_IMAGE, check, contract
from tasks.labels.tags import Tag, tags_table
from tasks.machine import planning
from tasks.machine.dag import stage_named
from tasks.machine.inputs import Inputs
from tasks.settings.assign_tags import AssignTagsSettings
from tasks.settings.build_labels import BuildLabelsSettings
from tasks.settings.executor import ExecutorSettings
from tasks.settings.parse_captions import ParseCaptionsSettings
from tasks.stages import assign_tags, build_labels, evaluate, parse_captions
from tasks.training.blueprint import blueprint
from tasks.training.data import tag_columns
from tasks.training.ids import ImageIds
from tasks.training.jobs import WHOLE, learnt_bare, run_jobs, with_folds
from tasks.training.scratch import store_rows
from tasks.training.targets import are_described, caption_targets, ids_by_split, mention_shares
from tests.tasks.stage_inputs import inputs_of
from tests.tasks.test_training import LABELS as LABELS_OF_TOY
from tests.tasks.test_training import SMALL, curve, material, silent, toy, train

EXECUTOR = ExecutorSettings(device="cpu")
LABELS = tags_table([Tag(0, "dog", "object", prompt="dog"), Tag(1, "cat", "object", prompt="cat")])


def pairs(*rows: tuple[str, str, list[str]], labelled: tuple[str, ...] = ()) -> pa.Table:
    """``pairs`` of (image_id, split, captions); some of the images are ``labelled`` by their source."""
    said = [{"caption_index": OF_IMAGE, "tags": [{"name": "cat", "type": ""}]}]
    about = {
        "sources": ["csv"],
        "names": ["a"],
        "fingerprints": ["f"],
        "sha256": "0",
        "width": 8,
        "height": 8,
        "hash": 0,
    }
    return pa.Table.from_pylist(
        [
            {**about, "image_id": image_id, "split": split, "captions": captions, "url": None, "licence": None,
             "extra": None, "ready_tags": said if image_id in labelled else None}
            for image_id, split, captions in rows
        ],
        contract("pairs").schema,
    )  # fmt: skip


DOG, CAT, TESTED, CALIBRATES, LABELLED, BARE, BARE_TESTED, BARE_CALIBRATES = (f"{at:016x}" for at in range(8))
MIXED = pairs(
    (DOG, "train", ["a dog"]), (BARE, "train", []), (CAT, "train", ["?", "a cat"]), (BARE_TESTED, "test", []),
    (TESTED, "test", ["a dog"]), (LABELLED, "test", []), (BARE_CALIBRATES, "calibrate", []),
    (CALIBRATES, "calibrate", ["a dog"]), labelled=(LABELLED,),
)  # fmt: skip
ALL_BARE = {BARE, BARE_TESTED, BARE_CALIBRATES}


def test_what_has_captions_or_labels_is_not_bare() -> None:
    ids = np.array(MIXED["image_id"].to_pylist())
    assert {*ids[are_bare(MIXED)]} == ALL_BARE
    assert are_bare(MIXED.slice(0, 0)).shape == (0,)


@pytest.mark.parametrize("table", [MIXED, MIXED.filter(pa.array(are_bare(MIXED)))], ids=["some", "all"])
def test_no_phrase_and_no_tag_comes_of_them(tmp_path: Path, table: pa.Table) -> None:
    parse = parse_captions.build(ParseCaptionsSettings(), inputs_of(tmp_path / "none", {}), EXECUTOR)
    phrases = check("phrases", parse({"pairs": table})["phrases"])
    assign = assign_tags.build(AssignTagsSettings(), inputs_of(tmp_path, {"label_system": LABELS}), EXECUTOR)
    found = check("caption_tags", assign({"phrases": phrases})["caption_tags"])
    with_captions = {*table["image_id"].to_pylist()} - ALL_BARE
    assert {*phrases["image_id"].to_pylist()} == {*found["image_id"].to_pylist()} == with_captions


def test_without_any_caption_a_label_system_needs_a_list(tmp_path: Path) -> None:
    inputs = inputs_of(tmp_path, {"phrases": contract("phrases").schema.empty_table()})
    with pytest.raises(ValueError, match=r"no picture has a caption: .*tag_list=FILE.*--annotator pretrained:FOLDER"):
        build_labels.reduce(BuildLabelsSettings(wordnet=""), inputs, EXECUTOR)
    (tmp_path / "tags.txt").write_text("dog\nbeach\tscene\n")
    listed = BuildLabelsSettings(wordnet="", tag_list=str(tmp_path / "tags.txt"))
    found = build_labels.reduce(listed, inputs, EXECUTOR)["label_system"]
    assert found["name"].to_pylist() == ["dog", "beach"]


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    rows = [(DOG, 0, [0]), (CAT, 1, [1]), (TESTED, 0, [0]), (LABELLED, OF_IMAGE, [1]), (CALIBRATES, 0, [0])]
    tags = [dict(zip(("image_id", "caption_index", "tag_ids"), row, strict=True)) for row in rows]
    caption_tags = pa.Table.from_pylist(tags, contract("caption_tags").schema)
    return inputs_of(tmp_path / "inputs", {"pairs": MIXED, "caption_tags": caption_tags, "label_system": LABELS})


def test_trainings_and_tests_are_of_others_unless_they_ask(inputs: Inputs) -> None:
    captioned, bare = ids_by_split(inputs), ids_by_split(inputs, bare=True)
    assert {split: [*ids] for split, ids in captioned.items()} == {
        "train": [DOG, CAT], "test": [TESTED, LABELLED], "calibrate": [CALIBRATES],
    }  # fmt: skip
    assert {split: [*ids] for split, ids in bare.items()} == {
        "train": [BARE], "test": [BARE_TESTED], "calibrate": [BARE_CALIBRATES],
    }  # fmt: skip
    tags = tag_columns(LABELS)
    assert mention_shares(inputs, captioned["train"], tags).tolist() == [0.5, 0.5]
    assert mention_shares(inputs, captioned["none"], tags).tolist() == [0, 0]
    assert caption_targets(inputs, [BARE], tags).nnz == 0
    assert evaluate._test_set(inputs).image_ids == [TESTED, LABELLED]


def test_what_measures_is_left_out_where_no_held_out_picture_tells_anything(tmp_path: Path) -> None:
    bare = ((BARE, "train", []), (BARE_TESTED, "test", []))
    settings, _ = configuration.configure("tiny")
    for others, said in (
        ((), "no picture that has a caption or labels is of the split 'test'"),
        (((TESTED, "test", ["a dog"]),), ""),
        (((LABELLED, "test", []),), ""),
    ):
        table = pairs(*bare, *others, labelled=(LABELLED,))
        store = inputs_of(tmp_path / str(others), {"pairs": table}).store
        for stage in ("train-ablation", "evaluate"):
            assert planning.left_out(store, stage_named(stage), settings) == said


def test_held_out_images_are_described_where_a_person_named_everything_of_all(tmp_path: Path) -> None:
    labels = [{"image_id": image_id, "caption_index": DESCRIBED, "tag_ids": [0]} for image_id in (TESTED, LABELLED)]
    caption_tags = pa.Table.from_pylist(labels, contract("caption_tags").schema)
    inputs = inputs_of(tmp_path, {"pairs": MIXED, "caption_tags": caption_tags})

    def said(*held_out: str, **others: ImageIds) -> bool:
        return are_described(inputs, defaultdict(lambda: ImageIds.of(()), calibrate=ImageIds.of(held_out), **others))

    assert said(TESTED, LABELLED)
    assert not said(TESTED, CALIBRATES)
    assert not said()
    assert said(TESTED, CALIBRATES, fine_tune=ImageIds.of([CAT]))


def test_a_training_takes_those_that_it_is_told_something_of(tmp_path: Path) -> None:
    """Every third image is bare, and of every sixth nothing is known."""
    examples = toy(tmp_path)
    bare = np.arange(48) % 3 == 0
    targets = examples.targets.tolil()
    targets[np.arange(48) % 6 == 0] = 0
    targets[np.arange(48) % 6 == 3, 0] = 0.3
    rows = targets.tocoo()
    table = pa.table(
        {
            "image_id": [f"{at:016x}" for at in rows.row],
            "tag_id": pa.array(np.array(LABELS_OF_TOY.ids)[rows.col], pa.int32()),
            "target": rows.data,
        }
    )
    given = material(replace(examples, bare=bare), described=False).teaching([table], "told")
    told = given.examples
    assert [int(image_id, 16) for image_id in told.image_ids] == [at for at in range(48) if at % 6]
    assert told.bare is not None
    assert int(told.bare.sum()) == 8
    assert np.array_equal(told.captioned().targets.toarray(), examples.targets.toarray()[~bare])

    settings = SMALL.model_copy(update={"folds": 2, "epochs": 1})
    plan = blueprint(settings, given.tags, "tf_efficientnet_lite0", 224)
    whole, *folds = with_folds(tmp_path / "model", plan, given, settings, "cpu")
    assert [*whole.examples.image_ids] == [*told.image_ids]
    for job in folds:
        held_out = {int(image_id, 16) for image_id in job.held_out.image_ids}
        assert held_out
        assert not any(bare[at] for at in held_out)  # what they are calibrated on
        assert not held_out & {int(image_id, 16) for image_id in job.examples.image_ids}
    run_jobs([whole], silent)
    assert learnt_bare(tmp_path / "model" / WHOLE)


def test_a_captioner_learns_from_the_others_and_batches_without_captions_teach_tags(tmp_path: Path) -> None:
    examples = toy(tmp_path, 12, captions=True)
    assert examples.captions is not None
    bare, rows = np.arange(12) % 6 > 0, [*examples.captions.read(np.arange(12))]
    table = pa.table(
        {
            name: pa.array([[] if alone else row[name] for row, alone in zip(rows, bare, strict=True)], type_)
            for name, type_ in (("captions", pa.list_(pa.string())), ("tags", pa.list_(pa.list_(pa.string()))))
        }
    )
    some = store_rows([(np.arange(12), table)], 12, tmp_path / "some")
    examples = replace(examples, bare=bare, captions=some)
    assert examples.caption_choice(np.array([1, 0]), random.Random(0)) == (
        ["", *rows[0]["captions"]],
        [[], *rows[0]["tags"]],
    )
    settings = SMALL.model_copy(
        update={"architecture": "tag2text", "caption": True, "captioner_layers": 1, "batch_size": 4, "epochs": 2}
    )
    values = {(epoch, name): value for epoch, name, value in curve(train(tmp_path / "model", examples, settings))}
    assert values[2, "tagging"] < values[1, "tagging"]
    assert all(math.isfinite(value) for value in values.values())
    assert values[2, "caption"] > 0
