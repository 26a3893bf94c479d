"""Map stage `ground`: where in its image each groundable tag is, and what the annotator makes of that region alone.

Reads pairs, features, caption_tags and generated (aligned), the annotator, its tag_bars and label_system (pinned);
writes regions, and regions_rejected: boxes that are none, and images at which a detector or the annotator failed.
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

from models.regions import Proposal, region_features, region_tokens
from storage.schemas import contract
from tasks.annotators.asking import isolated
from tasks.annotators.base import REGIONS_AT_ONCE, Annotator, AnnotatorContext, Batch, Regions, named_tags
from tasks.annotators.folder import open_annotator
from tasks.images.files import ImageFiles
from tasks.images.tokens import StoredTokens
from tasks.labels.tags import read_tags
from tasks.machine.devices import device_of
from tasks.machine.inputs import Inputs
from tasks.proposers.base import Detector, ProposerContext
from tasks.settings.executor import ExecutorSettings
from tasks.settings.ground import GroundSettings
from tasks.training.calibration import Calibration
from tasks.training.data import tag_columns

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
    """The worker of this stage; the annotator and the detector are made once."""
    label_system, bars = inputs.table("label_system"), inputs.table("tag_bars")
    tags, device = tag_columns(label_system), str(device_of(executor))
    annotator = open_annotator(AnnotatorContext(inputs.model("annotator"), tags, device, bars=bars))
    known = [tags.ids[column] for column in annotator.columns]
    context = ProposerContext(tuple(read_tags(label_system)), settings.max_regions, device)
    grounder = Grounder(
        annotator, settings.proposer.make(context), Calibration.of_bars(bars, known), known, settings.max_regions
    )
    groundable = set(label_system.filter(label_system["groundable"])["tag_id"].to_pylist()) & set(known)

    def ground(shard: Mapping[str, pa.Table]) -> Mapping[str, pa.Table]:
        ids = shard["pairs"]["image_id"].to_pylist()
        claims = claimed_tags(ids, shard["caption_tags"], shard["generated"], groundable)
        named = named_tags(ids, shard["caption_tags"], tags)
        batch = Batch(shard["pairs"], ImageFiles(lambda: shard["images"]), StoredTokens(shard["features"]), named)
        rows = [row for row, claim in enumerate(claims) if claim]
        asked, rejected = batch.subset(rows), Rejected()
        tables = [
            grounder.regions(asked.subset(part), [claims[rows[at]] for at in part], rejected)
            for part in annotator.parts(asked)
        ]
        regions = pa.concat_tables(tables) if tables else _empty(annotator.tokens(batch.subset([0])).shape[-1])
        return {"regions": regions, "regions_rejected": rejected.table()}

    return ground


@dataclass(frozen=True)
class Grounder:
    """Who finds regions, and who looks at them: the annotator, whose columns are the tags ``known``, and a detector."""

    annotator: Annotator
    detector: Detector | None
    calibration: Calibration
    known: Sequence[int]
    max_regions: int

    def regions(self, batch: Batch, wanted: Sequence[Sequence[int]], rejected: Rejected) -> pa.Table:
        """The ``regions`` of the tags that are ``wanted`` of each image of one of the annotator's parts of a batch."""
        detected_tags: frozenset[int] = frozenset() if self.detector is None else self.detector.tags
        rest = [[tag for tag in tags if tag not in detected_tags] for tags in wanted]
        proposals = self._found(batch, rest, rejected)
        if self.detector is not None:
            seen = [[tag for tag in tags if tag in detected_tags] for tags in wanted]
            boxes = detected(self.detector, lambda places: batch.subset(places).pictures, seen, batch.ids, rejected)
            proposals = [[*first, *then] for first, then in zip(boxes, proposals, strict=True)]
        proposals = [usable(of, image_id, rejected) for of, image_id in zip(proposals, batch.ids, strict=True)]
        return self._table(batch, proposals, rejected)

    def _found(self, batch: Batch, tags: Sequence[Sequence[int]], rejected: Rejected) -> Proposals:
        """What the annotator finds itself, where it can."""
        number = {tag: at for at, tag in enumerate(self.known)}
        columns = [[number[tag] for tag in of_image] for of_image in tags]

        def ask(places: Sequence[int]) -> Proposals:
            part = batch.subset(places)
            seen = self.annotator.find(part, [columns[place] for place in places], self.max_regions)
            if seen is None:
                return [[] for _ in places]
            return [[Proposal(self.known[at], box, score) for at, box, score in of_image] for of_image in seen]

        return isolated(ask, range(len(batch)), _failed(batch.ids, rejected, "annotator_failed"))

    def _table(self, batch: Batch, proposals: Proposals, rejected: Rejected) -> pa.Table:
        """The ``regions`` of a batch of images, with features and, where the annotator looks at regions, its scores."""
        tokens = torch.as_tensor(self.annotator.tokens(batch))
        scores = self._scores(batch, proposals, rejected)
        listed = [(image, proposal) for image, of_image in enumerate(proposals) for proposal in of_image]
        if not listed:
            return _empty(tokens.shape[-1])
        boxes = np.array([proposal.box for _, proposal in listed], np.float32)
        features = _features(tokens, [image for image, _ in listed], boxes)
        return pa.table(
            {
                "image_id": pa.array([batch.ids[image] for image, _ in listed], pa.string()),
                "tag_id": pa.array([proposal.tag_id for _, proposal in listed], pa.int32()),
                "box": pa.FixedSizeListArray.from_arrays(pa.array(boxes.ravel()), 4),
                "detector_score": pa.array([proposal.score for _, proposal in listed], pa.float32()),
                "tag_score": pa.array([score for of_image in scores for score in of_image], pa.float32()),
                "feature": pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1]),
            }
        )

    def _scores(self, batch: Batch, proposals: Proposals, rejected: Rejected) -> list[list[float | None]]:
        """For each image the calibrated probability of each of its regions' own tag, by the annotator; None: it looks
        at whole pictures only, or failed."""
        number = {tag: at for at, tag in enumerate(self.known)}

        def ask(places: Sequence[int]) -> list[list[float | None]]:
            part = batch.subset(places)
            of_part = [proposals[place] for place in places]
            images = [at for at, of_image in enumerate(of_part) for _ in of_image]
            listed = [proposal for of_image in of_part for proposal in of_image]
            columns = np.array([number[proposal.tag_id] for proposal in listed], np.int64)
            boxes = np.array([proposal.box for proposal in listed], np.float32).reshape(-1, 4)
            said = self.annotator.look(part, Regions(np.array(images, np.int64), boxes, columns)) if listed else None
            if said is None:
                return [[None] * len(of_image) for of_image in of_part]
            scores = iter(self.calibration.probabilities_of(said, columns).tolist())
            return [[next(scores) for _ in of_image] for of_image in of_part]

        failed = _failed(batch.ids, rejected, "annotator_failed")
        answers = isolated(ask, range(len(batch)), lambda place, why: failed(place, why) or None)
        return [[None] * len(of) if said is None else said for of, said in zip(proposals, answers, strict=True)]


def _failed(ids: Sequence[str], rejected: Rejected, reason: str) -> Callable[[int, str], list[Any]]:
    """Says what failed on an image, of which nothing comes then."""

    def failed(place: int, why: str) -> list[Any]:
        rejected.add(ids[place], "the picture", reason, why)
        return []

    return failed


def detected(
    detector: Detector,
    pictures: Callable[[Sequence[int]], Sequence[Image.Image]],
    tag_ids: Sequence[Sequence[int]],
    names: Sequence[str],
    rejected: Rejected,
) -> Proposals:
    """What a detector finds in the ``pictures`` at some places, which are opened here; where it fails, or a picture
    cannot be opened, image by image, and an image at which that fails has no region."""

    def ask(places: Sequence[int]) -> Proposals:
        proposed = detector.propose(pictures(places), [tag_ids[place] for place in places])
        return [[Proposal(*proposal) for proposal in of_image] for of_image in proposed]

    return isolated(ask, range(len(names)), _failed(names, rejected, "detector_failed"))


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
    """The groundable tags that anything claims for each image, ascending; none of an image that the annotator failed
    on, which has no row in ``generated``."""
    place = {image_id: row for row, image_id in enumerate(ids)}
    claims: list[set[int]] = [set() for _ in ids]
    for row in caption_tags.select(["image_id", "tag_ids"]).to_pylist():
        if row["image_id"] in place:
            claims[place[row["image_id"]]].update(row["tag_ids"])
    for row in generated.select(["image_id", "caption_tag_ids", "predicted"]).to_pylist():
        if row["image_id"] in place:
            claims[place[row["image_id"]]].update(row["predicted"], *row["caption_tag_ids"])
    answered = set(generated["image_id"].to_pylist())
    return [
        sorted(claim & groundable) if image_id in answered else [] for image_id, claim in zip(ids, claims, strict=True)
    ]


@torch.inference_mode()
def _features(tokens: torch.Tensor, images: Sequence[int], boxes: NDArray[np.float32]) -> NDArray[np.float16]:
    """(regions, width), L2-normalised: the features of ``boxes`` in the ``images`` whose ``tokens`` (B, 1 + N, C) these
    are."""
    of, where = torch.tensor(images, device=tokens.device), torch.from_numpy(boxes).to(tokens.device)
    parts = zip(of.split(REGIONS_AT_ONCE), where.split(REGIONS_AT_ONCE), strict=True)
    return np.concatenate([region_features(region_tokens(tokens, *part)).half().cpu().numpy() for part in parts])


def _empty(width: int) -> pa.Table:
    schema = contract("regions").schema
    feature = schema.get_field_index("feature")
    return schema.set(feature, pa.field("feature", pa.list_(pa.float16(), width))).empty_table()
