"""Map stage `ground`: where in its image each groundable tag is, and what the annotator makes of that region alone.

Reads pairs, features, caption_tags and generated (aligned), the annotator and label_system (pinned); writes regions.
The features of a region come from the image's token map (RoIAlign, He et al. 2017), so that no crop goes
through the image encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.regions import (
    CrossAttentionProposer,
    GroundingDinoProposer,
    Proposal,
    grounding_dino,
    region_features,
    region_tokens,
)
from storage.schemas import contract
from tasks.annotators import Annotator, Member, picture, whole_tokens
from tasks.devices import device_of
from tasks.inputs import Inputs
from tasks.settings import EngineSettings, GroundSettings
from tasks.training.data import tag_columns

REGIONS_AT_ONCE = 512


def build(
    settings: GroundSettings, inputs: Inputs, engine: EngineSettings
) -> Callable[[Mapping[str, pa.Table]], Mapping[str, pa.Table]]:
    """The worker of this stage; the annotator's models are loaded once."""
    label_system = inputs.table("label_system")
    tags = tag_columns(label_system)
    annotator = Annotator(inputs.model("annotator"), tags, device_of(engine))
    groundable = set(label_system.filter(label_system["groundable"])["tag_id"].to_pylist())
    detector = _detector(settings, label_system, device_of(engine)) if settings.proposer == "grounding_dino" else None

    def ground(shard: Mapping[str, pa.Table]) -> Mapping[str, pa.Table]:
        pairs = shard["pairs"]
        ids = pairs["image_id"].to_pylist()
        wanted = claimed_tags(ids, shard["caption_tags"], shard["generated"], groundable)
        tables = []
        for member, rows in annotator.members(pairs):
            own = {tags.ids[column]: at for at, column in enumerate(member.columns)}  # tag id -> its label's number
            rows = np.array([row for row in rows if any(tag in own for tag in wanted[row])], np.intp)
            for batch, tokens in whole_tokens(member, pairs, shard["features"], rows):
                asked = [[tag for tag in wanted[row] if tag in own] for row in batch]
                if detector is None:
                    proposals = _attended(member, tokens, asked, own, settings.max_regions)
                else:
                    proposals = detector.propose([picture(pairs, int(row)) for row in batch], asked)
                tables.append(_regions(member, tokens, [ids[row] for row in batch], proposals, own))
        return {"regions": pa.concat_tables(tables) if tables else _empty(annotator.whole)}

    return ground


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


def _detector(settings: GroundSettings, label_system: pa.Table, device: torch.device) -> GroundingDinoProposer:
    model = grounding_dino.load(settings.checkpoint, settings.configuration, settings.text_encoder).to(device)
    prompts = {row["tag_id"]: row["prompt"] or row["name"] for row in label_system.to_pylist()}
    return GroundingDinoProposer(model, prompts, settings.max_regions, settings.threshold, settings.long_edge)


def _attended(
    member: Member, tokens: Tensor, tags: Sequence[Sequence[int]], own: Mapping[int, int], max_regions: int
) -> list[list[Proposal]]:
    """Proposals of the annotator's attention, which knows tags by the numbers of its labels."""
    tag_of = {label: tag for tag, label in own.items()}
    proposer = CrossAttentionProposer(member.model, max_regions)
    found = proposer.propose(tokens, [[own[tag] for tag in each] for each in tags])
    return [[each._replace(tag_id=tag_of[each.tag_id]) for each in proposed] for proposed in found]


@torch.inference_mode()
def _regions(
    member: Member, tokens: Tensor, ids: Sequence[str], proposals: Sequence[Sequence[Proposal]], own: Mapping[int, int]
) -> pa.Table:
    """The ``regions`` of a batch of images."""
    found = [(image, each) for image, proposed in enumerate(proposals) for each in proposed]
    if not found:
        return _empty(member)
    images = torch.tensor([image for image, _ in found], device=tokens.device)
    boxes = torch.tensor([each.box for _, each in found], device=tokens.device)
    labels = torch.tensor([own[each.tag_id] for _, each in found], device=tokens.device)
    features, scores = look_at(member, tokens, images, boxes, labels)
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
    member: Member, tokens: Tensor, images: Tensor, boxes: Tensor, labels: Tensor
) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Features (regions, width), L2-normalised, and the calibrated probability of one label a region (regions,).

    ``tokens`` (B, 1 + N, C); each region has an image of the batch, a box (x0, y0, x1, y1 in shares) and a label.
    """
    features, logits = [], []
    for start in range(0, len(images), REGIONS_AT_ONCE):
        part = slice(start, start + REGIONS_AT_ONCE)
        seen = region_tokens(tokens, images[part], boxes[part])
        features.append(region_features(seen).half().cpu().numpy())
        logits.append(member.model.tag_logits(seen, tag_ids=labels[part, None])[:, 0].cpu().numpy())
    scores = member.calibration.probabilities_of(np.concatenate(logits), labels.cpu().numpy())
    return np.concatenate(features), scores.astype(np.float32)


def _empty(member: Member) -> pa.Table:
    schema = contract("regions").schema
    width = member.model.image_encoder.width
    feature = schema.get_field_index("feature")
    return schema.set(feature, pa.field("feature", pa.list_(pa.float16(), width))).empty_table()
