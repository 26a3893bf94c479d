"""Exports: what leaves a store, a file a format. :mod:`tasks.exports.room` has them all.

What a format needs to be written is here: its class, the request that it answers, and the helpers that write files.
"""

from tasks.exports.export import Export
from tasks.exports.request import ExportedTag, Request
from tasks.exports.rows import CHANGES, ROWS, ExportError
from tasks.exports.writing.files import JsonArray, save_image, suffix_of

__all__ = [
    "CHANGES",
    "ROWS",
    "Export",
    "ExportError",
    "ExportedTag",
    "JsonArray",
    "Request",
    "save_image",
    "suffix_of",
]
