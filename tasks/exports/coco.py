"""COCO: a file of captions and one of detections a split, and the folder of images that both name."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, TextIO

from tasks.exports.export import Export
from tasks.exports.request import Request
from tasks.exports.writing.files import JsonArray, encode, save_image


class CocoExport(Export):
    """COCO captions, and regions as COCO detections, a file a split.

    Detections are the regions of tags that were kept; a category's id is its tag's plus 1, since COCO's 0 is the
    background. All tags of an image, also those that have no place in it, are its ``tag_ids`` (categories) with
    ``tag_scores``.
    """

    kind: Literal["coco"] = "coco"

    def write(self, request: Request) -> Mapping[str, int]:
        """``captions_<split>.json`` and ``instances_<split>.json``; returns the images of each split."""
        categories = [{"id": tag.tag_id + 1, "name": tag.name, "supercategory": tag.type} for tag in request.tags]
        splits: dict[str, _Split] = {}
        with ExitStack() as stack:
            for number, row in enumerate(request.rows(regions=True), 1):
                split = row["split"]
                if split not in splits:
                    splits[split] = _Split(request.folder, split, categories)
                    stack.callback(splits[split].close)
                splits[split].add(number, row, save_image(request.folder / "images", row))
        return {name: split.instances.count for name, split in splits.items()}


class _Split:
    """A split's two files. Annotations go into files of their own until all images are written."""

    def __init__(self, folder: Path, split: str, categories: list[dict[str, Any]]) -> None:
        self.folder, self.split = folder, split
        self.licences: dict[str, int] = {}
        info = {"description": f"split {split}"}
        self.captions = JsonArray(self._path("captions"), "images", {"info": info})
        self.instances = JsonArray(self._path("instances"), "images", {"info": info, "categories": categories})
        self.waiting: dict[str, TextIO] = {
            kind: self._path(kind).with_suffix(".annotations").open("w+", encoding="utf-8")
            for kind in ("captions", "instances")
        }
        self.counts = {"captions": 0, "instances": 0}

    def add(self, number: int, row: Mapping[str, Any], file: str) -> None:
        width, height = row["width"], row["height"]
        image = {
            **{name: value for name, value in row["extra"].items() if name not in ("id", "file_name")},
            "id": number,
            "file_name": file,
            "width": width,
            "height": height,
            "image_id": row["image_id"],
        }
        if row["url"]:
            image["coco_url"] = row["url"]
        if row["licence"]:
            image["license"] = self.licences.setdefault(row["licence"], len(self.licences) + 1)
        self.captions.add(image)
        tags = [tag["tag_id"] + 1 for tag in row["tags"]]
        self.instances.add({**image, "tag_ids": tags, "tag_scores": [tag["score"] for tag in row["tags"]]})
        for caption in row["captions"]:
            self._annotate("captions", {"image_id": number, "caption": caption})
        for region in row["regions"]:
            x0, y0, x1, y1 = region["box"]
            box = [round(value, 2) for value in (x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height)]
            self._annotate(
                "instances",
                {
                    "image_id": number,
                    "category_id": region["tag_id"] + 1,
                    "bbox": box,
                    "area": round(box[2] * box[3], 2),
                    "iscrowd": 0,
                    "score": region["score"],
                },
            )

    def close(self) -> None:
        licences = [{"id": number, "name": name} for name, number in self.licences.items()]
        for kind, images in (("captions", self.captions), ("instances", self.instances)):
            images.file.write(f'\n], "licenses": {encode(licences)}, "annotations": [\n')
            waiting = self.waiting[kind]
            waiting.seek(0)
            shutil.copyfileobj(waiting, images.file)
            waiting.close()
            self._path(kind).with_suffix(".annotations").unlink()
            images.file.write("\n]}\n")
            images.file.close()

    def _annotate(self, kind: str, annotation: dict[str, Any]) -> None:
        self.counts[kind] += 1
        line = encode({"id": self.counts[kind], **annotation})
        self.waiting[kind].write((",\n" if self.counts[kind] > 1 else "") + line)

    def _path(self, kind: str) -> Path:
        return self.folder / f"{kind}_{self.split}.json"
