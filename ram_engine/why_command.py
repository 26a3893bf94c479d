"""`ram-engine why IMAGE [TAG]`: a tag's life through the stages, and a picture with its boxes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.terminal import Terminal
from ram_engine.options import StoreOption, default_store
from storage.printable import on_one_line
from storage.store import Store

if TYPE_CHECKING:
    from tasks.judging.why import Life, Round

console = Terminal()
REASONS = {
    "kept": "a region of it is good",
    "no_box": "no region was found",
    "cluster_outlier": "its region looks unlike the tag's other regions",
    "region_not_predicted": "the annotator does not see it in its region",
    "caption_disagrees": "its caption does not fit the picture",
    "kept_by_hand": "a person kept it",
    "removed_by_hand": "a person removed it",
}


def why(
    image: Annotated[str, typer.Argument(help="An image id, the source's name for the image, or a file.")],
    tag: Annotated[str, typer.Argument(help="A tag, or a word for it; default: all tags of the image.")] = "",
    picture: Annotated[Path | None, typer.Option(help="Draw the tags' regions into this file.")] = None,
    store: StoreOption = default_store(),
) -> None:
    """Say who gave an image each of its tags, and which stage took it."""
    from tasks.judging.why import draw, find_image, lives  # torch only where it is needed

    opened = Store(store, create=False)
    pair = find_image(opened, image)
    found = lives(opened, pair, tag)
    named = f" ({', '.join(pair['names'][:3])})" if pair["names"] else ""
    tell(f"{pair['image_id']}{named}, split {pair['split']}, {pair['width']} x {pair['height']}")
    for number, caption in enumerate(pair["captions"]):
        tell(f"  caption {number}: {caption}")
    if not pair["captions"]:
        console.print("  it came without a caption")
    for life in found:
        for line in _told(life):
            tell(line)
    if not found:
        console.print("no stage gave it a tag")
    if picture is not None:
        draw(pair, found).save(picture)
        console.print(f"drawn in {picture}")


def tell(line: str) -> None:
    """A caption or a name with line breaks in it stays on the line that says whose it is."""
    console.print(on_one_line(line))


def _told(life: Life) -> list[str]:
    state = {True: "kept", False: "removed", None: "not judged yet"}[life.kept]
    if not life.said and not any(each.verdict for each in life.rounds):
        state = "not a tag of this image"
    lines = [f"{life.tag.name} ({life.tag.type}): {state}"]
    lines += [f"  {one}" for one in life.said]
    several = len(life.rounds) > 1
    for each in life.rounds:
        lines += [f"  {f'round {each.number}: ' if several else ''}{one}" for one in _round(each)]
    return lines


def _round(each: Round) -> list[str]:
    lines = [f'the generated caption "{caption}" names it' for caption in each.captions]
    if each.score is not None:
        lines.append(f"the annotator gives it {each.score:.3f}: {'above' if each.predicted else 'below'} its threshold")
    for region in each.regions:
        box = ", ".join(f"{value:.2f}" for value in region.box)
        apart = "" if region.typicality is None else f", more typical than {region.typicality:.0%} of the tag's regions"
        alone = "" if region.tag_score is None else f", the annotator alone {region.tag_score:.3f}"
        lines.append(f"region ({box}): detector {region.detector_score:.2f}{alone}{apart}")
    if each.verdict is not None:
        verdict, reason = each.verdict, each.verdict["reason"]
        if reason == "kept" and not each.regions:
            reason = "what has no place in the picture is not judged by regions"
        said = "kept" if verdict["kept"] else "removed"
        figures = f"confidence {verdict['confidence']:.2f}, taught as {verdict['target']:.2f}"
        lines.append(f"{said}: {REASONS.get(reason, reason)}; {figures}")
    return lines
