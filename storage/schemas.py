"""The contract of every artifact: its Arrow schema and what must hold for its rows.

A stage's output is checked against its contract before a part is written, so that a reader never has to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.names import first_round_name

ROWS = 65_536  # that are held against each other at a time
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
PHRASE = pa.struct(
    [
        ("surface", pa.string()),
        ("lemma", pa.string()),
        ("type", pa.string()),
        ("start", pa.int32()),
        ("end", pa.int32()),
    ]
)
TAG_SCORE = pa.struct([("tag_id", pa.int32()), ("score", pa.float32())])
OF_IMAGE = -1  # the caption index of tags that are the image's and no caption's
DESCRIBED = -2  # the same, of tags that name everything: what is not among them is not there
READY_TAGS = pa.struct(
    [
        ("caption_index", pa.int16()),  # or OF_IMAGE, or DESCRIBED
        ("tags", pa.list_(pa.struct([("name", pa.string()), ("type", pa.string())]))),  # type "": the source names none
    ]
)
TRUE_OBJECT = pa.struct([("name", pa.string()), ("box", pa.list_(pa.float32(), 4))])
TRUE_TAG = pa.struct([("name", pa.string()), ("type", pa.string())])


class TagSource(IntFlag):
    """Who says that an image has a tag: the bits of ``tag_verdicts.source``. In SQL they are plain numbers."""

    CAPTION = 1  # one that the image came with
    GENERATED_CAPTION = 2
    PREDICTED = 4
    BY_HAND = 8


class ContractError(ValueError):
    """A table that does not keep the contract of its artifact."""


@dataclass(frozen=True)
class Contract:
    """What holds for an artifact: ``schema``, columns that are ``unique`` together, columns that may be null.

    A column of the schema whose type is ``fixed_size_list<float16>[0]`` stands for a feature of any fixed width.
    """

    schema: pa.Schema
    unique: tuple[str, ...] = ()
    nullable: tuple[str, ...] = ()


FEATURE = pa.list_(pa.float16(), 0)


def _contract(unique: str = "", nullable: str = "", **columns: pa.DataType) -> Contract:
    schema = pa.schema([pa.field(name, type_) for name, type_ in columns.items()])
    return Contract(schema, tuple(unique.split()), tuple(nullable.split()))


REJECTED = _contract(
    nullable="image_id",
    image_id=pa.string(),  # null where the image itself could not be read
    where=pa.string(),  # the file, and the row or the caption within it
    reason=pa.string(),  # a short code that is counted, such as "image_truncated"
    detail=pa.string(),  # a sentence for a person
)

CHECKS = _contract(
    unique="check",
    check=pa.string(),
    value=pa.float64(),  # NaN: there is none; so with the interval and what is needed
    low=pa.float64(),  # the interval of the value
    high=pa.float64(),
    needed=pa.float64(),  # what the value is held against
    passed=pa.bool_(),
    told=pa.string(),  # a sentence for a person
)

CONTRACTS: dict[str, Contract] = {
    "pairs": _contract(
        unique="image_id",
        nullable="url licence extra ready_tags",
        image_id=pa.string(),  # the first 16 hexadecimal digits of sha256
        captions=pa.list_(pa.string()),
        split=pa.string(),  # train, fine_tune, calibrate or test
        sources=pa.list_(pa.string()),  # which of several sources have it
        names=pa.list_(pa.string()),  # what the source calls this image: one name a source row
        fingerprints=pa.list_(pa.string()),  # beside names: what tells a changed row without reading it
        url=pa.string(),
        licence=pa.string(),
        sha256=pa.string(),
        width=pa.int32(),
        height=pa.int32(),
        hash=pa.uint64(),  # perceptual: near-duplicates differ in a few bits
        extra=pa.string(),  # the source's other columns by name, a JSON object
        ready_tags=pa.list_(READY_TAGS),  # tags that the source gives: a caption that has some is not parsed
    ),
    "images": _contract(  # the files of the pairs, row by row in the same order
        unique="image_id",
        image_id=pa.string(),
        image=IMAGE,
    ),
    "pairs_rejected": Contract(
        REJECTED.schema.append(pa.field("fingerprint", pa.string())), (), ("image_id", "fingerprint")
    ),
    "truth": _contract(
        unique="image_id",
        image_id=pa.string(),
        objects=pa.list_(TRUE_OBJECT),  # boxes as x0, y0, x1, y1 in shares of the picture's width and height
        tags=pa.list_(TRUE_TAG),  # all that can be said: objects, scene, attributes, actions; under every usual name
        caption_of=pa.string(),  # the image that the captions describe: another one for swapped captions
    ),
    "phrases": _contract(
        unique="image_id caption_index",
        image_id=pa.string(),
        caption_index=pa.int16(),
        phrases=pa.list_(PHRASE),
    ),
    "phrases_rejected": REJECTED,
    "label_system": _contract(
        unique="tag_id",
        tag_id=pa.int32(),
        name=pa.string(),
        type=pa.string(),  # object, scene, attribute or action
        synonyms=pa.list_(pa.string()),  # other lemmas that mean this tag, without its name
        count=pa.int64(),
        active=pa.bool_(),  # false: switched off or retired; the id stays taken
        groundable=pa.bool_(),
        prompt=pa.string(),  # what a detector is asked for
    ),
    "label_edits": _contract(  # a person's decisions about tags; null: left to the engine
        unique="tag_id",
        nullable="name type status merge_into groundable prompt",
        tag_id=pa.int32(),
        name=pa.string(),
        type=pa.string(),
        status=pa.string(),  # active, off or retired
        merge_into=pa.int32(),  # the tag that takes its words
        synonyms_added=pa.list_(pa.string()),
        synonyms_dropped=pa.list_(pa.string()),
        groundable=pa.bool_(),
        prompt=pa.string(),
    ),
    "caption_tags": _contract(
        unique="image_id caption_index",
        image_id=pa.string(),
        caption_index=pa.int16(),
        tag_ids=pa.list_(pa.int32()),
    ),
    "candidates": _contract(lemma=pa.string(), type=pa.string(), count=pa.int64()),
    "features": _contract(
        unique="image_id view image_size",
        image_id=pa.string(),
        view=pa.int8(),  # 0: the whole picture; 1, 2, ..: fixed augmented views
        image_size=pa.int16(),
        image_encoder=pa.string(),  # the model that the tokens come from
        tokens=pa.list_(FEATURE),  # 1 + grid x grid vectors, row by row, the mean token first
    ),
    "measures": _contract(
        unique="image_id",
        nullable="unwanted",
        image_id=pa.string(),
        split=pa.string(),
        width=pa.int32(),
        height=pa.int32(),
        hash=pa.uint64(),
        bare=pa.bool_(),  # see storage.bare
        vector=FEATURE,  # the frozen encoder's, projected and L2-normalised
        caption_fits=pa.list_(pa.float32()),  # how well each caption fits, -1..1; empty: no one was asked
        unwanted=pa.float32(),  # the probability of a classifier's unwanted classes; null: none was asked
    ),
    "screening": _contract(
        unique="image_id",
        nullable="nearest cosine hash_bits duplicate_of caption_fit unwanted",
        image_id=pa.string(),
        split=pa.string(),
        nearest=pa.string(),  # the image that it falls for, else the one that is most like it; null: it is alone
        cosine=pa.float32(),  # of the two vectors
        hash_bits=pa.int16(),  # in which the two hashes differ, 0..64
        duplicate_of=pa.string(),  # the image that it falls for, if it does
        short_side=pa.int32(),  # pixels
        aspect=pa.float32(),  # the longer side over the shorter
        caption_fit=pa.float32(),  # of the caption that fits best
        unwanted=pa.float32(),
        kept=pa.bool_(),
        reasons=pa.list_(pa.string()),  # leaks, duplicate, too_small, too_long, caption_disagrees, unwanted
    ),
    "training_log": _contract(
        model=pa.string(), step=pa.int32(), epoch=pa.float32(), name=pa.string(), value=pa.float32()
    ),
    "tag_bars": _contract(  # what is known of each tag that the annotator may add
        unique="tag_id",
        tag_id=pa.int32(),
        slope=pa.float64(),  # P(named | image) = sigmoid(slope logit + intercept)
        intercept=pa.float64(),
        described=pa.bool_(),  # the sigmoid is of what is there, since the images that it was fitted to name everything
        mention_rate=pa.float64(),  # c = P(a caption names it | it is there), 0..1
        mention_low=pa.float64(),
        named=pa.int64(),  # training pictures whose captions name it
        plausible=pa.float64(),  # the share of pictures, 0..1, in which it can be there at all
        plausible_low=pa.float64(),
        plausible_high=pa.float64(),
        cut=pa.float64(),  # the logit from which on it is added; infinite: never
        bare_cut=pa.float64(),  # the same of a picture that came without captions
        threshold=pa.float64(),  # the least probability, of a tag that no caption names, to be added; above 1: never
        precision=pa.float64(),  # the share of the additions that is right, as estimated; NaN: there are none
        precision_low=pa.float64(),
        added_share=pa.float64(),  # the share of the pictures that it is added to
        reason=pa.string(),  # added, unsure or too_few
    ),
    "annotator_checks": CHECKS,  # of the annotator, before it adds anything
    "judge_checks": CHECKS,  # of the judge and of the captioner, before they are listened to
    "generated": _contract(
        unique="image_id",
        image_id=pa.string(),
        captions=pa.list_(pa.string()),
        caption_tag_ids=pa.list_(pa.list_(pa.int32())),  # one list a generated caption
        caption_fits=pa.list_(
            pa.float32()
        ),  # how well each generated caption fits the picture; empty: no one was asked
        original_caption_fits=pa.list_(pa.float32()),  # and each of the original captions
        scores=pa.list_(TAG_SCORE),  # calibrated probabilities, highest first, some below the thresholds too
        predicted=pa.list_(pa.int32()),  # the tags whose score passes their threshold
    ),
    "generated_rejected": REJECTED,
    "regions": _contract(
        nullable="tag_score",
        image_id=pa.string(),
        tag_id=pa.int32(),
        box=pa.list_(pa.float32(), 4),  # x0, y0, x1, y1 in shares of the picture's width and height
        detector_score=pa.float32(),
        tag_score=pa.float32(),  # the annotator's probability of the tag for this region alone; null: it cannot tell
        feature=FEATURE,  # L2-normalised
    ),
    "regions_rejected": REJECTED,
    "clusters": _contract(
        unique="tag_id cluster",
        tag_id=pa.int32(),
        cluster=pa.int16(),
        centroid=pa.list_(pa.float32()),
        count=pa.int32(),  # its regions
        distances=pa.list_(pa.float32()),  # of all regions of the tag to their centroids: the 0th to 100th percentile
    ),
    "tag_verdicts": _contract(
        unique="image_id tag_id",
        nullable="typicality region_score",
        image_id=pa.string(),
        tag_id=pa.int32(),
        source=pa.uint8(),  # bits, see TagSource
        score=pa.float32(),  # the annotator's calibrated probability for the whole image
        target=pa.float32(),  # what the retrained model is taught: 0..1
        region_score=pa.float32(),  # the best tag_score of its regions
        typicality=pa.float32(),  # of its most typical region, 0..1
        confidence=pa.float32(),  # 0..1, how sure the picture makes the engine of it, be it said or added
        kept=pa.bool_(),
        reason=pa.string(),  # kept, no_box, cluster_outlier, region_not_predicted, ...
    ),
    "verdict_edits": _contract(  # a person's decisions, which win over the engine's
        unique="image_id tag_id",
        image_id=pa.string(),
        tag_id=pa.int32(),
        kept=pa.bool_(),
    ),
    "predictions": _contract(
        unique="model image_id",
        model=pa.string(),
        image_id=pa.string(),
        scores=pa.list_(pa.float32()),  # one score a label of the evaluation's label list, in its order
    ),
    "metrics": _contract(
        nullable="tag",
        model=pa.string(),  # a row of the ablation
        metric=pa.string(),  # mAP, CP, CR, CF1, OP, OR, OF1, AP, ...
        subset=pa.string(),  # all, a type, a frequency band, never_captioned
        tag=pa.string(),  # null for a figure over many tags
        value=pa.float64(),
    ),
    "verdict": _contract(  # tasks/evaluation/verdict.py; the retrained model comes first
        unique="model",
        word=pa.string(),  # better, no difference shown, worse or not compared
        difference=pa.float64(),  # of mAP, with its 95% interval, paired over the test pictures
        low=pa.float64(),
        high=pa.float64(),
        after=pa.float64(),  # mAP of the model
        before=pa.float64(),  # and of the one that it is compared with
        pictures=pa.int64(),
        tags=pa.int64(),
        against=pa.string(),  # truth, described, captions, labels, captions and labels
        model=pa.string(),
        compared_with=pa.string(),
        reason=pa.string(),  # why it is not compared
    ),
}


def add(contracts: Mapping[str, Contract]) -> None:
    """Makes the contracts of further artifacts known: those of a stage that an installed package brings."""
    CONTRACTS.update(contracts)


def contract(artifact: str) -> Contract:
    """The contract of ``artifact``; a round's artifact (``generated-2``) keeps that of the first round.

    All training logs (``ram_log``, ``baseline_log``, ...) share one contract.
    """
    name = first_round_name(artifact)
    if name.endswith("_log"):
        name = "training_log"
    try:
        return CONTRACTS[name]
    except KeyError:
        raise ContractError(f"there is no artifact '{artifact}'; known: {', '.join(CONTRACTS)}") from None


def check(artifact: str, table: pa.Table) -> pa.Table:
    """``table`` with the contract's column order; raises :class:`ContractError` saying what is broken and where."""
    rules = contract(artifact)
    names = rules.schema.names
    if set(table.column_names) != set(names):
        raise ContractError(f"{artifact}: columns {sorted(table.column_names)} should be {sorted(names)}")
    table = table.select(names)
    for field in rules.schema:
        found = table.schema.field(field.name).type
        any_width = field.type in (FEATURE, pa.list_(FEATURE))
        if any_width and not _is_feature(found, field.type):
            raise ContractError(f"{artifact}.{field.name}: {found} should be {field.type} of any fixed width")
        if not any_width and found != field.type:
            table = table.set_column(
                table.schema.get_field_index(field.name), field.name, table[field.name].cast(field.type)
            )
        if table[field.name].null_count and field.name not in rules.nullable:
            raise ContractError(f"{artifact}.{field.name}: {table[field.name].null_count} nulls where none may be")
    if (repeated := _repeated(table.select(list(rules.unique)))) is not None:
        raise ContractError(f"{artifact}: {rules.unique} must be unique, but {repeated} stands more than once")
    return table


def _repeated(keys: pa.Table) -> dict[str, Any] | None:
    """A row that stands more than once among ``keys``; None where none does. Sorting takes a tenth of the memory that
    a table of hashes does."""
    order = pc.sort_indices(keys, [(name, "ascending") for name in keys.column_names]) if keys.num_columns else []
    for start in range(0, len(order) - 1, ROWS):
        rows = keys.take(order[start : start + ROWS + 1])
        same = [pc.equal(rows[name][:-1], rows[name][1:]) for name in keys.column_names]
        place = pc.index(reduce(pc.and_, same), True).as_py()
        if place >= 0:
            return dict(rows.slice(place, 1).to_pylist()[0])
    return None


def _is_feature(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether ``found`` is ``wanted`` (features, or lists of them) at some width."""
    if pa.types.is_fixed_size_list(wanted):
        return bool(pa.types.is_fixed_size_list(found) and found.value_type == wanted.value_type)
    return bool(pa.types.is_list(found)) and _is_feature(found.value_type, wanted.value_type)
