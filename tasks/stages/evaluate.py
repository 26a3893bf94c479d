"""Reduce stage `evaluate`: measures every model on the test pictures, and the tags after every stage.

Reads pairs, images, features, label_system, tag_verdicts, caption_tags, the models ram, ram_fine_tuned and ablation,
and the truth where the source knows it. Else a person's labels count as true where enough test pictures are described
fully by them, else what captions and labels name. Writes predictions, metrics, and the verdict: is the model better
than one that was trained on parsed captions alone?
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from models import RAM, label_queries
from models.conse import ConSE, open_logits
from storage.bare import IN_SQL
from storage.schemas import TagSource, contract
from tasks.annotators.base import Batch
from tasks.annotators.batches import batches
from tasks.annotators.models import TrainedModel, load_model, token_batches
from tasks.evaluation.known import known_targets, measured
from tasks.evaluation.metrics import average_precisions, frequency_bands, mean_of_numbers, precision_recall
from tasks.evaluation.rows import OF_STAGES, TRAINED_ALIKE, Row
from tasks.evaluation.true_tags import TRUE_TAGS_SQL
from tasks.evaluation.verdict import NOT_COMPARED, Verdict, verdict
from tasks.machine.devices import device_of
from tasks.machine.inputs import Inputs
from tasks.settings.evaluate import EvaluateSettings
from tasks.settings.executor import ExecutorSettings
from tasks.training.data import TagColumns, tag_columns
from tasks.training.jobs import WHOLE

NEVER_CAPTIONED = "never_captioned"
PICTURES = 10_000  # that are measured on, at most: more would make the figures' intervals little narrower
Scores = NDArray[np.float32]
Members = NDArray[np.bool_]  # (tags,), which of them are in a subset


@dataclass(frozen=True)
class TestSet:
    """The test images by ascending id, and what is true of them: (images, tags) and, for nouns that no tag names,
    (images, nouns).

    ``against`` says who knows that: a key of :data:`tasks.evaluation.verdict.AGAINST`.
    """

    against: str
    image_ids: list[str]
    tags: TagColumns
    truth: NDArray[np.bool_]
    nouns: list[str]
    noun_truth: NDArray[np.bool_]


@dataclass(frozen=True)
class Candidate:
    """A row of the ablation that is to be measured.

    ``ask`` gives the scores (images, tags) of a batch, and those of the nouns (images, nouns) where it knows any word;
    ``thresholds`` are (tags,), where it has any.
    """

    name: Row
    ask: Callable[[Batch], tuple[Scores, Scores | None]]
    thresholds: Scores | None = None


def reduce(settings: EvaluateSettings, inputs: Inputs, executor: ExecutorSettings) -> Mapping[str, pa.Table]:
    """``predictions`` and ``metrics`` of the rows zero_shot, parsed, generation, cleaning, fine_tuned and truth,
    and parsed_fine_tuned and truth_fine_tuned beside the one that they are to be compared with; ``verdict``."""
    test = _test_set(inputs)
    rows, bands = _Rows(), _frequency_bands(inputs, test.tags)
    candidates = _candidates(inputs, test, executor)
    scores, noun_scores = _ask(candidates, test, inputs)
    for candidate in candidates:
        name = candidate.name
        rows.measure(name, test, scores[name], candidate.thresholds, bands)
        if test.nouns and name in noun_scores:
            values = average_precisions(test.noun_truth, noun_scores[name])
            rows.add(name, "mAP", NEVER_CAPTIONED, mean_of_numbers(values))
    rows.add(Row.CHANCE, "mAP", "all", mean_of_numbers(_prevalence(test.truth)))
    if test.nouns:
        rows.add(Row.CHANCE, "mAP", NEVER_CAPTIONED, mean_of_numbers(_prevalence(test.noun_truth)))
    if inputs.has("truth"):
        for row in inputs.sql(_TAGS_AFTER_STAGES).to_pylist():
            rows.add(row["model"], row["metric"], row["subset"], row["value"])
    verdicts = [asdict(comparison) for comparison in _verdicts(inputs, test, scores)]
    return {
        "predictions": pa.concat_tables(_predictions(name, test, values) for name, values in scores.items()),
        "metrics": rows.table(),
        "verdict": pa.Table.from_pylist(verdicts, schema=contract("verdict").schema),
    }


def _verdicts(inputs: Inputs, test: TestSet, scores: Mapping[Row, Scores]) -> Iterator[Verdict]:
    """Of the retrained model and, where there is one, of the fine-tuned."""
    reason = _not_alike(inputs) if Row.PARSED in scores else "no model was trained on parsed captions alone"
    for model, other in TRAINED_ALIKE.items():
        comparison = None
        if reason and model in scores:
            comparison = Verdict(NOT_COMPARED, pictures=len(test.image_ids), reason=reason)
        elif model in scores and other in scores:
            comparison = verdict(test.truth, scores[model], scores[other])
        if comparison is not None:
            yield replace(comparison, against=test.against, model=model, compared_with=other)


def _not_alike(inputs: Inputs) -> str:
    """Why the retrained model and the one of parsed captions differ in more than their labels; "" where they do not."""
    ram, ablation = inputs.snapshots["ram"], inputs.snapshots["ablation"]
    if "ram_previous" in ram.inputs:
        return "the retrained model goes on from an earlier one, that of parsed captions does not"
    if ram.inputs.get("pairs") != ablation.inputs.get("pairs"):
        return "the model of parsed captions was trained on other pictures; `ram-engine run` trains it again"
    apart = {"folds", "caption"}  # which the ablation does without
    trained = (ram.settings, ablation.settings)
    own, other = ({name: value for name, value in settings.items() if name not in apart} for settings in trained)
    if own != other:
        return "the model of parsed captions was trained with other settings; `ram-engine run` trains it again"
    return ""


class _Rows:
    """Collects the rows of ``metrics``."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []

    def add(self, model: str, metric: str, subset: str, value: float, tag: str | None = None) -> None:
        if value is not None and not np.isnan(value):
            self.rows.append({"model": model, "metric": metric, "subset": subset, "tag": tag, "value": float(value)})

    def measure(
        self, model: str, test: TestSet, scores: Scores, thresholds: Scores | None, bands: Mapping[str, Members]
    ) -> None:
        """mAP of all tags, of every type and frequency band, and AP a tag; with thresholds precision and recall too."""
        values = average_precisions(test.truth, scores)
        types = np.array(test.tags.types)
        subsets = {"all": np.ones(len(types), bool), **{type_: types == type_ for type_ in sorted(set(types))}, **bands}
        for subset, members in subsets.items():
            self.add(model, "mAP", subset, mean_of_numbers(values[members]))
        for label, value in zip(test.tags.labels, values, strict=True):
            self.add(model, "AP", label.type, value, label.name)
        if thresholds is not None:
            for metric, value in precision_recall(test.truth, scores >= thresholds).items():
                self.add(model, metric, "all", value)

    def table(self) -> pa.Table:
        return pa.Table.from_pylist(self.rows, schema=contract("metrics").schema)


def _test_set(inputs: Inputs) -> TestSet:
    tags = tag_columns(inputs.table("label_system"))
    pairs = inputs.sql(f"SELECT image_id FROM pairs WHERE split = 'test' AND NOT {IN_SQL} ORDER BY image_id")
    if not pairs.num_rows:
        raise ValueError("there is no captioned image of the split 'test' to measure on: set ingest.test_share above 0")
    ids, against = measured(inputs, pairs["image_id"].to_pylist())
    ids = [ids[at] for at in np.unique(np.linspace(0, len(ids) - 1, min(len(ids), PICTURES)).astype(np.intp))]
    wanted = pa.array(ids, pa.string())
    nouns: list[str] = []
    noun_truth = np.zeros((len(ids), 0), bool)
    truth = known_targets(inputs, ids, tags, against)
    if against == "truth":
        unknown = inputs.sql(_UNKNOWN_NOUNS)
        unknown = unknown.filter(pc.is_in(unknown["image_id"], value_set=wanted))
        nouns = sorted(set(unknown["name"].to_pylist()))
        noun_truth = np.zeros((len(ids), len(nouns)), bool)
        rows, columns = pc.index_in(unknown["image_id"], wanted), pc.index_in(unknown["name"], pa.array(nouns))
        noun_truth[rows.to_numpy(), columns.to_numpy()] = True
    return TestSet(against, ids, tags, truth.toarray() > 0, nouns, noun_truth)


_UNKNOWN_NOUNS = """
WITH objects AS (
    SELECT image_id, unnest(objects) AS seen FROM truth JOIN pairs USING (image_id) WHERE split = 'test'
), said AS (SELECT image_id, seen.name AS name FROM objects),
words AS (SELECT unnest(list_append(synonyms, name)) AS name FROM label_system)
SELECT DISTINCT image_id, name FROM said ANTI JOIN words USING (name) ORDER BY name, image_id
"""
"""DuckDB: the true objects of test images whose name is no tag's: what a model can only know by its text."""


def _candidates(inputs: Inputs, test: TestSet, executor: ExecutorSettings) -> list[Candidate]:
    """Every row of the ablation that there is a model of."""
    device = device_of(executor)
    ram = load_model(inputs.model("ram") / WHOLE, test.tags, device)
    config = ram.model.config
    teacher = ConSE(config.image_encoder, config.text_encoder, config.image_size).to(device)
    candidates = [Candidate(Row.ZERO_SHOT, _zero_shot(ram, teacher, test))]
    for name, folder in _model_folders(inputs):
        member = ram if name == Row.CLEANING else load_model(folder, test.tags, device)
        thresholds = np.full(len(test.tags.ids), 2, np.float32)  # of tags that the model does not know: never
        thresholds[member.columns] = member.model.thresholds().numpy()
        candidates.append(Candidate(name, _scores(member, teacher, test), thresholds))
    return candidates


def _ask(candidates: Sequence[Candidate], test: TestSet, inputs: Inputs) -> tuple[dict[Row, Scores], dict[Row, Scores]]:
    """The scores of tags and of nouns by row. Each part of the corpus is read once, and every model asked about it."""
    scores = {candidate.name: np.zeros(test.truth.shape, np.float32) for candidate in candidates}
    noun_scores: dict[Row, Scores] = {}
    answered = 0
    for rows, batch in batches(inputs, test.image_ids, test.truth):
        for candidate in candidates:
            scores[candidate.name][rows], nouns = candidate.ask(batch)
            if nouns is not None:
                noun_scores.setdefault(candidate.name, np.zeros(test.noun_truth.shape, np.float32))[rows] = nouns
        answered += len(rows)
        inputs.progress(answered, len(test.image_ids))
    return scores, noun_scores


def _model_folders(inputs: Inputs) -> Iterator[tuple[Row, Path]]:
    ablation = inputs.model("ablation") if inputs.has("ablation") else None
    if ablation is not None:
        yield from ((row, ablation / row) for row in (Row.PARSED, Row.GENERATION) if (ablation / row).is_dir())
    yield Row.CLEANING, inputs.model("ram") / WHOLE
    fine_tuned = inputs.model("ram_fine_tuned") if inputs.has("ram_fine_tuned") else None
    if fine_tuned is not None:
        yield Row.FINE_TUNED, fine_tuned / WHOLE
    if ablation is not None and (ablation / Row.TRUTH).is_dir():
        yield Row.TRUTH, ablation / Row.TRUTH
    if fine_tuned is not None:
        yield from ((row.fine_tuned, fine_tuned / row) for row in OF_STAGES if (fine_tuned / row).is_dir())


def _scores(member: TrainedModel, teacher: ConSE, test: TestSet) -> Callable[[Batch], tuple[Scores, Scores | None]]:
    """Probabilities of the tags, 0 for tags that the model does not know, and of the unknown nouns."""
    model = member.model
    opened = model if isinstance(model, RAM) and test.nouns else None
    queries = label_queries.build(test.nouns, model.config.text_encoder).to(member.device) if opened else None

    @torch.inference_mode()
    def ask(batch: Batch) -> tuple[Scores, Scores | None]:
        scores = np.zeros((len(batch), len(test.tags.ids)), np.float32)
        nouns = np.zeros((len(batch), len(test.nouns)), np.float32)
        for rows, tokens in token_batches(member, batch):
            scores[np.ix_(rows, member.columns)] = model.tag_logits(tokens).sigmoid().cpu().numpy()
            if opened is not None and queries is not None:
                nouns[rows] = open_logits(opened, teacher, tokens, queries).sigmoid().cpu().numpy()
        return scores, None if opened is None else nouns

    return ask


def _zero_shot(ram: TrainedModel, teacher: ConSE, test: TestSet) -> Callable[[Batch], tuple[Scores, Scores | None]]:
    """Cosine similarities of the untrained teacher, with the image encoder of ``ram``."""
    names = [*test.tags.query_texts, *test.nouns]
    queries = label_queries.build(names, ram.model.config.text_encoder).to(ram.device)

    @torch.inference_mode()
    def ask(batch: Batch) -> tuple[Scores, Scores | None]:
        scores = np.zeros((len(batch), len(names)), np.float32)
        for rows, tokens in token_batches(ram, batch):
            scores[rows] = teacher.scores(tokens, queries, "max").cpu().numpy()
        return scores[:, : len(test.tags.ids)], scores[:, len(test.tags.ids) :]

    return ask


def _predictions(model: str, test: TestSet, scores: Scores) -> pa.Table:
    ends = pa.array(np.arange(len(scores) + 1, dtype=np.int32) * scores.shape[1])
    lists = pa.ListArray.from_arrays(ends, pa.array(scores.ravel()))  # no copy of them
    return pa.table({"model": pa.array([model] * len(scores)), "image_id": test.image_ids, "scores": lists})


def _frequency_bands(inputs: Inputs, tags: TagColumns) -> dict[str, Members]:
    """The tags by how often captions name them."""
    counts = dict(zip(*inputs.table("label_system", ["tag_id", "count"]).to_pydict().values(), strict=True))
    return frequency_bands(np.array([counts[tag_id] for tag_id in tags.ids], np.int64))


def _prevalence(truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The expected average precision of scores by chance: how many images have the tag; NaN for none."""
    shares: NDArray[np.float64] = truth.mean(axis=0)
    return np.where(shares > 0, shares, np.nan)


_TAGS_AFTER_STAGES = f"""
WITH train AS (SELECT image_id FROM pairs WHERE split = 'train' AND NOT {IN_SQL}),
true_tags AS (SELECT *, true AS is_true FROM ({TRUE_TAGS_SQL}) SEMI JOIN train USING (image_id)),
judged AS (
    SELECT source & {TagSource.CAPTION} > 0 AS parsed, kept, coalesce(is_true, false) AS correct
    FROM tag_verdicts SEMI JOIN train USING (image_id) LEFT JOIN true_tags USING (image_id, tag_id)
),
figures AS (
    SELECT
        (SELECT count(*) FROM true_tags) AS all_true,
        count(*) FILTER (parsed) AS n_parsed, count(*) FILTER (parsed AND correct) AS right_parsed,
        count(*) AS n_generated, count(*) FILTER (correct) AS right_generated,
        count(*) FILTER (NOT parsed) AS n_added, count(*) FILTER (NOT parsed AND correct) AS right_added,
        count(*) FILTER (kept) AS n_kept, count(*) FILTER (kept AND correct) AS right_kept,
        count(*) FILTER (NOT kept) AS n_removed, count(*) FILTER (NOT kept AND correct) AS right_removed
    FROM judged
)
SELECT 'train' AS subset, model, metric, value FROM (
    SELECT '{Row.PARSED}' AS model, 'tag_precision' AS metric, right_parsed / n_parsed AS value FROM figures
    UNION ALL SELECT '{Row.PARSED}', 'tag_recall', right_parsed / all_true FROM figures
    UNION ALL SELECT '{Row.GENERATION}', 'tag_precision', right_generated / n_generated FROM figures
    UNION ALL SELECT '{Row.GENERATION}', 'tag_recall', right_generated / all_true FROM figures
    UNION ALL SELECT '{Row.GENERATION}', 'added_precision', right_added / n_added FROM figures
    UNION ALL SELECT '{Row.CLEANING}', 'tag_precision', right_kept / n_kept FROM figures
    UNION ALL SELECT '{Row.CLEANING}', 'tag_recall', right_kept / all_true FROM figures
    UNION ALL SELECT '{Row.CLEANING}', 'wrong_share_removed', 1 - right_removed / n_removed FROM figures
    UNION ALL SELECT '{Row.CLEANING}', 'wrong_share_kept', 1 - right_kept / n_kept FROM figures
    UNION ALL SELECT '{Row.CLEANING}', 'right_tags_lost', right_removed / right_generated FROM figures
)
"""
"""DuckDB: how right the training images' tags are, as parsed, after generation and after cleaning."""
