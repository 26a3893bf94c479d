"""Sources: where images and captions come from. Each lists its items, or its files, without reading the images."""

from storage.sources.coco import list_coco
from storage.sources.columns import Columns
from storage.sources.containers import divide, list_folder, read
from storage.sources.csv_file import list_csv
from storage.sources.datasets_library import list_dataset
from storage.sources.item import ReadyTags, SourceError, SourceItem
from storage.sources.labels_file import list_labels
from storage.sources.official import list_official

__all__ = [
    "Columns",
    "ReadyTags",
    "SourceError",
    "SourceItem",
    "divide",
    "list_coco",
    "list_csv",
    "list_dataset",
    "list_folder",
    "list_labels",
    "list_official",
    "read",
]
