from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.sparse import csr_matrix
from torch import nn

import tasks.training.jobs
from models import Label, load_tagger
from tasks.settings.executor import ExecutorSettings
from tasks.settings.training import TrainSettings
from tasks.training import parallel
from tasks.training.blueprint import blueprint
from tasks.training.data import Examples, TagColumns, TokenImages
from tasks.training.gradient import CHECKPOINT, TrainingError, data_order, parameter_groups, schedule
from tasks.training.ids import ImageIds, fold_of
from tasks.training.jobs import RECORD, WHOLE, log_table, run_jobs, with_folds
from tasks.training.material import Material
from tasks.training.scratch import store_rows
from tasks.training.whitening import Whitening, token_readers
from tests import forked

WIDTH, TOKENS, TAGS = 1280, 5, 4
LABELS = TagColumns(
    (2, 3, 5, 8), (Label("dog"), Label("beach", "scene"), Label("red", "attribute"), Label("run", "action"))
)


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    """Processes start at once, here and in the files that follow: the first training would load less for them."""
    forked.load()


def toy(folder: Path, images: int = 48, captions: bool = False) -> Examples:
    """Images of two views whose tokens show which tags they have."""
    chance = np.random.default_rng(0)
    there = chance.random((images, TAGS)) < 0.4
    looks = chance.normal(size=(TAGS, WIDTH))
    clean = there @ looks
    tokens = clean[:, None, None] + chance.normal(0, 0.5, (images, 2, TOKENS, WIDTH))
    stored = np.memmap(folder / "tokens", np.float16, "w+", shape=(2 * images, TOKENS, WIDTH))
    stored[:] = tokens.reshape(stored.shape) / 10
    stored.flush()
    names = [[LABELS.labels[tag].name for tag in np.flatnonzero(row)] for row in there]
    texts = [["a picture of " + " and ".join(each or ["nothing"])] for each in names]
    table = pa.table({"captions": texts, "tags": [[each] for each in names]})
    return Examples(
        ImageIds(np.arange(images, dtype=np.uint64)),
        TokenImages(folder / "tokens", stored.shape, np.arange(images) * 2, np.full(images, 2)),
        csr_matrix(there.astype(np.float32)),
        store_rows([(np.arange(images), table)], images, folder / "captions") if captions else None,
    )


SMALL = TrainSettings(epochs=3, batch_size=16, width=32, heads=2, learning_rate=3e-3, dropout=0.1)


def silent(done: int, total: int, what: str) -> None:
    pass


def material(examples: Examples, held_out: Examples | None = None, described: bool = True) -> Material:
    """The examples as a training gets them: with whitened tokens."""

    def whitened(some: Examples) -> Examples:
        file = some.images.file.with_name("whitened")
        return replace(some, images=replace(some.images, file=file, shape=images.mapped(whitening, file)))

    images = examples.images
    whitening = Whitening.of_tokens(images, 16)
    nothing = examples.subset(np.array([], np.int64))
    held_out = nothing if held_out is None else held_out
    both, folder = (whitened(examples), whitened(held_out)), images.file.parent
    return Material(LABELS, "tf_efficientnet_lite0", 224, *both, described, whitening, folder)


def taught(examples: Examples) -> Examples:
    """The examples with what a teacher of ImageNet's classes might say."""
    file = examples.images.file.with_name("teacher")
    said = np.random.default_rng(1).random((examples.images.shape[0], 1000))
    said.astype(np.float16).tofile(file)
    return replace(examples, images=replace(examples.images, teacher=file))


def spoiled(folder: Path) -> Material:
    """The toy's material, with tokens of its image 10 that are no numbers."""
    given = material(toy(folder))
    stored = np.memmap(folder / "whitened", np.float16, "r+", shape=(96, TOKENS, 16))
    stored[20:22] = np.inf
    stored.flush()
    return given


def same(one: Path, two: Path, tolerance: float) -> None:
    first, second = load_tagger(one / WHOLE).state_dict(), load_tagger(two / WHOLE).state_dict()
    for name in first:
        assert torch.allclose(first[name], second[name], rtol=0, atol=tolerance), name


def train(folder: Path, examples: Examples, settings: TrainSettings, progress: object = silent, split: int = 1) -> Path:
    plan = blueprint(settings, LABELS, "tf_efficientnet_lite0", 224, examples.texts())
    jobs = with_folds(folder, plan, material(examples), settings, "cpu")
    run_jobs(jobs, progress, ExecutorSettings(training_processes=split))  # type: ignore[arg-type]
    return folder


def curve(folder: Path, name: str = WHOLE) -> list[tuple[float, str, float]]:
    return [(row["epoch"], row["name"], row["value"]) for row in log_table({name: folder / name}).to_pylist()]


@pytest.mark.parametrize(("architecture", "epochs"), [("tag2text", 20), ("ram", 80)])
def test_a_model_learns_what_it_is_taught(tmp_path: Path, architecture: str, epochs: int) -> None:
    examples = toy(tmp_path)
    settings = SMALL.model_copy(update={"architecture": architecture, "epochs": epochs, "learning_rate": 1e-2})
    folder = train(tmp_path / "model", examples, settings)
    model = load_tagger(folder / WHOLE)
    tokens = next(examples.images.whole([np.arange(48)]))
    with torch.inference_mode():
        scores = model.tag_logits(tokens).sigmoid().numpy()
    there = examples.targets.toarray() > 0
    assert scores[there].mean() > scores[~there].mean() + 0.3
    assert not (folder / WHOLE / CHECKPOINT).exists()


def test_tagger_and_captioner_are_trained_together(tmp_path: Path) -> None:
    examples = toy(tmp_path, captions=True)
    settings = SMALL.model_copy(update={"architecture": "tag2text", "caption": True, "captioner_layers": 1})
    folder = train(tmp_path / "model", examples, settings)
    values = {(epoch, name): value for epoch, name, value in curve(folder)}
    assert values[3, "caption"] < values[1, "caption"]
    assert values[3, "tagging"] < values[1, "tagging"]
    assert load_tagger(folder / WHOLE).captioner is not None


def test_a_killed_training_goes_on_with_the_same_curve(tmp_path: Path) -> None:
    examples = toy(tmp_path)
    whole = train(tmp_path / "whole", examples, SMALL)

    def stop_in_the_third_epoch(done: int, total: int, what: str) -> None:
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", examples, SMALL, stop_in_the_third_epoch)
    assert (tmp_path / "killed" / WHOLE / CHECKPOINT).is_file()
    assert not (tmp_path / "killed" / WHOLE / RECORD).exists()
    steps: list[int] = []
    resumed = train(tmp_path / "killed", examples, SMALL, lambda done, total, what: steps.append(done))
    assert steps == [7, 8, 9]  # two epochs of three steps were done
    assert curve(resumed) == curve(whole)
    first, second = load_tagger(whole / WHOLE).state_dict(), load_tagger(resumed / WHOLE).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


SAME_DRAWS = {"epochs": 2, "dropout": 0.0}  # what is dropped out differs between processes


@pytest.mark.parametrize(
    ("change", "start"),
    [
        ({"architecture": "tag2text", "caption": True, "captioner_layers": 1}, parallel.START),
        ({"architecture": "ram", "distillation": "classes", "decoder_layers": 0}, "forkserver"),
    ],
)
def test_two_processes_learn_what_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], start: str
) -> None:
    """47 images in batches of 16: the last batch is split unevenly."""
    monkeypatch.setattr(parallel, "START", start)
    settings = SMALL.model_copy(update=SAME_DRAWS | change)
    examples = toy(tmp_path, captions="caption" in change).subset(np.arange(47))
    if "distillation" in change:
        examples = taught(examples)
    one = train(tmp_path / "one", examples, settings)
    told: list[tuple[int, int]] = []
    two = train(tmp_path / "two", examples, settings, lambda done, total, what: told.append((done, total)), split=2)
    assert [row[:2] for row in curve(two)] == [row[:2] for row in curve(one)]
    assert [row[2] for row in curve(two)] == pytest.approx([row[2] for row in curve(one)], rel=1e-4)
    assert told[-1] == (6, 6)
    same(one, two, 2e-3)


def test_a_batch_in_pieces_teaches_the_same(tmp_path: Path) -> None:
    examples = toy(tmp_path)
    settings = SMALL.model_copy(update=SAME_DRAWS)
    one = train(tmp_path / "one", examples, settings)
    pieces = train(tmp_path / "pieces", examples, settings.model_copy(update={"pieces": 3}))
    assert [row[2] for row in curve(pieces)] == pytest.approx([row[2] for row in curve(one)], rel=1e-4)
    same(one, pieces, 2e-3)


def test_an_error_in_one_of_two_processes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "START", "forkserver")
    given = spoiled(tmp_path)
    plan = blueprint(SMALL, LABELS, "tf_efficientnet_lite0", 224)
    with pytest.raises(RuntimeError, match=rf"not finite.*{10:016x}"):
        run_jobs(
            with_folds(tmp_path / "model", plan, given, SMALL, "cpu"), silent, ExecutorSettings(training_processes=2)
        )


def test_half_precision_learns_nearly_the_same(tmp_path: Path) -> None:
    examples = toy(tmp_path)
    full = train(tmp_path / "full", examples, SMALL.model_copy(update=SAME_DRAWS))
    half = train(tmp_path / "half", examples, SMALL.model_copy(update=SAME_DRAWS | {"mixed_precision": "bf16"}))
    assert [row[2] for row in curve(half)] == pytest.approx([row[2] for row in curve(full)], rel=0.05)
    assert curve(half) != curve(full)


def test_the_average_of_the_weights_becomes_the_model_and_survives_a_kill(tmp_path: Path) -> None:
    examples = toy(tmp_path)
    settings = SMALL.model_copy(update={"average": 0.9})

    def stop(done: int, total: int, what: str) -> None:
        if done == 8:
            raise KeyboardInterrupt

    whole = train(tmp_path / "whole", examples, settings)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", examples, settings, stop)
    same(whole, train(tmp_path / "killed", examples, settings), 0.0)
    last = load_tagger(train(tmp_path / "last", examples, SMALL) / WHOLE)
    averaged = load_tagger(whole / WHOLE)
    assert curve(whole) == curve(tmp_path / "last")  # the average does not touch the training
    assert not torch.equal(averaged.label_projection.weight, last.label_projection.weight)


def test_a_finished_job_is_not_run_again(tmp_path: Path) -> None:
    examples = toy(tmp_path)
    folder = train(tmp_path / "model", examples, SMALL)
    before = (folder / WHOLE / "model.safetensors").stat().st_mtime_ns
    steps: list[int] = []
    train(tmp_path / "model", examples, SMALL, lambda done, total, what: steps.append(done))
    assert steps == []
    assert (folder / WHOLE / "model.safetensors").stat().st_mtime_ns == before


def test_a_loss_that_is_no_number_stops_and_names_step_and_images(tmp_path: Path) -> None:
    given = spoiled(tmp_path)
    plan = blueprint(SMALL, LABELS, "tf_efficientnet_lite0", 224)
    with pytest.raises(TrainingError, match=rf"step \d+ \(epoch 1\).*{10:016x}"):
        run_jobs(with_folds(tmp_path / "model", plan, given, SMALL, "cpu"), silent)


def test_the_last_good_checkpoint_is_kept_and_named(tmp_path: Path) -> None:
    examples = toy(tmp_path)
    given = material(examples)
    stored = np.memmap(tmp_path / "whitened", np.float16, "r+", shape=(96, TOKENS, 16))

    def spoil(done: int, total: int, what: str) -> None:
        if done == 3:  # the first epoch is over
            stored[:] = np.inf
            stored.flush()

    plan = blueprint(SMALL, LABELS, "tf_efficientnet_lite0", 224)
    kept = tmp_path / "model" / WHOLE / CHECKPOINT
    with pytest.raises(TrainingError, match=rf"epoch 2.*checkpoint is kept: {kept}"):
        run_jobs(with_folds(tmp_path / "model", plan, given, SMALL, "cpu"), spoil)
    assert kept.is_file()


def test_fold_models_do_not_see_their_fold(tmp_path: Path) -> None:
    examples = toy(tmp_path)
    settings = SMALL.model_copy(update={"folds": 3})
    plan = blueprint(settings, LABELS, "tf_efficientnet_lite0", 224)
    jobs = with_folds(tmp_path, plan, material(examples, examples, described=False), settings, "cpu")
    assert [job.name for job in jobs] == ["whole", "fold-0", "fold-1", "fold-2"]
    for fold, job in enumerate(jobs[1:]):
        assert {fold_of(image_id, 3) for image_id in job.examples.image_ids} == {0, 1, 2} - {fold}
        assert job.held_out is not None
        assert {fold_of(image_id, 3) for image_id in job.held_out.image_ids} == {fold}


@pytest.mark.parametrize("worth_a_process", [0, 5_000])
def test_folds_are_trained_and_calibrated_side_by_side_or_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worth_a_process: int
) -> None:
    monkeypatch.setattr(tasks.training.jobs, "WORTH_A_PROCESS", worth_a_process)
    monkeypatch.setattr(tasks.training.jobs, "cores", lambda: 2)
    examples = toy(tmp_path)
    settings = SMALL.model_copy(update={"folds": 2, "epochs": 1})
    plan = blueprint(settings, LABELS, "tf_efficientnet_lite0", 224)
    jobs = with_folds(tmp_path / "model", plan, material(examples, examples), settings, "cpu")
    told: list[tuple[int, int]] = []
    log = run_jobs(jobs, lambda done, total, what: told.append((done, total)))
    assert sorted(set(log["model"].to_pylist())) == ["fold-0", "fold-1", "whole"]
    assert told[-1][0] == told[-1][1] == (6 if worth_a_process else 1000)
    for job in jobs:
        assert all(label.threshold is not None for label in load_tagger(job.folder).labels)
        assert json.loads((job.folder / RECORD).read_text())["settings"]["folds"] == 2


def test_the_order_of_the_data_follows_from_the_seed() -> None:
    first, again, other = (np.concatenate(data_order(50, 8, seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert sorted(first) == list(range(50))
    assert [len(batch) for batch in data_order(50, 8, 1)] == [8] * 6 + [2]


def test_views_follow_from_the_seed_and_all_are_shown(tmp_path: Path) -> None:
    images = toy(tmp_path).images
    order = [np.arange(48)]
    first, again, other = (next(images.batches(order, seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    changed = (first != other).flatten(1).any(1)
    assert 0 < changed.sum() < 48
    assert torch.equal(
        next(images.whole(order))[3],
        torch.from_numpy(
            np.array(np.memmap(tmp_path / "tokens", np.float16, "r", shape=(96, TOKENS, WIDTH))[6], np.float32)
        ),
    )


def test_warm_up_and_cosine() -> None:
    rates = [schedule(step, 100, 10, SMALL) for step in range(100)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5] == 1.0
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[5:]))
    assert rates[-1] < 0.01
    assert schedule(0, 1, 1, SMALL) == 1.0


def test_a_tenth_less_after_each_epoch_as_in_pretraining() -> None:
    settings = SMALL.model_copy(update={"schedule": "decay", "warm_up_steps": 4})
    rates = [schedule(step, 30, 10, settings) for step in range(30)]
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[9::10] == pytest.approx([1.0, 0.9, 0.81])


def test_norms_and_biases_do_not_decay() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    model[0].bias.requires_grad_(True)
    decayed, free = parameter_groups(model, 0.05)
    assert [each.shape for each in decayed["params"]] == [(3, 3)]
    assert [each.shape for each in free["params"]] == [(3,), (3,), (3,)]
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.05, 0.0)


def test_one_example_keeps_its_captions_and_targets_in_a_subset(tmp_path: Path) -> None:
    examples = toy(tmp_path, captions=True)
    part = examples.subset(np.array([7, 3]))
    assert list(part.image_ids) == [examples.image_ids[7], examples.image_ids[3]]
    assert part.caption_choice(np.array([1, 0]), random.Random(0)) == examples.caption_choice(
        np.array([3, 7]), random.Random(0)
    )
    assert (part.targets.toarray() == examples.targets.toarray()[[7, 3]]).all()


@pytest.mark.parametrize("architecture", ["tag2text", "ram"])
def test_whitening_folds_into_the_weights_and_out_again(tmp_path: Path, architecture: str) -> None:
    examples = toy(tmp_path, captions=True)
    settings = SMALL.model_copy(update={"architecture": architecture, "caption": True, "captioner_layers": 2})
    plan = blueprint(settings, LABELS, "tf_efficientnet_lite0", 224, ["a dog runs"])
    model = plan.make(0).eval()
    tokens = next(examples.images.whole([np.arange(4)]))
    words = model.tokenizer.captions(["a dog"] * 4), model.tag_token_ids([["dog"]] * 4)
    whitening = Whitening.of_tokens(examples.images, 16)
    whitening.narrow(token_readers(model), fresh=True)
    with torch.inference_mode():
        narrow = model(whitening(tokens), *words)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        whitening.widen(token_readers(model))
        wide = model(tokens, *words)
    assert torch.allclose(narrow.tag_logits, wide.tag_logits, atol=1e-4)
    assert torch.allclose(narrow.caption_loss, wide.caption_loss, atol=1e-4)
    whitening.narrow(token_readers(model), fresh=False)
    after = model.state_dict()
    assert all(torch.allclose(before[name], after[name], atol=1e-4) for name in before)


def test_whitened_tokens_are_centred_uncorrelated_and_of_unit_variance(tmp_path: Path) -> None:
    examples = toy(tmp_path)
    whitened = Whitening.of_tokens(examples.images, 16)(next(examples.images.whole([np.arange(48)]))).flatten(0, 1)
    covariance = whitened.T @ whitened / len(whitened)
    assert whitened.mean(0).abs().max() < 1e-3
    assert torch.allclose(covariance, torch.eye(16), atol=0.05)
