"""Map stage `ground`: where in its image each groundable tag is, and what the annotator makes of that region alone.

Reads pairs, features, caption_tags and generated (aligned), the annotator, its tag_bars and label_system (pinned);
writes regions, and regions_rejected: boxes that are none, and images at which a detector failed.
The features of a region come from the image's token map (RoIAlign, He et al. 2017), so that no crop goes
through the image encoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from models.regions import (
    CrossAttentionProposer,
    Proposal,
    region_features,
    region_tokens,
)
from storage.schemas import contract
from tasks.annotators.trained import Annotator, Member, named_tags, whole_tokens
from tasks.images.decoding import pictures
from tasks.labels.tags import read_tags
from tasks.machine.devices import device_of
from tasks.machine.inputs import Inputs
from tasks.proposers.base import Detector, ProposerContext
from tasks.settings.executor import ExecutorSettings
from tasks.settings.ground import GroundSettings
from tasks.training.data import tag_columns

REGIONS_AT_ONCE = 512
Proposals = list[list[Proposal]]


@dataclass
class Rejected:
    """What could not be used, row by row."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, image_id: str, where: str, reason: str, detail: str) -> None:
        self.rows.append({"image_id": image_id, "where": where, "reason": reason, "detail": detail})

    def table(self) -> pa.Table:
        return pa.Table.from_pylist(self.rows, schema=contract("regions_rejected").schema)


def build(
    settings: GroundSettings, inputs: Inputs, executor: ExecutorSettings
) -> Callable[[Mapping[str, pa.Table]], Mapping[str, pa.Table]]:
    """The worker of this stage; the annotator's models are loaded once."""
    label_system = inputs.table("label_system")
    tags = tag_columns(label_system)
    annotator = Annotator(inputs.model("annotator"), tags, device_of(executor), inputs.table("tag_bars"))
    groundable = set(label_system.filter(label_system["groundable"])["tag_id"].to_pylist())
    context = ProposerContext(tuple(read_tags(label_system)), settings.max_regions, str(device_of(executor)))
    detector = settings.proposer.make(context)
    known = detector.tags if detector is not None else frozenset()

    def ground(shard: Mapping[str, pa.Table]) -> Mapping[str, pa.Table]:
        pairs = shard["pairs"]
        ids = pairs["image_id"].to_pylist()
        wanted = claimed_tags(ids, shard["caption_tags"], shard["generated"], groundable)
        named = named_tags(ids, shard["caption_tags"], tags)
        tables, rejected = [], Rejected()
        for member, rows in annotator.members(pairs):
            own = {tags.ids[column]: at for at, column in enumerate(member.columns)}  # tag id -> its label's number
            rows = np.array([row for row in rows if any(tag in own for tag in wanted[row])], np.intp)
            for batch, tokens in whole_tokens(member, pairs, shard["features"], rows):
                asked = [[tag for tag in wanted[row] if tag in own] for row in batch]
                names = [ids[row] for row in batch]
                rest = [[tag for tag in each if tag not in known] for each in asked]
                proposals = _attended(member, tokens, rest, own, settings.max_regions)
                if detector is not None:
                    seen = [[tag for tag in each if tag in known] for each in asked]
                    images = pictures(pairs.take(batch))
                    found = detected(detector, images, seen, names, rejected)
                    proposals = [[*one, *other] for one, other in zip(found, proposals, strict=True)]
                proposals = [usable(each, name, rejected) for each, name in zip(proposals, names, strict=True)]
                tables.append(_regions(member, tokens, names, named[batch], proposals, own))
        regions = pa.concat_tables(tables) if tables else _empty(annotator.whole)
        return {"regions": regions, "regions_rejected": rejected.table()}

    return ground


def detected(
    detector: Detector,
    images: Sequence[Image.Image],
    tag_ids: Sequence[Sequence[int]],
    names: Sequence[str],
    rejected: Rejected,
) -> Proposals:
    """What a detector finds; where it fails on a batch, image by image, and an image that it fails on has no region."""
    try:
        return [[Proposal(*proposal) for proposal in proposed] for proposed in detector.propose(images, tag_ids)]
    except Exception as error:  # detectors are other people's code
        if len(images) == 1:
            rejected.add(names[0], "the picture", "detector_failed", f"{type(error).__name__}: {error}")
            return [[]]
    return [
        detected(detector, [image], [tags], [name], rejected)[0]
        for image, tags, name in zip(images, tag_ids, names, strict=True)
    ]


def usable(proposals: Sequence[Proposal], image_id: str, rejected: Rejected) -> list[Proposal]:
    """The proposals cut at the picture's edges, without those of which nothing is left."""
    kept = []
    for proposal in proposals:
        x0, y0, x1, y1 = (min(1.0, max(0.0, value)) for value in proposal.box)
        if all(map(math.isfinite, (*proposal.box, proposal.score))) and x1 > x0 and y1 > y0:
            kept.append(proposal._replace(box=(x0, y0, x1, y1)))
        else:
            box = ", ".join(f"{value:.3g}" for value in proposal.box)
            rejected.add(
                image_id, f"tag {proposal.tag_id}", "bad_box", f"The box ({box}) holds nothing of the picture."
            )
    return kept


def claimed_tags(
    ids: Sequence[str], caption_tags: pa.Table, generated: pa.Table, groundable: set[int]
) -> list[list[int]]:
    """The groundable tags that anything claims for each image, ascending."""
    place = {image_id: row for row, image_id in enumerate(ids)}
    claims: list[set[int]] = [set() for _ in ids]
    for row in caption_tags.select(["image_id", "tag_ids"]).to_pylist():
        if row["image_id"] in place:
            claims[place[row["image_id"]]].update(row["tag_ids"])
    for row in generated.select(["image_id", "caption_tag_ids", "predicted"]).to_pylist():
        if row["image_id"] in place:
            claims[place[row["image_id"]]].update(row["predicted"], *row["caption_tag_ids"])
    return [sorted(claim & groundable) for claim in claims]


def _attended(
    member: Member, tokens: Tensor, tags: Sequence[Sequence[int]], own: Mapping[int, int], max_regions: int
) -> Proposals:
    """Proposals of the annotator's attention, which knows tags by the numbers of its labels."""
    tag_of = {label: tag for tag, label in own.items()}
    proposer = CrossAttentionProposer(member.model, max_regions)
    found = proposer.propose(tokens, [[own[tag] for tag in each] for each in tags])
    return [[each._replace(tag_id=tag_of[each.tag_id]) for each in proposed] for proposed in found]


@torch.inference_mode()
def _regions(
    member: Member,
    tokens: Tensor,
    ids: Sequence[str],
    named: NDArray[np.bool_],
    proposals: Sequence[Sequence[Proposal]],
    own: Mapping[int, int],
) -> pa.Table:
    """The ``regions`` of a batch of images."""
    found = [(image, each) for image, proposed in enumerate(proposals) for each in proposed]
    if not found:
        return _empty(member)
    images = torch.tensor([image for image, _ in found], device=tokens.device)
    boxes = torch.tensor([each.box for _, each in found], device=tokens.device)
    labels = torch.tensor([own[each.tag_id] for _, each in found], device=tokens.device)
    features, scores = look_at(member, tokens, ids, named, images, boxes, labels)
    return pa.table(
        {
            "image_id": pa.array([ids[image] for image, _ in found], pa.string()),
            "tag_id": pa.array([each.tag_id for _, each in found], pa.int32()),
            "box": pa.FixedSizeListArray.from_arrays(pa.array(boxes.cpu().numpy().ravel(), pa.float32()), 4),
            "detector_score": pa.array([each.score for _, each in found], pa.float32()),
            "tag_score": pa.array(scores, pa.float32()),
            "feature": pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1]),
        }
    )


def look_at(
    member: Member,
    tokens: Tensor,
    ids: Sequence[str],
    named: NDArray[np.bool_],
    images: Tensor,
    boxes: Tensor,
    labels: Tensor,
) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Features (regions, width), L2-normalised, and the calibrated probability of one label a region (regions,).

    ``tokens`` (B, 1 + N, C) of the images ``ids``, whose captions name ``named`` (B, columns); each region has an image
    of the batch, a box (x0, y0, x1, y1 in shares) and a label.
    """
    features, logits = [], []
    for start in range(0, len(images), REGIONS_AT_ONCE):
        part = slice(start, start + REGIONS_AT_ONCE)
        seen = region_tokens(tokens, images[part], boxes[part])
        features.append(region_features(seen).half().cpu().numpy())
        said = member.model.tag_logits(seen, tag_ids=labels[part, None])[:, 0]
        of = images[part]
        unseen = member.unseen(seen[:, 0], tokens[of, 0], [ids[at] for at in of], named[of.cpu().numpy()])
        said = said + unseen.gather(1, labels[part, None])[:, 0]
        logits.append(said.cpu().numpy())
    scores = member.calibration.probabilities_of(np.concatenate(logits), labels.cpu().numpy())
    return np.concatenate(features), scores.astype(np.float32)


def _empty(member: Member) -> pa.Table:
    schema = contract("regions").schema
    width = member.model.image_encoder.width
    feature = schema.get_field_index("feature")
    return schema.set(feature, pa.field("feature", pa.list_(pa.float16(), width))).empty_table()
