"""An annotator of several encoders: real features, real trainings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError

from storage.schemas import contract
from storage.store import Snapshot
from tasks.annotators.trained import Annotator, annotator_evidence, answers, named_tags, whole_tokens
from tasks.labels.tags import Tag, tags_table
from tasks.machine.inputs import Inputs
from tasks.settings.encode import EncodeSettings
from tasks.settings.executor import ExecutorSettings
from tasks.settings.train_baseline import TrainBaselineSettings
from tasks.stages import train_baseline
from tasks.stages.encode import build
from tasks.training.calibration import Evidence
from tasks.training.data import TagColumns, tag_columns
from tests.tasks.stage_inputs import inputs_of
from tests.tasks.test_encode import pairs, pictures

ENCODE = EncodeSettings(image_size=64, fine_tune_size=0, views=1, annotator_encoders=("tf_efficientnet_lite0@96",))
EXECUTOR = ExecutorSettings(device="cpu")
MEAN = TrainBaselineSettings(
    architecture="tag2text", decoder_layers=0, evidence="mean", epochs=2, folds=2, batch_size=2, learning_rate=1e-2
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Inputs, pa.Table, Path]:
    """The inputs, the pairs and the folder of an annotator that looks at 64 and at 96 pixels."""
    folder = tmp_path_factory.mktemp("annotator")
    table = pairs(["train", "train", "train", "calibrate"])
    features = build(ENCODE, inputs_of(folder / "encode", {}), EXECUTOR)({"pairs": table})["features"]
    named = [{"image_id": one, "caption_index": 0, "tag_ids": [at % 2]} for at, one in enumerate(pictures())]
    tables = {
        "features": features,
        "caption_tags": pa.Table.from_pylist(named, contract("caption_tags").schema),
        "label_system": tags_table([Tag(0, "dog", "object", prompt="dog"), Tag(1, "run", "action", prompt="run")]),
    }
    made = inputs_of(folder / "train", tables)
    rows = [{**contract_of_pairs(), **row} for row in table.to_pylist()]
    whole = inputs_of(folder / "pairs", {"pairs": pa.Table.from_pylist(rows, contract("pairs").schema)})
    store = made.store
    part = store.write_part("pairs", "a" * 16, "p", whole.table("pairs"))
    snapshots = {
        **made.snapshots,
        "pairs": store.publish(Snapshot("pairs", "a" * 16, "test", "test", parts=(part,))),
        "features": store.publish(
            Snapshot(
                "features", "a" * 16, "test", "test", parts=made.snapshots["features"].parts,
                settings=ENCODE.model_dump(mode="json"),
            )
        ),
    }  # fmt: skip
    inputs = Inputs(store, snapshots)
    log = train_baseline.train(MEAN, inputs, EXECUTOR, folder / "model", lambda done, total, what: None)["training_log"]
    assert set(log["model"].to_pylist()) == {
        f"{size}{name}" for size in ("", "at-96/") for name in ("whole", "fold-0", "fold-1")
    }
    return inputs, table, folder / "model"


def contract_of_pairs() -> dict[str, object]:
    return {"sources": ["csv"], "names": ["a"], "fingerprints": ["f"], "url": None, "licence": None, "sha256": "0"}


def test_what_the_members_say_is_averaged(trained: tuple[Inputs, pa.Table, Path]) -> None:
    inputs, table, folder = trained
    tags = tag_columns(inputs.table("label_system"))
    features = inputs.table("features")
    annotator = Annotator(folder, tags, torch.device("cpu"))
    rows = 0
    for member, places in annotator.members(table):
        (partner,) = member.partners
        assert (member.model.config.image_size, partner.config.image_size) == (64, 96)
        named = np.zeros((table.num_rows, len(tags.ids)), bool)
        for batch, tokens, logits in answers(member, table, features, places, named):
            assert len(tokens[0]) == 1 + 2 * 2
            alone = member.model.tag_logits(tokens)
            other = type(member)(partner, member.columns, True, member.calibration)
            ((_, finer),) = whole_tokens(other, table, features, batch)
            assert len(finer[0]) == 1 + 3 * 3
            assert torch.from_numpy(logits).allclose((alone + partner.tag_logits(finer)) / 2, atol=1e-5)
            rows += len(batch)
    assert rows == 4


def test_ridge_regressions_leave_out_the_image_that_they_are_asked_about(
    trained: tuple[Inputs, pa.Table, Path], tmp_path: Path
) -> None:
    inputs, table, _ = trained
    settings = MEAN.model_copy(update={"solver": "ridge"})
    train_baseline.train(settings, inputs, EXECUTOR, tmp_path, lambda done, total, what: None)
    tags = tag_columns(inputs.table("label_system"))
    annotator = Annotator(tmp_path, tags, torch.device("cpu"))
    assert annotator.folds == []
    ((member, rows),) = annotator.members(table)
    named = named_tags(table["image_id"].to_pylist(), inputs.table("caption_tags"), tags)
    ((_, tokens, logits),) = answers(member, table, inputs.table("features"), rows, named)
    evidence = [Evidence.load(tmp_path / name) for name in ("whole", "at-96/whole")]
    left_out = np.mean([each.logits for each in evidence if each is not None], axis=0)
    ids = sorted(table["image_id"].to_pylist()[:3])
    places = [table["image_id"].to_pylist().index(each) for each in ids]
    np.testing.assert_allclose(logits[places], left_out, atol=2e-2)
    # an image that it has not learnt from gets what the model says
    unseen = member.unseen(tokens[:, 0], tokens[:, 0], table["image_id"].to_pylist(), named)
    assert (unseen[:3].abs().max(dim=1).values > 0).all()
    assert not unseen[3].any()


def test_a_tag_that_was_switched_off_costs_the_annotator_that_tag_alone(
    trained: tuple[Inputs, pa.Table, Path], tmp_path: Path
) -> None:
    inputs, table, _ = trained
    train_baseline.train(
        MEAN.model_copy(update={"solver": "ridge"}), inputs, EXECUTOR, tmp_path, lambda done, total, what: None
    )
    tags = tag_columns(inputs.table("label_system"))
    left = TagColumns(tags.ids[1:], tags.labels[1:])
    answered = []
    for known in (tags, left):
        ((member, rows),) = Annotator(tmp_path, known, torch.device("cpu")).members(table)
        named = named_tags(table["image_id"].to_pylist(), inputs.table("caption_tags"), known)
        ((_, _, logits),) = answers(member, table, inputs.table("features"), rows, named)
        answered.append(logits)
    assert answered[1].shape[1] == 1
    evidence = [annotator_evidence(tmp_path, known) for known in (tags, left)]
    np.testing.assert_array_equal(evidence[0].halves[0].images[1:], evidence[1].halves[0].images)
    # what no caption names of the tag that is gone was taken for not named: of the other the answer stays
    np.testing.assert_allclose(answered[1][3:], answered[0][3:, 1:], atol=1e-5)


def test_calibration_is_of_the_average(trained: tuple[Inputs, pa.Table, Path]) -> None:
    from tasks.annotators.trained import _evidence, partners_of

    folder = trained[2]
    both = _evidence(folder / "whole", partners_of(folder / "whole"))
    one, other = Evidence.load(folder / "whole"), Evidence.load(folder / "at-96" / "whole")
    assert both is not None
    assert one is not None
    assert other is not None
    assert both.logits == pytest.approx((one.logits + other.logits) / 2)
    assert not np.allclose(one.logits, other.logits)


def test_a_classifier_of_the_mean_token_is_linear_in_it(trained: tuple[Inputs, pa.Table, Path]) -> None:
    inputs, _table, folder = trained
    tags = tag_columns(inputs.table("label_system"))
    model = Annotator(folder, tags, torch.device("cpu")).whole.model
    tokens = torch.randn(3, 5, 1280)
    classifier = model.token_classifier
    assert classifier is not None
    assert model.tag_logits(tokens).allclose(classifier(tokens[:, 0]), atol=1e-5)


def test_encoders_need_a_size_of_their_own() -> None:
    with pytest.raises(ValidationError, match="size that no other has"):
        EncodeSettings(annotator_encoders=("tf_efficientnet_lite2@384",))
    with pytest.raises(ValidationError, match="NAME@260"):
        EncodeSettings(annotator_encoders=("tf_efficientnet_lite2",))
    assert EncodeSettings(fine_tune_size=224, annotator_encoders=("a@260",)).further() == {260: "a"}


def test_encoders_need_one_width(tmp_path: Path) -> None:
    wide = ENCODE.model_copy(update={"annotator_encoders": ("resnet18@96",)})
    with pytest.raises(ValueError, match=r"resnet18 is not as wide \(1280\)"):
        build(wide, inputs_of(tmp_path, {}), EXECUTOR)
