"""Map stage `generate`: the annotator adds captions and tags to every image, out of fold to those that it learnt from.

Reads pairs, features and caption_tags (aligned), the model ``annotator``, its tag_bars and label_system (pinned), and
in later rounds previous_generated (aligned), whose captions are kept where the annotator has no captioner; writes
generated.
A score is the probability that a tag is there, given the picture and that the captions name it, or do not.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from models.captioner import Decoding
from storage.schemas import contract
from tasks.annotators.trained import Annotator, Member, answers, named_tags, picture
from tasks.judging.caption_fit import caption_fit
from tasks.labels.lookup import TagLookup
from tasks.labels.tags import read_tags
from tasks.machine.devices import device_of
from tasks.machine.inputs import Inputs
from tasks.parsing import CaptionParser, ParsedCaption
from tasks.settings.executor import ExecutorSettings
from tasks.settings.generate import GenerateSettings
from tasks.training.data import TagColumns, tag_columns

Captions = list[list[str]]
TagIds = list[list[list[int]]]


def build(
    settings: GenerateSettings, inputs: Inputs, executor: ExecutorSettings
) -> Callable[[Mapping[str, pa.Table]], Mapping[str, pa.Table]]:
    """The worker of this stage; the annotator's models are loaded once."""
    label_system = inputs.table("label_system")
    tags = tag_columns(label_system)
    annotator = Annotator(inputs.model("annotator"), tags, device_of(executor), inputs.table("tag_bars"))
    names = [label.name for label in tags.labels]
    captions = settings.captions > 0 and annotator.whole.model.captioner is not None
    parse = _caption_parser(label_system) if captions else None
    fit = caption_fit(settings.caption_judge, annotator.whole.model.config.image_encoder, device_of(executor))

    def generate(shard: Mapping[str, pa.Table]) -> Mapping[str, pa.Table]:
        pairs = shard["pairs"]
        scores = np.zeros((pairs.num_rows, len(tags.ids)), np.float32)
        predicted = np.zeros(scores.shape, bool)
        written: Captions = [[] for _ in range(pairs.num_rows)]
        fits: list[list[list[float]]] = [[[], []] for _ in range(pairs.num_rows)]  # of written and original captions
        originals = pairs["captions"].to_pylist()
        ids = pairs["image_id"].to_pylist()
        named = named_tags(ids, shard["caption_tags"], tags)
        for member, rows in annotator.members(pairs):
            for batch, tokens, logits in answers(member, pairs, shard["features"], rows, named):
                places = np.ix_(batch, member.columns)
                scores[places] = member.calibration.probabilities(logits, named[places])
                predicted[places] = logits >= member.calibration.cuts
                if captions:
                    steering = [[names[at] for at in np.flatnonzero(predicted[row])] for row in batch]
                    texts = _write(member, tokens, steering, [ids[row] for row in batch], settings)
                    for row, text in zip(batch, texts, strict=True):
                        written[row] = text
                if fit is not None:
                    images = [picture(pairs, int(row)) for row in batch]
                    for row, both in zip(
                        batch, fit(images, [[written[row], originals[row]] for row in batch]), strict=True
                    ):
                        fits[row] = both
        if parse is not None:
            caption_tags = _supported(parse(written), scores, tags, settings.caption_support)
        else:
            written, caption_tags = _carried_over(ids, shard.get("previous_generated"))
        # the scores of what captions name are needed to judge it
        kept = predicted | named | _best(scores, predicted, settings.keep_below)
        table = pa.table(
            {
                "image_id": pairs["image_id"],
                "captions": pa.array(written, pa.list_(pa.string())),
                "caption_tag_ids": pa.array(caption_tags, pa.list_(pa.list_(pa.int32()))),
                "fits": pa.array([each[0] for each in fits], pa.list_(pa.float32())),
                "original_fits": pa.array([each[1] for each in fits], pa.list_(pa.float32())),
                "scores": pa.array(
                    [_scored(tags.ids, scores[row], kept[row]) for row in range(pairs.num_rows)],
                    contract("generated").schema.field("scores").type,
                ),
                "predicted": pa.array(
                    [[tags.ids[at] for at in np.flatnonzero(row)] for row in predicted], pa.list_(pa.int32())
                ),
            }
        )
        return {"generated": table}

    return generate


def _write(
    member: Member, tokens: torch.Tensor, tags: Sequence[Sequence[str]], ids: Sequence[str], settings: GenerateSettings
) -> list[list[str]]:
    """The captions of each image; a sampled one depends on the image and its number alone."""
    written: list[list[str]] = [[] for _ in ids]
    for number in range(settings.captions):
        by = settings.decoding if number == 0 else "nucleus"
        decoding = Decoding(by, beams=settings.beams, max_length=settings.max_length)
        seeds = [zlib.crc32(f"{image_id}/{number}".encode()) for image_id in ids]
        texts = member.model.generate_captions(tokens, tags, decoding, seeds)
        for captions, text in zip(written, texts, strict=True):
            captions.append(text)
    return written


def _caption_parser(label_system: pa.Table) -> Callable[[Captions], TagIds]:
    """Captions of each image -> the ids of the tags that each names."""
    parser, look_up = CaptionParser(), TagLookup(read_tags(label_system))

    def parse(captions: Captions) -> TagIds:
        parsed = iter(parser.parse([text for texts in captions for text in texts]))
        return [[named(next(parsed)) for _ in texts] for texts in captions]

    def named(caption: ParsedCaption) -> list[int]:
        tags = (look_up.find(phrase.lemma, phrase.type) for phrase in caption.phrases)
        return list(dict.fromkeys(tag.tag_id for tag in tags if tag is not None and tag.active))

    return parse


def _supported(named: TagIds, scores: NDArray[np.float32], tags: TagColumns, least: float) -> TagIds:
    """Only tags that the tagger sees as well: a captioner goes on as captions go on, whatever the picture."""
    return [
        [[tag for tag in caption if tag in tags.column and row[tags.column[tag]] >= least] for caption in captions]
        for captions, row in zip(named, scores, strict=True)
    ]


def _carried_over(ids: Sequence[str], previous: pa.Table | None) -> tuple[Captions, TagIds]:
    """The captions that the round before wrote, and their tags."""
    if previous is None:
        return [[] for _ in ids], [[] for _ in ids]
    rows = {row["image_id"]: row for row in previous.select(["image_id", "captions", "caption_tag_ids"]).to_pylist()}
    return [rows[each]["captions"] for each in ids], [rows[each]["caption_tag_ids"] for each in ids]


def _best(scores: NDArray[np.float32], predicted: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """(images, tags): the ``count`` best of each image's scores that are not predicted."""
    below = np.where(predicted, -1, scores)
    best = np.zeros(scores.shape, bool)
    count = min(count, scores.shape[1])
    if count:
        np.put_along_axis(best, np.argpartition(-below, count - 1, axis=1)[:, :count], True, axis=1)
    return best & ~predicted


def _scored(tag_ids: Sequence[int], scores: NDArray[np.float32], kept: NDArray[np.bool_]) -> list[dict[str, float]]:
    columns = np.flatnonzero(kept)
    columns = columns[np.argsort(-scores[columns], kind="stable")]
    return [{"tag_id": tag_ids[int(at)], "score": float(scores[at])} for at in columns]
