"""Sources: where images and captions come from, a file a kind. :mod:`tasks.sources.room` has them all.

What a source needs to be written is here: its class, its items, and the helpers of those that name files.
"""

from tasks.sources.item import ReadyTags, SourceError, SourceItem, extra_of, file_version, images_folder, inside
from tasks.sources.source import ImagesFolder, Limit, Source

__all__ = [
    "ImagesFolder",
    "Limit",
    "ReadyTags",
    "Source",
    "SourceError",
    "SourceItem",
    "extra_of",
    "file_version",
    "images_folder",
    "inside",
]
