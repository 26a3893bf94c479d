"""COCO captions: a JSON with `images`, `annotations` and `licenses`, and a folder of images."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks.images.decoding import ImageError
from tasks.settings.base import PathName
from tasks.sources.fitness import guarded, problem_of, shown
from tasks.sources.item import SourceError, SourceItem, extra_of, file_version, images_folder, inside_of
from tasks.sources.reading.json_lists import lists_in
from tasks.sources.source import ImagesFolder, Limit, Source
from tasks.sources.temporary import temporary_database

READ = frozenset(("id", "file_name", "coco_url", "flickr_url", "license", "width", "height", "image_id"))
UNLISTED = "SELECT place, id FROM annotations WHERE id NOT IN (SELECT id FROM pictures) ORDER BY number"
BY_PICTURE = """
    SELECT pictures.number, picture, caption FROM pictures LEFT JOIN annotations USING (id)
    ORDER BY pictures.number, annotations.number
"""


class CocoSource(Source):
    """A COCO captions JSON and its folder of images."""

    kind: Literal["coco"] = "coco"
    path: PathName = Field(description="The captions JSON file.")
    images: ImagesFolder = ""
    limit: Limit = 0

    def items(self) -> Iterator[SourceItem]:
        """One item an image, with all of its captions, and one an annotation that belongs to none."""
        file = Path(self.path)
        content = _Content(file)
        folder = images_folder(file, self.images)
        holds = inside_of(folder)
        yield from content.problems()
        for picture, captions in islice(content.images(), self.limit or None):
            where = f"{file.name} image {picture['id']}"
            yield guarded(where, where, partial(_item, picture, where, folder, holds, captions, content.licences))


class _Content:
    """What a file holds, in a temporary database.

    Raises :class:`~tasks.sources.item.SourceError` where there is no file, or where it is not COCO captions.
    """

    def __init__(self, file: Path) -> None:
        if not file.is_file():
            raise SourceError(f"the COCO captions file {file} does not exist")
        self.file = file
        self.licences: dict[Any, Any] = {}
        self._database = temporary_database(
            "pictures (number INTEGER PRIMARY KEY, id TEXT UNIQUE, picture TEXT)",
            "annotations (number INTEGER PRIMARY KEY, place INTEGER, id TEXT, caption TEXT)",
            "unfit (place TEXT, reason TEXT, detail TEXT)",
        )
        try:
            self._read()
        except ValueError as error:
            raise SourceError(
                f"{file} is not COCO captions ({problem_of(error)[1]}): it needs `images` with `id` and "
                "`file_name`, and `annotations` with `image_id` and `caption`"
            ) from error

    def problems(self) -> Iterator[SourceItem]:
        """The images and annotations that cannot be read, and the annotations that belong to no image."""
        for where, reason, detail in self._database.execute("SELECT * FROM unfit"):
            yield SourceItem(where, where, problem=(reason, detail))
        for place, id_ in self._database.execute(UNLISTED):
            where = f"{self.file.name} annotation {place}"
            detail = f"the annotation's image {json.loads(id_)} is not listed"
            yield SourceItem(where, where, problem=("row_without_image", detail))

    def images(self) -> Iterator[tuple[dict[str, Any], list[str]]]:
        """The images with their captions; of those with one id the last, in the place of the first."""
        for _, rows in groupby(self._database.execute(BY_PICTURE), lambda row: row[0]):
            pictures, captions = zip(*((picture, caption) for _, picture, caption in rows), strict=True)
            yield json.loads(pictures[0]), [caption for caption in captions if caption]

    def _read(self) -> None:
        missing = ["images", "annotations"]
        for key, elements in lists_in(self.file):
            if key in missing:
                missing.remove(key)
            if key == "images":
                self._database.executemany(
                    "INSERT INTO pictures (id, picture) VALUES (?, ?)"
                    " ON CONFLICT (id) DO UPDATE SET picture = excluded.picture",
                    (row for _, row in self._rows(elements, "image", _picture)),
                )
            elif key == "annotations":
                self._database.executemany(
                    "INSERT INTO annotations (place, id, caption) VALUES (?, ?, ?)",
                    ((place, *row) for place, row in self._rows(elements, "annotation", _annotation)),
                )
            elif key == "licenses":
                for licence in elements:
                    with contextlib.suppress(KeyError, TypeError):  # none that a picture could have
                        self.licences[licence["id"]] = shown(licence["name"])
        if missing:
            raise ValueError(f"there is no `{missing[0]}`")
        self._database.execute("CREATE INDEX captions ON annotations (id, number)")

    def _rows(
        self, elements: Iterator[Any], what: str, row_of: Callable[[Any], tuple[str, str]]
    ) -> Iterator[tuple[int, tuple[str, str]]]:
        """The rows of a list's elements with their places; those that cannot be read are set apart.

        Raises ValueError where all are like that: the list is one of something else.
        """
        problem = None
        fit = False
        for place, element in enumerate(elements):
            try:
                row = row_of(element)
            except Exception as error:  # rows of strangers raise anything
                problem = problem_of(error)
                unfit = (f"{self.file.name} {what} {place}", *map(shown, problem))
                self._database.execute("INSERT INTO unfit VALUES (?, ?, ?)", unfit)
            else:
                fit = True
                yield place, row
        if problem and not fit:
            raise ValueError(problem[1])


def _picture(element: Any) -> tuple[str, str]:
    """An image's id and all that is said of it, as texts."""
    return _key(element, "id"), json.dumps(element)


def _annotation(element: Any) -> tuple[str, str]:
    """The id of an annotation's image, and the caption: "" where it is null."""
    image_id, caption = _key(element, "image_id"), element["caption"]
    if not isinstance(caption, str | None):
        raise ImageError("caption_not_text", f"the caption is {type(caption).__name__}")
    (caption or "").encode()  # raises where it is not UTF-8
    return image_id, (caption or "").strip()


def _key(element: Any, name: str) -> str:
    """An image's id as a text; 1 and 1.0 are the same."""
    if isinstance(element, Exception):
        raise element
    if not isinstance(element, dict):
        raise TypeError(f"it is {type(element).__name__} and no object")
    image_id = element[name]
    if isinstance(image_id, float) and image_id.is_integer():
        image_id = int(image_id)
    if isinstance(image_id, bool) or not isinstance(image_id, int | str):
        raise TypeError(f"`{name}` is {type(image_id).__name__}, and should be a number or a text")
    return json.dumps(image_id)


def _item(
    picture: Mapping[str, Any],
    where: str,
    folder: Path,
    holds: Callable[[str], bool],
    captions: list[str],
    licences: Mapping[Any, str | None],
) -> SourceItem:
    name = picture.get("file_name")
    if not isinstance(name, str) or not name or not holds(name):
        problem = ("row_without_image", "the image has no file name within the folder of images")
        return SourceItem(where, where, problem=problem)
    return SourceItem(
        name=name,
        where=where,
        captions=tuple(captions),
        path=str(folder / name),
        version=file_version(folder / name),
        url=picture.get("coco_url") or picture.get("flickr_url"),
        licence=licences.get(picture.get("license")),
        extra=extra_of({column: value for column, value in picture.items() if column not in READ}),
    )
