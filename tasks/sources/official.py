"""The files that RAM's authors train and evaluate on: tags come from them, and nothing is parsed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from storage.schemas import OF_IMAGE
from tasks.settings.base import PathName
from tasks.sources.fitness import guarded, shown
from tasks.sources.item import ReadyTags, SourceError, SourceItem, file_version, images_folder, inside_of
from tasks.sources.reading.json_lists import lists_in
from tasks.sources.source import Limit, Source

Find = Callable[[str], Path | None]

TAG_LISTS = ("tag_list_types.txt", "tag_list.txt")  # as our own export writes them


class OfficialSource(Source):
    """The training JSON and evaluation lists of RAM's authors, whose tags are taken in place of parsed captions.

    Ids in them are lines of the list ``tags``, from 0.
    """

    kind: Literal["official"] = "official"
    path: PathName = Field("", description="The training JSON; empty: only the evaluation list is read.")
    tags: PathName = Field("", description="The list whose lines labels are; empty: tag_list.txt beside the JSON.")
    evaluation: PathName = Field("", description="An evaluation list, by index or by name: it becomes the split test.")
    images: PathName = Field("", description="The folder of images; empty: the JSON's own.")
    limit: Limit = 0

    def items(self) -> Iterator[SourceItem]:
        """One item an entry of the training JSON, and one a line of the evaluation list."""
        names = _read_names(self._tag_list())
        if self.path:
            file = Path(self.path)
            find = _finder(_folder(file, self.images))
            for number, entry in enumerate(_entries(file)):
                if self.limit and number == self.limit:
                    break
                where = f"{file.name} entry {number}"
                yield guarded(where, where, partial(_training, entry, where, find, names))
        if self.evaluation:
            file = Path(self.evaluation)
            yield from _evaluation(file, _finder(_folder(file, self.images)), names)

    def place(self) -> str:
        """The training JSON, else the evaluation list."""
        return self.path or self.evaluation

    def _tag_list(self) -> Path:
        if self.tags:
            return Path(self.tags)
        beside = [Path(self.place()).parent / name for name in TAG_LISTS]
        return next((file for file in beside if file.is_file()), beside[-1])


def _read_names(path: Path) -> list[tuple[str, str]]:
    """Names and types of a list of tags, by id; the type "" where the list, a name a line, does not say it."""
    if not path.is_file():
        raise SourceError(f"the list of tags '{path}' does not exist: name it with --set ingest.source.tags=FILE")
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise SourceError(f"the list of tags '{path}' is not UTF-8 ({error}): save it as UTF-8") from error
    return [(name.strip(), type_.strip()) for name, _, type_ in (line.partition("\t") for line in lines)]


def _folder(file: Path, images: PathName) -> Path:
    """The folder that names are told from: the file's own where none is named. Raises :class:`SourceError`."""
    return images_folder(file, images) if images else file.parent


def _entries(file: Path) -> Iterator[Any]:
    """The entries of a training JSON, one at a time."""
    if not file.is_file():
        raise SourceError(f"the training JSON {file} does not exist")
    try:
        for key, entries in lists_in(file):
            if key:
                raise SourceError(f"{file} is not a training JSON: it must be a list of entries")
            yield from entries
    except json.JSONDecodeError as error:
        near = shown(error.doc[error.pos : error.pos + 40])
        raise SourceError(f"{file} is damaged JSON near '{near}': {error.msg}") from error


def _training(entry: Any, where: str, find: Find, names: list[tuple[str, str]]) -> SourceItem:
    if isinstance(entry, Exception):
        raise entry
    if not isinstance(entry, dict) or not isinstance(entry.get("image_path"), str):
        return SourceItem(where, where, problem=("row_without_image", "the entry has no `image_path`"))
    name = entry["image_path"]
    captions: Any = [entry.get("caption")] if isinstance(entry.get("caption"), str) else entry.get("caption") or []
    parsed = entry.get("parse_label_id") or []
    if parsed and isinstance(parsed[0], int):
        parsed = [parsed]
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        return SourceItem(name, where, problem=("caption_not_text", f"the captions are {captions!r}"))
    if len(parsed) not in (0, len(captions)):
        detail = f"{len(captions)} captions and {len(parsed)} lists in `parse_label_id`"
        return SourceItem(name, where, problem=("labels_do_not_fit", detail))
    if not any(caption.strip() for caption in captions):  # a picture without one, as the export writes it
        captions, parsed = [], []
    union = entry.get("union_label_id") or []
    try:
        named = {tag for ids in parsed for tag in ids}
        tags = _ready([*enumerate(parsed), (OF_IMAGE, [tag for tag in union if tag not in named])], names)
    except (IndexError, TypeError, ValueError) as error:
        return SourceItem(name, where, problem=("unknown_label", f"a label is none of the {len(names)} tags: {error}"))
    # a caption without a list of its own, beside others that have one, names nothing
    image = find(name)
    if image is None:
        return SourceItem(name, where, problem=("image_outside_folder", "the name leads out of the folder of images"))
    texts = tuple(dict.fromkeys(caption.strip() for caption in captions))
    if len(texts) < len(captions):
        places = {text: at for at, text in enumerate(texts)}
        tags = tuple((at if at < 0 else places[captions[at].strip()], named) for at, named in tags)
    return SourceItem(name, where, texts, path=str(image), version=file_version(image), ready_tags=tags)


def _evaluation(file: Path, find: Find, names: list[tuple[str, str]]) -> Iterator[SourceItem]:
    """Lines ``file.jpg,131 139`` (ids) or ``path,tag,tag`` (names); an image may have none."""
    if not file.is_file():
        raise SourceError(f"the evaluation list {file} does not exist")
    known = dict(names)
    for number, line in enumerate(file.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines(), 1):
        where = f"{file.name} line {number}"
        yield guarded(where, where, partial(_evaluated, line, where, find, names, known))


def _evaluated(line: str, where: str, find: Find, names: list[tuple[str, str]], known: Mapping[str, str]) -> SourceItem:
    name, _, rest = line.partition(",")
    if not name.strip():
        return SourceItem(where, where, problem=("row_without_image", "the line names no image"))
    image = find(name.strip())
    if image is None:
        return SourceItem(name, where, problem=("image_outside_folder", "the name leads out of the folder of images"))
    words = [word.strip() for word in rest.split(",") if word.strip()]
    try:
        if len(words) == 1 and all(number.isdigit() for number in words[0].split()):
            tags = _ready([(OF_IMAGE, [int(number) for number in words[0].split()])], names)
        elif foreign := [word for word in words if word not in known]:
            raise ValueError(foreign[0])
        else:
            tags = ((OF_IMAGE, tuple((word, known[word]) for word in words)),)
    except (IndexError, ValueError) as error:
        return SourceItem(name, where, problem=("unknown_label", f"a label is none of the tags: {error}"))
    version = file_version(image)
    return SourceItem(name, where, split="test", path=str(image), version=version, ready_tags=tags)


def _ready(lists: list[tuple[int, list[int]]], names: list[tuple[str, str]]) -> ReadyTags:
    for _, ids in lists:
        if any(isinstance(tag, bool) or not isinstance(tag, int) or tag < 0 for tag in ids):
            raise ValueError(ids)
    return tuple((at, tuple(names[tag] for tag in ids)) for at, ids in lists)


def _finder(folder: Path) -> Find:
    """A function that gives an image's file, whose suffix the lists leave out at times; None where its name leads out
    of the folder."""
    holds = inside_of(folder)

    def find(name: str) -> Path | None:
        if not holds(name):
            return None
        places = (folder / name, folder / f"{name}.jpg", folder / "images" / name)
        return next((file for file in places if file.is_file()), folder / name)

    return find
