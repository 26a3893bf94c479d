"""FiftyOne's dataset JSON (its plain form, which `fiftyone.types.FiftyOneDataset` reads), without the dependency."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from tasks.exports.export import Export
from tasks.exports.request import Request
from tasks.exports.writing.files import JsonArray, save_image


class FiftyOneExport(Export):
    """FiftyOne's dataset JSON, with tags as classifications and regions as detections."""

    kind: Literal["fiftyone"] = "fiftyone"

    def write(self, request: Request) -> Mapping[str, int]:
        """``samples.json``, ``metadata.json`` and the images in ``data/``, the split as a sample's tag. Returns the
        samples of each split."""
        about = {"name": request.name, "media_type": "image"}
        classes = sorted({tag.name for tag in request.tags})
        metadata = json.dumps({**about, "info": {"classes": classes}})
        (request.folder / "metadata.json").write_text(metadata, encoding="utf-8")
        samples = JsonArray(request.folder / "samples.json", "samples", about)
        written: dict[str, int] = {}
        try:
            for row in request.rows(regions=True):
                name = save_image(request.folder / "data", row)
                samples.add(_sample(row, f"data/{name}" if request.images else name))
                written[row["split"]] = written.get(row["split"], 0) + 1
        finally:
            samples.close()
        return written


def _sample(row: Mapping[str, Any], path: str) -> dict[str, Any]:
    labels = [
        {"_cls": "Classification", "label": tag["name"], "confidence": tag["score"], "kind": tag["type"]}
        for tag in row["tags"]
    ]
    boxes = []
    for region in row["regions"]:
        x0, y0, x1, y1 = region["box"]
        box = [x0, y0, x1 - x0, y1 - y0]
        boxes.append({"_cls": "Detection", "label": region["name"], "bounding_box": box, "confidence": region["score"]})
    return {
        "filepath": path,
        "tags": [row["split"]],
        "metadata": {"_cls": "ImageMetadata", "width": row["width"], "height": row["height"]},
        "image_id": row["image_id"],
        "captions": row["captions"],
        "generated_captions": row["generated_captions"],
        "url": row["url"],
        "licence": row["licence"],
        "source_columns": row["extra"],
        "ram_tags": {"_cls": "Classifications", "classifications": labels},
        "regions": {"_cls": "Detections", "detections": boxes},
    }
