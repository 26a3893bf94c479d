"""An annotator of several encoders: real features, real trainings."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError

from storage.schemas import check, contract
from storage.store import Snapshot
from tasks.annotators import evidence as evidence_files
from tasks.annotators import folder as annotator_folder
from tasks.annotators.asking import annotated
from tasks.annotators.base import Annotator, AnnotatorContext, AnnotatorSettings, Answers, Batch, named_tags
from tasks.annotators.models import TrainedAnnotator, TrainedModel, evidence_of, partners_of, token_batches
from tasks.annotators.room import ANNOTATORS
from tasks.images.files import ImageFiles
from tasks.images.tokens import MissingTokensError, StoredTokens
from tasks.labels.tags import Tag, tags_table
from tasks.machine.inputs import Inputs
from tasks.proposers.cross_attention import CrossAttention
from tasks.settings.calibrate import CalibrateSettings
from tasks.settings.encode import EncodeSettings
from tasks.settings.executor import ExecutorSettings
from tasks.settings.generate import GenerateSettings
from tasks.settings.ground import GroundSettings
from tasks.settings.train_baseline import TrainBaselineSettings
from tasks.stages import calibrate, generate, ground, train_baseline
from tasks.stages.encode import build
from tasks.training.calibration import Evidence
from tasks.training.data import TagColumns, tag_columns
from tasks.training.jobs import read_record, write_record
from tests.tasks.stage_inputs import inputs_of
from tests.tasks.test_encode import pictures, shard

ENCODE = EncodeSettings(image_size=64, fine_tune_size=0, views=1, annotator_encoders=("tf_efficientnet_lite0@96",))
EXECUTOR = ExecutorSettings(device="cpu")
MEAN = TrainBaselineSettings(
    architecture="tag2text", decoder_layers=0, evidence="mean", epochs=2, folds=2, batch_size=2, learning_rate=1e-2
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Inputs, pa.Table, Path]:
    """The inputs, the pairs and the folder of an annotator that looks at 64 and at 96 pixels."""
    folder = tmp_path_factory.mktemp("annotator")
    made_of = shard(["train", "train", "train", "calibrate"])
    table = made_of["pairs"]
    features = build(ENCODE, inputs_of(folder / "encode", {}), EXECUTOR)(made_of)["features"]
    named = [{"image_id": one, "caption_index": 0, "tag_ids": [at % 2]} for at, one in enumerate(pictures())]
    tables = {
        "features": features,
        "images": made_of["images"],
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
    return inputs, whole.table("pairs"), folder / "model"


def contract_of_pairs() -> dict[str, object]:
    return {"sources": ["csv"], "names": ["a"], "fingerprints": ["f"], "sha256": "0", "hash": 0}


def opened(folder: Path, tags: TagColumns) -> TrainedAnnotator:
    annotator = annotator_folder.open_annotator(AnnotatorContext(folder, tags, "cpu"))
    assert isinstance(annotator, TrainedAnnotator)
    return annotator


def batch_of(inputs: Inputs, table: pa.Table, tags: TagColumns) -> Batch:
    named = named_tags(table["image_id"].to_pylist(), inputs.table("caption_tags"), tags)
    return Batch(table, ImageFiles(lambda: inputs.table("images")), StoredTokens(inputs.table("features")), named)


def test_what_the_models_of_several_encoders_say_is_averaged(trained: tuple[Inputs, pa.Table, Path]) -> None:
    inputs, table, folder = trained
    tags = tag_columns(inputs.table("label_system"))
    annotator = opened(folder, tags)
    batch = batch_of(inputs, table, tags)
    answered = []
    for rows in annotator.parts(batch):
        part = batch.subset(rows)
        model = annotator.model_of(part)
        (partner,) = model.partners
        assert (model.model.config.image_size, partner.config.image_size) == (64, 96)
        tokens = annotator.tokens(part)
        assert len(tokens[0]) == 1 + 2 * 2
        ((_, finer),) = token_batches(TrainedModel(partner, model.columns, True), part)
        assert len(finer[0]) == 1 + 3 * 3
        mean = (model.model.tag_logits(tokens) + partner.tag_logits(finer)) / 2
        assert torch.from_numpy(annotator.annotate(part).scores).allclose(mean, atol=1e-5)
        answered += rows.tolist()
    assert sorted(answered) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="several folds"):
        annotator.annotate(batch)


def test_ridge_regressions_leave_out_the_image_that_they_are_asked_about(
    trained: tuple[Inputs, pa.Table, Path], tmp_path: Path
) -> None:
    inputs, table, _ = trained
    settings = MEAN.model_copy(update={"solver": "ridge"})
    train_baseline.train(settings, inputs, EXECUTOR, tmp_path, lambda done, total, what: None)
    tags = tag_columns(inputs.table("label_system"))
    annotator = opened(tmp_path, tags)
    assert annotator.folds == []
    batch = batch_of(inputs, table, tags)
    tokens, logits = annotator.tokens(batch), annotator.annotate(batch).scores
    evidence = [Evidence.load(tmp_path / name) for name in ("whole", "at-96/whole")]
    left_out = np.mean([each.logits for each in evidence if each is not None], axis=0)
    ids = sorted(table["image_id"].to_pylist()[:3])
    places = [table["image_id"].to_pylist().index(each) for each in ids]
    np.testing.assert_allclose(logits[places], left_out, atol=2e-2)
    # an image that it has not learnt from gets what the model says
    unseen = annotator.whole.unseen(tokens[:, 0], tokens[:, 0], batch.ids, batch.named)
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
        answered.append(opened(tmp_path, known).annotate(batch_of(inputs, table, known)).scores)
    assert answered[1].shape[1] == 1
    evidence = [annotator_folder.read(tmp_path).evidence(tmp_path, known) for known in (tags, left)]
    np.testing.assert_array_equal(evidence[0].halves[0].images[1:], evidence[1].halves[0].images)
    # what no caption names of the tag that is gone was taken for not named: of the other the answer stays
    np.testing.assert_allclose(answered[1][3:], answered[0][3:, 1:], atol=1e-5)


def test_calibration_is_of_the_average(trained: tuple[Inputs, pa.Table, Path]) -> None:
    folder = trained[2]
    both = evidence_of(folder / "whole", partners_of(folder / "whole"))
    one, other = Evidence.load(folder / "whole"), Evidence.load(folder / "at-96" / "whole")
    assert both is not None
    assert one is not None
    assert other is not None
    assert both.logits == pytest.approx((one.logits + other.logits) / 2)
    assert not np.allclose(one.logits, other.logits)


def test_a_classifier_of_the_mean_token_is_linear_in_it(trained: tuple[Inputs, pa.Table, Path]) -> None:
    inputs, _table, folder = trained
    tags = tag_columns(inputs.table("label_system"))
    model = opened(folder, tags).whole.model
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


class Shaky(AnnotatorSettings):
    """Sees a dog in every picture but one, which it cannot open."""

    kind: Literal["shaky"] = "shaky"
    fails_on: str = ""

    def make(self, context: AnnotatorContext) -> Annotator:
        return ShakyAnnotator(self.fails_on, context)


class ShakyAnnotator(Annotator):
    def __init__(self, fails_on: str, context: AnnotatorContext) -> None:
        self.fails_on = fails_on
        self.columns = np.arange(len(context.tags.ids))

    def annotate(self, batch: Batch) -> Answers:
        if self.fails_on in batch.ids:
            raise TimeoutError("the endpoint said nothing for 60 seconds")
        assert len(batch.pictures) == len(batch)
        return Answers(np.tile(np.array([3.0, -3.0]), (len(batch), 1)), rejected={})


def without_captions(table: pa.Table) -> pa.Table:
    """The same pairs, as if they had come without captions."""
    rows = [{**row, "captions": []} for row in table.to_pylist()]
    return pa.Table.from_pylist(rows, contract("pairs").schema)


def test_the_whole_model_answers_about_pictures_without_captions_unless_it_learnt_from_such(
    trained: tuple[Inputs, pa.Table, Path], tmp_path: Path
) -> None:
    inputs, table, folder = trained
    tags = tag_columns(inputs.table("label_system"))
    bare = without_captions(table)

    def models_of(annotator: TrainedAnnotator, table: pa.Table) -> list[int]:
        """For each image the fold whose model answers; -1: the whole one."""
        found, batch = [-2] * table.num_rows, batch_of(inputs, table, tags)
        for rows in annotator.parts(batch):
            model = annotator.model_of(batch.subset(rows))
            for row in rows:
                found[row] = [annotator.whole, *annotator.folds].index(model) - 1
        return found

    annotator = opened(folder, tags)
    own = models_of(annotator, table)
    assert sorted({*own}) == [-1, 0, 1]
    assert models_of(annotator, bare) == [-1] * 4
    learnt = Path(shutil.copytree(folder, tmp_path / "learnt"))
    for name in ("whole", "fold-0", "fold-1"):
        write_record(learnt / name, read_record(learnt / name)[0], (), bare=True)
    assert models_of(opened(learnt, tags), bare) == own


def test_a_picture_without_captions_is_scored_as_if_nobody_had_spoken_and_has_bars_of_its_own(
    trained: tuple[Inputs, pa.Table, Path], tmp_path: Path
) -> None:
    inputs, table, folder = trained
    names = {**dict.fromkeys(contract("tag_bars").schema.names, 0.5), "described": False, "named": 3, "reason": "added"}
    rows = [{**names, "tag_id": tag, "slope": 1.0, "cut": 20.0, "bare_cut": 20.0 - 40 * tag} for tag in (0, 1)]
    bars = pa.Table.from_pylist(rows, contract("tag_bars").schema)
    tables = {"label_system": inputs.table("label_system"), "tag_bars": bars, "features": inputs.table("features")}
    models = {"annotator": Path(shutil.copytree(folder, tmp_path / "model"))}
    worker = generate.build(GenerateSettings(), inputs_of(tmp_path, tables, models), EXECUTOR)
    nothing = contract("caption_tags").schema.empty_table()
    shard = {name: inputs.table(name) for name in ("images", "features")} | {"caption_tags": nothing}
    captioned, bare = (
        check("generated", worker({**shard, "pairs": pairs})["generated"]).to_pylist()
        for pairs in (table, without_captions(table))
    )
    assert all(row["predicted"] == [] for row in captioned)
    assert all(row["predicted"] == [1] for row in bare)
    for silent, spoken in zip(bare[3:], captioned[3:], strict=True):  # the same model answers about both
        more = {score["tag_id"]: score["score"] for score in silent["scores"]}
        assert all(more[score["tag_id"]] > score["score"] for score in spoken["scores"])


def test_an_annotator_that_fails_on_one_image_loses_that_image_alone(
    trained: tuple[Inputs, pa.Table, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, table, _ = trained
    monkeypatch.setitem(ANNOTATORS.members, "shaky", Shaky)
    failing = table["image_id"].to_pylist()[1]
    settings = MEAN.model_copy(update={"annotator": Shaky(fails_on=failing)})
    folder = tmp_path / "model"
    log = train_baseline.train(settings, inputs, EXECUTOR, folder, lambda done, total, what: None)
    assert log["training_log"].num_rows == 0
    tables = {name: inputs.table(name) for name in ("caption_tags", "label_system", "features")}
    stage = inputs_of(tmp_path, tables, {"annotator": folder})
    bars = calibrate.reduce(CalibrateSettings(), stage, EXECUTOR)["tag_bars"]
    assert bars["tag_id"].to_pylist() == [0, 1]
    part = stage.store.write_part("tag_bars", "a" * 16, "p", bars)
    bars_snapshot = stage.store.publish(Snapshot("tag_bars", "a" * 16, "test", "test", parts=(part,)))
    stage = Inputs(stage.store, {**stage.snapshots, "tag_bars": bars_snapshot})
    shard = {
        "pairs": inputs.table("pairs"),
        "images": inputs.table("images"),
        "features": tables["features"],
        "caption_tags": tables["caption_tags"],
    }
    made = generate.build(GenerateSettings(), stage, EXECUTOR)(shard)
    (rejected,) = check("generated_rejected", made["generated_rejected"]).to_pylist()
    assert (rejected["image_id"], rejected["reason"]) == (failing, "annotator_failed")
    assert rejected["detail"] == "TimeoutError: the endpoint said nothing for 60 seconds"
    answered = [image_id for image_id in shard["pairs"]["image_id"].to_pylist() if image_id != failing]
    assert check("generated", made["generated"])["image_id"].to_pylist() == answered
    # what cannot look at regions has none but a detector's, and no say about them
    grounding = GroundSettings(proposer=CrossAttention())
    grounded = ground.build(grounding, stage, EXECUTOR)({**shard, "generated": made["generated"]})
    assert check("regions", grounded["regions"]).num_rows == 0
    assert grounded["regions"].schema.field("feature").type.list_size == 1280


@pytest.mark.parametrize("sees", [True, False])
def test_nothing_is_added_to_pictures_without_captions_by_bars_that_do_not_hold(
    trained: tuple[Inputs, pa.Table, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sees: bool
) -> None:
    """Bars that one half of the pictures sets, where what the annotator ``sees`` in the other is there or is not."""
    monkeypatch.setitem(ANNOTATORS.members, "shaky", Shaky)
    chance = np.random.default_rng(0)
    logits = chance.normal(-4, 3, (3000, 2))
    named = chance.random(logits.shape) < 1 / (1 + np.exp(-logits))
    if not sees:
        chance.shuffle(logits[1::2])
    labels = [(label.name, label.type) for label in tag_columns(trained[0].table("label_system")).labels]
    folder = tmp_path / "annotator"
    folder.mkdir()
    annotator_folder.write(folder, Shaky())
    evidence_files.save(folder, Evidence(logits, named, False, np.zeros(2)), labels)
    tables = {name: trained[0].table(name) for name in ("caption_tags", "label_system")}
    found = calibrate.reduce(CalibrateSettings(), inputs_of(tmp_path, tables, {"annotator": folder}), EXECUTOR)
    checks = {row["check"]: row for row in check("annotator_checks", found["annotator_checks"]).to_pylist()}
    assert checks["bare_precision"]["passed"] is sees
    assert ("Nothing is added to pictures without captions: of what" in checks["bare_precision"]["told"]) is not sees
    assert [*np.isfinite(found["tag_bars"]["bare_cut"].to_numpy())] == [sees, sees]


def test_tokens_that_were_not_stored_are_no_fault_of_an_image(trained: tuple[Inputs, pa.Table, Path]) -> None:
    inputs, table, folder = trained
    tags = tag_columns(inputs.table("label_system"))
    files = ImageFiles(lambda: inputs.table("images"))
    batch = Batch(table, files, StoredTokens(inputs.table("features").slice(0, 0)), np.zeros((4, 2), bool))
    annotator = opened(folder, tags)
    with pytest.raises(MissingTokensError, match="run the stage encode again"):
        annotated(annotator, batch.subset([3]))
