"""The room of sources: the project's own, and those of installed packages."""

from __future__ import annotations

from tasks.settings.rooms import Room
from tasks.sources.coco import CocoSource
from tasks.sources.csv_file import CsvSource
from tasks.sources.datasets_library import DatasetsSource
from tasks.sources.folder import FolderSource
from tasks.sources.huggingface import HuggingFaceSource
from tasks.sources.img2dataset import Img2datasetSource
from tasks.sources.labels_file import LabelsSource
from tasks.sources.official import OfficialSource
from tasks.sources.sample import SampleSource
from tasks.sources.source import Source

SOURCES: Room[Source] = Room(
    "source",
    "ram_engine.sources",
    Source,
    (
        SampleSource,
        CsvSource,
        CocoSource,
        Img2datasetSource,
        HuggingFaceSource,
        DatasetsSource,
        OfficialSource,
        LabelsSource,
        FolderSource,
    ),
)
