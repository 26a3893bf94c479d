"""Evaluation sets: pictures, labels, and which label is true of which picture.

Read are the lists that the authors of RAM publish, COCO instances, COCO captions and CSV. Captions name a part of what
is there: what is measured against them is agreement with captions.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import Label
from storage.spreadsheets import text_of
from tasks.labels import ready_lists
from tasks.labels.tags import Tag
from tasks.labels.texts import tag_reader
from tasks.sources.item import SourceError, images_folder, inside

SUFFIXES = ("", ".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class EvaluationSet:
    """``truth`` is (images, labels). ``left_out`` counts, by reason, rows that could not be used. ``against`` says what
    the truth is."""

    labels: tuple[Label, ...]
    images: tuple[Path, ...]
    truth: NDArray[np.bool_]
    left_out: Counter[str] = field(default_factory=Counter)
    against: str = "the labels that the list gives: what it leaves out counts as wrong"


def read(kind: str, path: Path, images: str = "", tags: Sequence[Tag] = (), tag_list: str = "") -> EvaluationSet:
    """The evaluation set in ``path``.

    Args:
        kind: "ram" (a line an image: its name, then after a comma its tags by name, divided by commas, or their places
            in the list, divided by spaces; or nothing), "coco" (instances or captions) or "csv" (``image,tag`` or
            ``image,caption``, a row a tag or a caption).
        path: the file.
        images: their folder; empty: ``images`` beside the file, else its folder.
        tags: what captions are searched for.
        tag_list: a list of labels, a line each: needed by "ram"; elsewhere it chooses among the labels.

    Raises :class:`SourceError` saying what is wrong with the file, or that none of its images is in the folder.
    """
    if not path.is_file():
        raise SourceError(f"the evaluation file {path} does not exist")
    entries = ready_lists.read(Path(tag_list)) if tag_list else []
    listed = [Label(entry.name, entry.type or "object") for entry in entries]
    if listed:
        tags = [Tag(place, label.name, label.type) for place, label in enumerate(listed)]
    folder = images_folder(path, images)
    if kind == "ram":
        if not listed:
            raise SourceError(f"{path} names tags of a list: say which with --tags")
        return _assemble(folder, listed, _authors_rows(path, listed))
    if kind == "coco":
        return _coco(path, folder, tags, listed)
    if kind == "csv":
        return _csv(path, folder, tags, listed)
    raise SourceError(f"there is no kind of evaluation set '{kind}': say ram:FILE, coco:FILE or csv:FILE")


def _authors_rows(path: Path, labels: Sequence[Label]) -> list[tuple[str, list[str]]]:
    """(image, names of its tags) a line. Numbers are places in the list unless the list itself holds numbers."""
    place = {label.name: label.name for label in labels}
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        name, _, said = line.partition(",")
        values = [value.strip() for value in said.split(",") if value.strip()]
        parts = said.split()
        if parts and not any(value in place for value in values) and all(part.isdigit() for part in parts):
            beyond = [part for part in parts if int(part) >= len(labels)]
            if beyond:
                raise SourceError(f"{path} line {number}: there is no tag {beyond[0]} in a list of {len(labels)}")
            values = [labels[int(part)].name for part in parts]
        unknown = [value for value in values if value not in place]
        if unknown:
            raise SourceError(f"{path} line {number}: '{unknown[0]}' is not in the list of tags")
        rows.append((name.strip(), values))
    return rows


def _coco(path: Path, folder: Path, tags: Sequence[Tag], listed: Sequence[Label]) -> EvaluationSet:
    """COCO instances: the labels are its categories; or COCO captions."""
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        names = {picture["id"]: str(picture["file_name"]) for picture in content["images"]}
        annotations = content["annotations"]
        if "categories" in content and all("category_id" in each for each in annotations):
            labels = {category["id"]: str(category["name"]) for category in content["categories"]}
            found = [(each["image_id"], labels[each["category_id"]]) for each in annotations]
        else:
            labels = {}
            found = [(each["image_id"], str(each["caption"])) for each in annotations]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise SourceError(f"{path} is neither COCO instances nor captions ({type(error).__name__}: {error})") from error
    said: dict[Any, list[str]] = {image_id: [] for image_id in names}
    strays = 0
    for image_id, value in found:
        if image_id in said:
            said[image_id].append(value)
        else:
            strays += 1
    rows = [(names[image_id], values) for image_id, values in said.items()]
    lost = Counter({"annotation of an image that is not listed": strays}) if strays else Counter()
    if labels:
        return _assemble(folder, listed or [Label(name) for name in labels.values()], rows, lost)
    return _captioned(path, folder, tags, rows, lost)


def _csv(path: Path, folder: Path, tags: Sequence[Tag], listed: Sequence[Label]) -> EvaluationSet:
    """``image,tag``: an image without a tag has an empty one; or ``image,caption``."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        columns = set(reader.fieldnames or ())
        wanted = "tag" if "tag" in columns else "caption"
        if not {"image", wanted} <= columns:
            raise SourceError(f"{path} has the columns {sorted(columns)}: it needs image and tag, or image and caption")
        said: dict[str, list[str]] = {}
        for row in reader:
            value = text_of(row[wanted] or "").strip()
            said.setdefault(text_of(row["image"] or "").strip(), []).extend([value] if value else [])
    if wanted == "caption":
        return _captioned(path, folder, tags, list(said.items()))
    names = sorted({value for values in said.values() for value in values})
    return _assemble(folder, listed or [Label(name) for name in names], list(said.items()))


def _captioned(
    path: Path,
    folder: Path,
    tags: Sequence[Tag],
    rows: Sequence[tuple[str, list[str]]],
    lost: Counter[str] | None = None,
) -> EvaluationSet:
    """True is what one of an image's captions names of ``tags``; images without a caption are left out."""
    if not tags:
        raise SourceError(f"{path} holds captions: say with --tags, or by a store, which tags they are searched for")
    active = [tag for tag in tags if tag.active]
    lost = Counter() if lost is None else lost
    lost.update("image without a caption" for _, captions in rows if not captions)
    rows = [(name, captions) for name, captions in rows if captions]
    tags_of = tag_reader(active)([captions for _, captions in rows])
    place = {tag.tag_id: column for column, tag in enumerate(active)}
    named = [
        (name, {place[tag_id] for ids in of_image for tag_id in ids})
        for (name, _), of_image in zip(rows, tags_of, strict=True)
    ]
    labels = [Label(tag.name, tag.type) for tag in active]
    against = "what captions name: what they leave out counts as wrong"
    return replace(_with_truth(folder, labels, named, lost), against=against)


def _assemble(
    folder: Path,
    labels: Sequence[Label],
    rows: Iterable[tuple[str, list[str]]],
    lost: Counter[str] | None = None,
) -> EvaluationSet:
    """Rows whose tags are named; names that are no label are left out."""
    columns = {label.name: column for column, label in enumerate(labels)}
    lost = Counter() if lost is None else lost
    named = []
    for name, values in rows:
        lost["tag that is no label"] += sum(value not in columns for value in values)
        named.append((name, {columns[value] for value in values if value in columns}))
    return _with_truth(folder, labels, named, +lost)


def _with_truth(
    folder: Path, labels: Sequence[Label], rows: Sequence[tuple[str, set[int]]], lost: Counter[str]
) -> EvaluationSet:
    """Rows whose tags are columns; images that are not in the folder are left out."""
    images: dict[Path, set[int]] = {}
    for name, columns in rows:
        path = _find(folder, name)
        if path is None:
            lost["image that is not in the folder"] += 1
        else:
            images.setdefault(path, set()).update(columns)
    if not images:
        example = f", such as {rows[0][0]}" if rows else ""
        raise SourceError(f"none of the {len(rows):,} images{example} is in {folder}: say where with --images")
    truth = np.zeros((len(images), len(labels)), bool)
    for row, columns in enumerate(images.values()):
        truth[row, sorted(columns)] = True
    return EvaluationSet(tuple(labels), tuple(images), truth, lost)


def _find(folder: Path, name: str) -> Path | None:
    """The file of an image; the authors' lists name some without folder or suffix."""
    if not name:
        return None
    for candidate in dict.fromkeys((name, Path(name).name)):
        if not inside(folder, candidate):
            continue
        for suffix in SUFFIXES:
            if (folder / f"{candidate}{suffix}").is_file():
                return folder / f"{candidate}{suffix}"
    return None
