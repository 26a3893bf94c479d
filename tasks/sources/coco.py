"""COCO captions: a JSON with `images`, `annotations` and `licenses`, and a folder of images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks.settings.base import PathName
from tasks.sources.item import SourceError, SourceItem, extra_of, file_version, images_folder, inside_of
from tasks.sources.reading.json_lists import lists_in
from tasks.sources.source import ImagesFolder, Limit, Source
from tasks.sources.temporary import temporary_database

READ = frozenset(("id", "file_name", "coco_url", "flickr_url", "license", "width", "height", "image_id"))
UNLISTED = "SELECT number, id FROM annotations WHERE id NOT IN (SELECT id FROM pictures) ORDER BY number"
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
            where, name = f"{file.name} image {picture['id']}", str(picture.get("file_name", ""))
            if name and holds(name):
                yield _item(picture, name, where, folder, captions, content.licences.get(picture.get("license")))
            else:
                problem = ("row_without_image", "the image has no file name within the folder of images")
                yield SourceItem(where, where, problem=problem)


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
            "annotations (number INTEGER PRIMARY KEY, id TEXT, caption TEXT)",
        )
        try:
            self._read()
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise SourceError(
                f"{file} is not COCO captions ({type(error).__name__}: {error}): it needs `images` with `id` and "
                "`file_name`, and `annotations` with `image_id` and `caption`"
            ) from error

    def problems(self) -> Iterator[SourceItem]:
        """The annotations that belong to no image."""
        for number, id_ in self._database.execute(UNLISTED):
            where = f"{self.file.name} annotation {number - 1}"
            problem = ("row_without_image", f"the annotation's image {json.loads(id_)} is not listed")
            yield SourceItem(where, where, problem=problem)

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
                    ((_key(picture["id"]), json.dumps(picture)) for picture in elements),
                )
            elif key == "annotations":
                self._database.executemany(
                    "INSERT INTO annotations (id, caption) VALUES (?, ?)",
                    ((_key(annotation["image_id"]), _text(annotation["caption"])) for annotation in elements),
                )
            elif key == "licenses":
                self.licences = {licence.get("id"): licence.get("name") for licence in elements}
        if missing:
            raise KeyError(missing[0])
        self._database.execute("CREATE INDEX captions ON annotations (id, number)")


def _key(image_id: Any) -> str:
    """An image's id as a text; 1 and 1.0 are the same."""
    return json.dumps(int(image_id) if isinstance(image_id, float) and image_id.is_integer() else image_id)


def _text(caption: Any) -> str:
    return caption.strip() if isinstance(caption, str) else ""


def _item(
    picture: Mapping[str, Any], name: str, where: str, folder: Path, captions: list[str], licence: str | None
) -> SourceItem:
    return SourceItem(
        name=name,
        where=where,
        captions=tuple(captions),
        path=str(folder / name),
        version=file_version(folder / name),
        url=picture.get("coco_url") or picture.get("flickr_url"),
        licence=licence,
        extra=extra_of({column: value for column, value in picture.items() if column not in READ}),
    )
