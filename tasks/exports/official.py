"""The files of RAM's authors: training JSON, evaluation lists by index and by name, tag list with thresholds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Literal, TextIO

from tasks.exports.export import Export
from tasks.exports.request import ExportedTag, Request
from tasks.exports.writing.files import JsonArray, save_image

EVALUATION = ("test", "calibrate")
_BREAKS = re.compile(r"[,\x00-\x1f\x85\u2028\u2029]")  # where lists are cut into lines and names


class OfficialExport(Export):
    """Training JSON, evaluation lists and tag list (with thresholds), as RAM's authors have them.

    An id in them is a tag's line in ``tag_list.txt``, from 0, as in the authors' own files.
    """

    kind: Literal["official"] = "official"

    def write(self, request: Request) -> Mapping[str, int]:
        """``train.json`` and ``fine_tune.json``; ``test_annots.txt`` (by index), ``test_tags.txt`` (by name), and those
        of ``calibrate``; ``tag_list.txt`` with ``tag_list_threshold.txt`` and ``tag_list_types.txt`` line by line.
        Returns the images of each split."""
        line_of = {tag.tag_id: line for line, tag in enumerate(request.tags)}
        written: dict[str, int] = {}
        with ExitStack() as stack:
            lists: dict[str, _Lists] = {}
            trainings: dict[str, JsonArray] = {}
            for row in request.rows():
                split, name = row["split"], _BREAKS.sub("_", row["name"] or "")
                path = save_image(request.folder / "images", {**row, "name": name})
                path = f"images/{path}" if request.images else path
                lines = sorted(line_of[tag["tag_id"]] for tag in row["tags"])
                if split in EVALUATION:
                    if split not in lists:
                        lists[split] = _Lists(request, split, stack)
                    lists[split].add(path, lines)
                else:
                    if split not in trainings:
                        trainings[split] = JsonArray(request.folder / f"{split}.json")
                        stack.callback(trainings[split].close)
                    trainings[split].add(_training(row, path, lines, line_of))
                written[split] = written.get(split, 0) + 1
        _write_tags(request)
        return written


class _Lists:
    """The evaluation lists of a split, by index and by name."""

    def __init__(self, request: Request, split: str, stack: ExitStack) -> None:
        self.names = [_listed(tag) for tag in request.tags]
        self.by_index: TextIO
        self.by_name: TextIO
        self.by_index, self.by_name = (
            stack.enter_context((request.folder / f"{split}_{kind}.txt").open("w", encoding="utf-8"))
            for kind in ("annots", "tags")
        )

    def add(self, path: str, lines: list[int]) -> None:
        self.by_index.write(f"{path},{' '.join(map(str, lines))}\n")
        self.by_name.write(",".join([path, *(self.names[line] for line in lines)]) + "\n")


def _training(row: Mapping[str, Any], path: str, lines: list[int], line_of: Mapping[int, int]) -> dict[str, Any]:
    return {
        "image_path": path,
        "caption": row["captions"] or [""],  # the authors' code draws one of an image's captions, and stops at none
        "union_label_id": lines,
        "parse_label_id": [[line_of[tag] for tag in named] for named in row["caption_tags"] or [[]]],
    }


def _listed(tag: ExportedTag) -> str:
    return _BREAKS.sub(" ", tag.name)


def _write_tags(request: Request) -> None:
    for name, values in {
        "tag_list.txt": [_listed(tag) for tag in request.tags],
        "tag_list_threshold.txt": [f"{tag.threshold:.4g}" for tag in request.tags],
        "tag_list_types.txt": [f"{_listed(tag)}\t{tag.type}" for tag in request.tags],
    }.items():
        (request.folder / name).write_text("".join(f"{value}\n" for value in values), encoding="utf-8")
