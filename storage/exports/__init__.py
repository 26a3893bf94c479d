"""Exports: what leaves a store, one module a format. Each streams: it holds a part's rows at a time, never all."""

from collections.abc import Callable, Mapping

from storage.exports import coco, csv_file, diff, fiftyone, huggingface, official, webdataset
from storage.exports.rows import ROWS, ExportedTag, ExportError, Request

Writer = Callable[[Request], Mapping[str, int]]

WRITERS: Mapping[str, Writer] = {
    "official": official.write,
    "huggingface": huggingface.write,
    "coco": coco.write,
    "webdataset": webdataset.write,
    "fiftyone": fiftyone.write,
    "csv": csv_file.write,
    "diff": diff.write,
}

__all__ = ["ROWS", "WRITERS", "ExportError", "ExportedTag", "Request", "Writer"]
