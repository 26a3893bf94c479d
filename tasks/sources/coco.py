"""COCO captions: a JSON with `images`, `annotations` and `licenses`, and a folder of images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks.settings.base import PathName
from tasks.sources.item import SourceError, SourceItem, extra_of, file_version, images_folder, inside
from tasks.sources.source import ImagesFolder, Limit, Source

READ = frozenset(("id", "file_name", "coco_url", "flickr_url", "license", "width", "height", "image_id"))


class CocoSource(Source):
    """A COCO captions JSON and its folder of images."""

    kind: Literal["coco"] = "coco"
    path: PathName = Field(description="The captions JSON file.")
    images: ImagesFolder = ""
    limit: Limit = 0

    def items(self) -> list[SourceItem]:
        """One item an image, with all of its captions, and one an annotation that belongs to none."""
        file = Path(self.path)
        content, pictures, annotations = _read(file)
        folder = images_folder(file, self.images)
        licences = {licence.get("id"): licence.get("name") for licence in content.get("licenses", [])}
        captions: dict[Any, list[str]] = {}
        items: list[SourceItem] = []
        for number, (image_id, caption) in enumerate(annotations):
            where = f"{file.name} annotation {number}"
            if image_id not in pictures:
                problem = ("row_without_image", f"the annotation's image {image_id} is not listed")
                items.append(SourceItem(where, where, problem=problem))
            elif isinstance(caption, str) and caption.strip():
                captions.setdefault(image_id, []).append(caption.strip())
        for image_id, picture in list(pictures.items())[: self.limit or None]:
            where, texts = f"{file.name} image {image_id}", captions.get(image_id, [])
            items.append(_item(picture, where, folder, texts, licences.get(picture.get("license"))))
        return items


def _read(file: Path) -> tuple[dict[str, Any], dict[Any, dict[str, Any]], list[tuple[Any, Any]]]:
    """All of a file, its images by id, and (image's id, caption) of each annotation."""
    if not file.is_file():
        raise SourceError(f"the COCO captions file {file} does not exist")
    try:
        content = json.loads(file.read_bytes())
        pictures = {picture["id"]: picture for picture in content["images"]}
        annotations = [(annotation["image_id"], annotation["caption"]) for annotation in content["annotations"]]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise SourceError(
            f"{file} is not COCO captions ({type(error).__name__}: {error}): it needs `images` with `id` and "
            "`file_name`, and `annotations` with `image_id` and `caption`"
        ) from error
    return content, pictures, annotations


def _item(picture: Mapping[str, Any], where: str, folder: Path, captions: list[str], licence: str | None) -> SourceItem:
    name = str(picture.get("file_name", ""))
    if not name or not inside(folder, name):
        problem = ("row_without_image", "the image has no file name within the folder of images")
        return SourceItem(where, where, problem=problem)
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
