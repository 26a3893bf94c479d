"""The files of RAM's authors: training JSON, evaluation lists by index and by name, tag list with thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TextIO

from storage.exports.rows import JsonArray, Request, save_image

TRAINING, EVALUATION = ("train", "fine_tune"), ("test", "calibrate")


def write(request: Request) -> Mapping[str, int]:
    """``train.json`` and ``fine_tune.json``; ``test_annots.txt`` (by index), ``test_tags.txt`` (by name), and those of
    ``calibrate``; ``tag_list.txt`` with ``tag_list_threshold.txt`` and ``tag_list_types.txt`` line by line.

    An id in them is a tag's line in ``tag_list.txt``, from 0, as in the authors' own files.
    """
    folder = request.folder
    line_of = {tag.tag_id: line for line, tag in enumerate(request.tags)}
    written: dict[str, int] = {}
    jsons: dict[str, JsonArray] = {}
    with ExitStack() as stack:
        lists: dict[str, TextIO] = {}
        for row in request.rows():
            split, name = row["split"], (row["name"] or "").replace(",", "_")  # the lists are cut at commas
            path = save_image(folder / "images", {**row, "name": name})
            path = f"images/{path}" if request.images else path
            union = sorted(line_of[tag["tag_id"]] for tag in row["tags"])
            if split in EVALUATION:
                for kind in ("annots", "tags"):
                    if f"{split}_{kind}" not in lists:
                        file = (folder / f"{split}_{kind}.txt").open("w", encoding="utf-8")
                        lists[f"{split}_{kind}"] = stack.enter_context(file)
                lists[f"{split}_annots"].write(f"{path},{' '.join(map(str, union))}\n")
                lists[f"{split}_tags"].write(",".join([path, *(request.tags[line].name for line in union)]) + "\n")
            else:
                if split not in jsons:
                    jsons[split] = JsonArray(folder / f"{split}.json")
                    stack.callback(jsons[split].close)
                jsons[split].add(
                    {
                        "image_path": path,
                        "caption": row["captions"],
                        "union_label_id": union,
                        "parse_label_id": [[line_of[tag] for tag in named] for named in row["caption_tags"]],
                    }
                )
            written[split] = written.get(split, 0) + 1
    for name, values in {
        "tag_list.txt": [tag.name for tag in request.tags],
        "tag_list_threshold.txt": [f"{tag.threshold:.4g}" for tag in request.tags],
        "tag_list_types.txt": [f"{tag.name}\t{tag.type}" for tag in request.tags],
    }.items():
        (folder / name).write_text("".join(f"{value}\n" for value in values), encoding="utf-8")
    return written
