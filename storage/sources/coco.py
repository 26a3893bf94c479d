"""COCO captions: a JSON with `images`, `annotations` and `licenses`, and a folder of images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from storage.sources.item import SourceError, SourceItem, extra_of, file_version, images_folder, inside

READ = frozenset(("id", "file_name", "coco_url", "flickr_url", "license", "width", "height", "image_id"))


def list_coco(path: str, images: str = "", limit: int = 0) -> list[SourceItem]:
    """One item an image, with all of its captions. Raises :class:`SourceError` where the file is not COCO captions."""
    file = Path(path)
    if not file.is_file():
        raise SourceError(f"the COCO captions file {path} does not exist")
    try:
        content: dict[str, Any] = json.loads(file.read_bytes())
        pictures = {picture["id"]: picture for picture in content["images"]}
        annotations = [(annotation["image_id"], annotation["caption"]) for annotation in content["annotations"]]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise SourceError(
            f"{path} is not COCO captions ({type(error).__name__}: {error}): it needs `images` with `id` and "
            "`file_name`, and `annotations` with `image_id` and `caption`"
        ) from error
    folder = images_folder(file, images)
    licences = {licence.get("id"): licence.get("name") for licence in content.get("licenses", [])}
    captions: dict[Any, list[str]] = {}
    items: list[SourceItem] = []
    for number, (image_id, caption) in enumerate(annotations):
        if image_id in pictures and isinstance(caption, str) and caption.strip():
            captions.setdefault(image_id, []).append(caption.strip())
            continue
        where = f"{file.name} annotation {number}"
        reason, sentence = (
            ("row_without_caption", "the annotation has no caption")
            if image_id in pictures
            else ("row_without_image", f"the annotation's image {image_id} is not listed")
        )
        items.append(SourceItem(where, where, problem=(reason, sentence)))
    chosen = list(pictures.items())[: limit or None]
    for image_id, picture in chosen:
        name, where = str(picture.get("file_name", "")), f"{file.name} image {image_id}"
        texts = captions.get(image_id, [])
        if not name or not inside(folder, name):
            unfit = ("row_without_image", "the image has no file name within the folder of images")
            items.append(SourceItem(where, where, problem=unfit))
        elif not texts:
            unfit = ("row_without_caption", "the image has no caption")
            items.append(SourceItem(name, where, problem=unfit))
        else:
            items.append(
                SourceItem(
                    name=name,
                    where=where,
                    captions=tuple(texts),
                    path=str(folder / name),
                    version=file_version(folder / name),
                    url=picture.get("coco_url") or picture.get("flickr_url"),
                    licence=licences.get(picture.get("license")),
                    extra=extra_of({name: value for name, value in picture.items() if name not in READ}),
                )
            )
    return items
