"""One image's tags through the stages: who said each, what the annotator thought, where, and what was decided."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from storage.names import of_round
from storage.store import Store
from tasks.images.decoding import picture
from tasks.images.drawing import boxed
from tasks.judging.typicality import read_clusters, typicality
from tasks.judging.verdict_sheet import inputs_of, tag_ids
from tasks.labels.lookup import TagLookup
from tasks.labels.tags import Tag, read_tags
from tasks.machine.inputs import Inputs
from tasks.machine.rounds import last_round

DRAWN = 640  # pixels


@dataclass
class Region:
    """Where a tag was looked at in a round. ``typicality`` is the share of the tag's regions that are less typical."""

    box: list[float]
    detector_score: float
    tag_score: float | None  # None: the annotator cannot look at a region
    typicality: float | None


@dataclass
class Round:
    """What one round made of a tag."""

    number: int
    captions: list[str] = field(default_factory=list)  # generated ones that name it
    score: float | None = None
    predicted: bool = False
    regions: list[Region] = field(default_factory=list)
    verdict: Mapping[str, Any] | None = None  # a row of tag_verdicts


@dataclass
class Life:
    """A tag of an image."""

    tag: Tag
    said: list[str] = field(default_factory=list)  # 'caption 1: "dogs"'
    rounds: list[Round] = field(default_factory=list)

    @property
    def kept(self) -> bool | None:
        """The last verdict; None before there is one."""
        verdicts = [each.verdict for each in self.rounds if each.verdict is not None]
        return bool(verdicts[-1]["kept"]) if verdicts else None


def find_image(store: Store, image: str) -> dict[str, Any]:
    """The row of ``pairs`` with its file, ``image``, of an image id (or how it begins), a name that the source gives
    it, or a file's content.

    Raises ValueError where it is none, or several.
    """
    inputs = inputs_of(store, "pairs", "images")
    wanted = [image]
    if Path(image).is_file():
        wanted.append(hashlib.sha256(Path(image).read_bytes()).hexdigest()[:16])
    literals = ["'" + each.replace("'", "''") + "'" for each in wanted]
    quoted = ", ".join(literals)
    found = inputs.sql(
        f"SELECT image_id FROM pairs WHERE image_id IN ({quoted}) OR list_has_any(names, [{quoted}]) "
        f"OR starts_with(image_id, {literals[0]})"
    )["image_id"].to_pylist()
    if len(found) != 1:
        some = f"{len(found)} images: {', '.join(found[:3])}, .." if found else "no image of the store"
        raise ValueError(f"'{image}' is {some}; say an image id, the source's name for it, or a file")
    row: dict[str, Any] = inputs.sql(f"SELECT * FROM pairs WHERE image_id = '{found[0]}'").to_pylist()[0]
    return {**row, "image": inputs.files(found)[found[0]]}


def lives(store: Store, pair: Mapping[str, Any], word: str = "") -> list[Life]:
    """The tags of an image, or those that ``word`` names whether the image has them or not."""
    inputs = inputs_of(store, "pairs", "label_system", "phrases", "caption_tags")
    tags = {tag.tag_id: tag for tag in read_tags(inputs.table("label_system"))}
    image_id = pair["image_id"]
    found: dict[int, Life] = {}
    if word:
        found = {tag_id: Life(tags[tag_id]) for tag_id in tag_ids(inputs, word)}

    def of(tag_id: int) -> Life | None:
        return found.get(tag_id) if word else found.setdefault(tag_id, Life(tags[tag_id]))

    look_up = TagLookup(tags.values())
    for row in _rows(inputs, "phrases", image_id):
        for phrase in row["phrases"]:
            tag = look_up.find(phrase["lemma"], phrase["type"])
            life = of(tag.tag_id) if tag is not None and tag.active else None
            if life is not None:
                who = "the source gives" if row["caption_index"] < 0 else f"caption {row['caption_index']} says"
                life.said.append(f'{who} "{phrase["surface"]}"')
    for number in range(1, max(1, last_round(store, "tag_verdicts")) + 1):
        for tag_id, round_ in _round(store, number, image_id).items():
            claimed = round_.verdict or round_.predicted or round_.captions
            life = of(tag_id) if claimed else found.get(tag_id)
            if life is not None:
                life.rounds.append(round_)
    return sorted(found.values(), key=lambda life: (life.kept is False, -_score(life), life.tag.name))


def draw(pair: Mapping[str, Any], found: Sequence[Life]) -> Image.Image:
    """The picture with the best region of each tag, and what became of it."""
    boxes = []
    for life in found:
        regions = [region for round_ in life.rounds[-1:] for region in round_.regions]
        if regions:
            best = max(
                regions, key=lambda region: region.detector_score if region.tag_score is None else region.tag_score
            )
            boxes.append((best.box, life.tag.name + ("" if life.kept is not False else " (removed)")))
    return boxed(picture(pair, DRAWN), boxes, DRAWN)


def _round(store: Store, number: int, image_id: str) -> dict[int, Round]:
    """By tag, what a round said; of many tags it kept the score alone."""
    found: dict[int, Round] = {}

    def of(tag_id: int) -> Round:
        return found.setdefault(tag_id, Round(number))

    names = {name: of_round(name, number) for name in ("generated", "regions", "clusters", "tag_verdicts")}
    snapshots = {name: store.snapshot(artifact) for name, artifact in names.items()}
    inputs = Inputs(store, {name: one for name, one in snapshots.items() if one is not None})
    for row in _rows(inputs, "generated", image_id):
        for caption, tags in zip(row["captions"], row["caption_tag_ids"], strict=True):
            for tag_id in tags:
                of(tag_id).captions.append(caption)
        for tag_id in row["predicted"]:
            of(tag_id).predicted = True
        for scored in row["scores"]:
            of(scored["tag_id"]).score = scored["score"]
    for row in _rows(inputs, "tag_verdicts", image_id):
        of(row["tag_id"]).verdict = row
    if inputs.has("regions"):
        regions = inputs.sql(
            f"SELECT * FROM regions WHERE image_id = '{image_id}' ORDER BY coalesce(tag_score, detector_score) DESC"
        )
        index = read_clusters(inputs.table("clusters")) if inputs.has("clusters") else {}
        for row, typical in zip(regions.to_pylist(), typicality(regions, index).tolist(), strict=True):
            known = None if typical != typical else typical
            of(row["tag_id"]).regions.append(Region(row["box"], row["detector_score"], row["tag_score"], known))
    return found


def _rows(inputs: Inputs, name: str, image_id: str) -> list[dict[str, Any]]:
    if name not in inputs.snapshots:
        return []
    rows: list[dict[str, Any]] = inputs.sql(f"SELECT * FROM {name} WHERE image_id = '{image_id}'").to_pylist()
    return rows


def _score(life: Life) -> float:
    return max((round_.score or 0.0 for round_ in life.rounds), default=0.0)
