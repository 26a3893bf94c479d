"""The room of exports: the project's own, and those of installed packages."""

from __future__ import annotations

from tasks.exports.coco import CocoExport
from tasks.exports.csv_file import CsvExport
from tasks.exports.diff import DiffExport
from tasks.exports.export import Export
from tasks.exports.fiftyone import FiftyOneExport
from tasks.exports.huggingface import HuggingFaceExport
from tasks.exports.official import OfficialExport
from tasks.exports.webdataset import WebDatasetExport
from tasks.settings.rooms import Room

EXPORTS: Room[Export] = Room(
    "export",
    "ram_engine.exports",
    Export,
    (OfficialExport, HuggingFaceExport, CocoExport, WebDatasetExport, FiftyOneExport, CsvExport, DiffExport),
)
