"""Sources: where images and captions come from. Each lists its items without reading the images."""

from storage.sources.coco import list_coco
from storage.sources.csv_file import list_csv
from storage.sources.item import SourceError, SourceItem

__all__ = ["SourceError", "SourceItem", "list_coco", "list_csv"]
