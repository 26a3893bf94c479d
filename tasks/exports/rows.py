"""The rows that exports get, and what is wrong where there are none."""

from __future__ import annotations

import pyarrow as pa

from storage.schemas import IMAGE

TAG = pa.struct(
    [
        ("tag_id", pa.int32()),
        ("name", pa.string()),
        ("type", pa.string()),
        ("sources", pa.list_(pa.string())),  # caption, generated, predicted, hand: who said it
        ("score", pa.float32()),  # the annotator's probability, null before there is one
    ]
)
REGION = pa.struct(
    [
        ("tag_id", pa.int32()),
        ("name", pa.string()),
        ("box", pa.list_(pa.float32(), 4)),  # x0, y0, x1, y1 in shares of the picture's width and height
        ("score", pa.float32()),
    ]
)
ROWS = pa.schema(
    [
        ("image_id", pa.string()),
        ("image", IMAGE),  # null where images are left out
        ("captions", pa.list_(pa.string())),
        ("generated_captions", pa.list_(pa.string())),
        ("split", pa.string()),
        ("sources", pa.list_(pa.string())),
        ("name", pa.string()),  # what the source calls it
        ("url", pa.string()),
        ("licence", pa.string()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("extra", pa.string()),  # the source's other columns, a JSON object
        ("tags", pa.list_(TAG)),
        ("caption_tags", pa.list_(pa.list_(pa.int32()))),  # the ids of tags that each caption names
        ("regions", pa.list_(REGION)),
    ]
)
CHANGES = pa.schema(
    [
        ("image_id", pa.string()),
        ("sha256", pa.string()),
        ("name", pa.string()),
        ("url", pa.string()),
        ("split", pa.string()),
        ("change", pa.string()),  # added, removed or changed
        ("tag", pa.string()),
        ("type", pa.string()),
        ("before", pa.string()),  # changed: the word of the caption
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("score", pa.float32()),
    ]
)


class ExportError(ValueError):
    """An export that cannot be made as asked; the message says what to do."""
