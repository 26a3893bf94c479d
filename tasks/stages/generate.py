"""Map stage `generate`: the annotator adds captions and tags to every image, out of fold to those that it learnt from.

Reads pairs, images, features and caption_tags (aligned), the model ``annotator``, its tag_bars and label_system
(pinned), and in later rounds previous_generated (aligned), whose captions are kept where the annotator has no
captioner; writes generated, and generated_rejected: the images that the annotator or the caption judge failed on, which
have no row in generated.
A score is the probability that a tag is there, given the picture and that the captions name it, or do not. Where an
image came without captions it is given the picture alone, and tags have bars of their own there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.bare import are_bare
from storage.schemas import TAG_SCORE, contract
from tasks.annotators.asking import annotated, isolated
from tasks.annotators.base import Annotator, AnnotatorContext, Batch, named_tags
from tasks.annotators.folder import open_annotator
from tasks.caption_judges.base import CaptionFit, context_of
from tasks.images.files import ImageFiles
from tasks.images.tokens import StoredTokens
from tasks.labels.tags import read_tags
from tasks.labels.texts import TagIds, tag_reader
from tasks.machine.devices import device_of
from tasks.machine.inputs import Inputs
from tasks.settings.executor import ExecutorSettings
from tasks.settings.generate import GenerateSettings
from tasks.training.calibration import Calibration
from tasks.training.data import TagColumns, tag_columns

Captions = list[list[str]]


@dataclass
class Said:
    """What the annotator says of a shard's images, row by row: scores (images, tags), which of the tags are added,
    captions, how well these and the originals fit; and for images that are lost a code and a sentence why."""

    scores: NDArray[np.float32]
    predicted: NDArray[np.bool_]
    captions: Captions
    fits: list[list[float]]
    original_fits: list[list[float]]
    failed: dict[int, tuple[str, str]]

    @classmethod
    def nothing(cls, images: int, tags: int) -> Said:
        fits: list[list[float]] = [[] for _ in range(images)]
        original_fits: list[list[float]] = [[] for _ in range(images)]
        scores, predicted = np.zeros((images, tags), np.float32), np.zeros((images, tags), bool)
        return cls(scores, predicted, [[] for _ in range(images)], fits, original_fits, {})


def build(
    settings: GenerateSettings, inputs: Inputs, executor: ExecutorSettings
) -> Callable[[Mapping[str, pa.Table]], Mapping[str, pa.Table]]:
    """The worker of this stage; the annotator is made once."""
    label_system, bars = inputs.table("label_system"), inputs.table("tag_bars")
    tags, device = tag_columns(label_system), str(device_of(executor))
    annotator = open_annotator(AnnotatorContext(inputs.model("annotator"), tags, device, settings, bars))
    calibration = Calibration.of_bars(bars, [tags.ids[column] for column in annotator.columns])
    read = tag_reader(read_tags(label_system)) if settings.captions and annotator.writes else None
    caption_fit = settings.caption_judge.make(context_of(inputs, device))

    def generate(shard: Mapping[str, pa.Table]) -> Mapping[str, pa.Table]:
        pairs = shard["pairs"]
        named = named_tags(pairs["image_id"].to_pylist(), shard["caption_tags"], tags)
        batch = Batch(pairs, ImageFiles(lambda: shard["images"]), StoredTokens(shard["features"]), named)
        said = _ask(annotator, batch, calibration, settings, caption_fit)
        if read is not None:
            caption_tags = _supported(read(said.captions), said.scores, tags, settings.caption_support)
        else:
            said.captions, caption_tags = _carried_over(batch.ids, shard.get("previous_generated"))
        # the scores of what captions name are needed to judge it
        kept = said.predicted | named | _best(said.scores, said.predicted, settings.keep_below)
        return {
            "generated": _table(batch, said, caption_tags, kept, tags),
            "generated_rejected": _rejected(batch, said),
        }

    return generate


def _ask(
    annotator: Annotator,
    batch: Batch,
    calibration: Calibration,
    settings: GenerateSettings,
    caption_fit: CaptionFit | None,
) -> Said:
    """What the annotator says of the images, calibrated, and how well captions fit."""
    said = Said.nothing(len(batch), batch.named.shape[1])
    originals, bare = batch.pairs["captions"].to_pylist(), are_bare(batch.pairs)
    for rows in annotator.parts(batch):
        part = batch.subset(rows)
        answers = annotated(annotator, part)
        places = np.ix_(rows, annotator.columns)
        nothing_said = bare[rows]
        said.scores[places] = calibration.probabilities(answers.scores, batch.named[places] | nothing_said[:, None])
        said.predicted[places] = calibration.added(answers.scores, nothing_said)
        said.failed.update({int(rows[place]): ("annotator_failed", why) for place, why in answers.rejected.items()})
        for row, texts in zip(rows, answers.captions, strict=True):
            said.captions[row] = list(texts[: settings.captions])
        if caption_fit is not None:
            answered = [place for place in range(len(rows)) if place not in answers.rejected]
            _judge_captions(said, part.subset(answered), rows[answered], originals, caption_fit)
    return said


def _judge_captions(
    said: Said, batch: Batch, rows: NDArray[np.intp], originals: Sequence[Sequence[str]], caption_fit: CaptionFit
) -> None:
    """How well the written and the original captions fit the images of a batch, which stand in these ``rows``."""

    def ask(places: Sequence[int]) -> list[list[float]]:
        captions = [[*said.captions[rows[place]], *originals[rows[place]]] for place in places]
        return caption_fit(batch.subset(places).pictures, captions)

    def failed(place: int, why: str) -> list[float]:
        said.failed[int(rows[place])] = "caption_judge_failed", why
        return []

    for row, fits in zip(rows, isolated(ask, range(len(rows)), failed), strict=True):
        written = len(said.captions[row])
        said.fits[row], said.original_fits[row] = fits[:written], fits[written:]


def _table(batch: Batch, said: Said, caption_tags: TagIds, kept: NDArray[np.bool_], tags: TagColumns) -> pa.Table:
    """``generated``: a row for each image that the annotator answered about."""
    ids = pa.array(tags.ids, pa.int32())
    columns = {
        "image_id": batch.ids,
        "captions": said.captions,
        "caption_tag_ids": caption_tags,
        "caption_fits": said.fits,
        "original_caption_fits": said.original_fits,
        "scores": _scored(ids, said.scores, kept),
        "predicted": _lists(said.predicted, ids.take(pa.array(np.nonzero(said.predicted)[1]))),
    }
    schema = contract("generated").schema
    table = pa.table(columns).select(schema.names).cast(schema)
    return table.filter(np.array([row not in said.failed for row in range(len(batch))], bool)) if said.failed else table


def _rejected(batch: Batch, said: Said) -> pa.Table:
    rows = [
        {"image_id": batch.ids[row], "where": "the picture", "reason": reason, "detail": why}
        for row, (reason, why) in sorted(said.failed.items())
    ]
    return pa.Table.from_pylist(rows, schema=contract("generated_rejected").schema)


def _supported(named: TagIds, scores: NDArray[np.float32], tags: TagColumns, least: float) -> TagIds:
    """Only tags that the tagger sees as well: a captioner goes on as captions go on, whatever the picture."""
    return [
        [[tag for tag in caption if tag in tags.column and row[tags.column[tag]] >= least] for caption in captions]
        for captions, row in zip(named, scores, strict=True)
    ]


def _carried_over(ids: Sequence[str], previous: pa.Table | None) -> tuple[Captions, TagIds]:
    """The captions that the round before wrote, and their tags; none of an image that it failed on."""
    if previous is None:
        return [[] for _ in ids], [[] for _ in ids]
    rows = {row["image_id"]: row for row in previous.select(["image_id", "captions", "caption_tag_ids"]).to_pylist()}
    nothing: dict[str, list[list[int]]] = {"captions": [], "caption_tag_ids": []}
    before = [rows.get(image_id, nothing) for image_id in ids]
    return [row["captions"] for row in before], [row["caption_tag_ids"] for row in before]


def _best(scores: NDArray[np.float32], predicted: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """(images, tags): the ``count`` best of each image's scores that are not predicted."""
    below = np.where(predicted, -1, scores)
    best = np.zeros(scores.shape, bool)
    count = min(count, scores.shape[1])
    if count:
        np.put_along_axis(best, np.argpartition(-below, count - 1, axis=1)[:, :count], True, axis=1)
    return best & ~predicted


def _scored(tag_ids: pa.Array, scores: NDArray[np.float32], kept: NDArray[np.bool_]) -> pa.ListArray:
    """For each image the tags that are kept and their scores, the best first."""
    best_first = np.argsort(-np.where(kept, scores, -np.inf), axis=1, kind="stable")
    counts = kept.sum(axis=1)
    columns = best_first[np.arange(kept.shape[1]) < counts[:, None]]
    values = scores[np.repeat(np.arange(len(kept)), counts), columns]
    entries = [tag_ids.take(pa.array(columns)), pa.array(values)]
    return _lists(kept, pa.StructArray.from_arrays(entries, fields=list(TAG_SCORE)))


def _lists(members: NDArray[np.bool_], values: pa.Array) -> pa.ListArray:
    """A list an image of as many ``values``, which follow each other, as it has ``members`` (images, tags)."""
    ends = np.append(0, np.cumsum(members.sum(axis=1)))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values)
