"""A Hugging Face dataset folder: Parquet files a split with the images in them, and the dataset card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.json_text import to_json
from storage.schemas import IMAGE
from tasks.exports.export import Export
from tasks.exports.request import Request

FILE_BYTES = 400_000_000
ROW_GROUP = 128  # rows with images; of rows without them a table at a time
PLAIN = ("image_id", "image", "captions", "generated_captions")
AFTER = ("split", "sources", "name", "url", "licence", "sha256", "width", "height")
TAG_COLUMNS = {"tags": "name", "tag_types": "type", "tag_scores": "score", "tag_sources": "sources"}


WHAT = (
    "Images with captions and tags of everyday words, made by the data engine of "
    "[RAM](https://arxiv.org/abs/2306.03514). Nobody labelled by hand: tags were parsed from captions, added by a "
    "model that was trained on them, and cleaned. `tag_sources` says who said a tag (caption, generated caption, "
    "predicted, or a person's hand), `tag_scores` how probable the annotator thinks it."
)


class HuggingFaceExport(Export):
    """A Hugging Face data set in Parquet files, with its card."""

    kind: Literal["huggingface"] = "huggingface"

    def write(self, request: Request) -> Mapping[str, int]:
        """``data/<split>-00000.parquet``, .. and ``README.md``; returns the rows of each split."""
        writers: dict[str, _Files] = {}
        try:
            for table in request.tables():
                flat = _flat(table, request)
                for split in pc.unique(table["split"]).to_pylist():
                    if split not in writers:
                        writers[split] = _Files(request.folder / "data", split, flat.schema, request.images)
                    writers[split].write(flat.filter(pc.equal(table["split"], split)))
        finally:
            for writer in writers.values():
                writer.close()
        request.write_card(WHAT, {split: f"data/{split}-*.parquet" for split in writers}, request.images)
        return {split: writer.rows for split, writer in writers.items()}


class _Files:
    """The Parquet files of a split, a new one from ``FILE_BYTES`` on."""

    def __init__(self, folder: Path, split: str, schema: pa.Schema, images: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.split, self.rows, self.images = folder, split, 0, images
        self.schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features(schema)}})})
        self.number, self.bytes = -1, FILE_BYTES
        self.writer: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> None:
        if self.bytes >= FILE_BYTES:
            self.close()
            self.number, self.bytes = self.number + 1, 0
            path = self.folder / f"{self.split}-{self.number:05d}.parquet"
            light = [name for name in self.schema.names if name != "image"]
            self.writer = pq.ParquetWriter(
                path, self.schema, compression="zstd", use_dictionary=light, write_statistics=light
            )
        assert self.writer is not None
        self.writer.write_table(table.cast(self.schema), row_group_size=ROW_GROUP if self.images else None)
        self.rows += table.num_rows
        self.bytes += table.nbytes

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None


def _flat(table: pa.Table, request: Request) -> pa.Table:
    """The rows with plain columns and lists alone, which every viewer shows; the source's other columns come last."""
    columns: dict[str, Any] = {name: table[name] for name in PLAIN}
    tags = table["tags"].combine_chunks()
    offsets = pc.subtract(tags.offsets, tags.offsets[0])
    for name, part in TAG_COLUMNS.items():
        columns[name] = pa.ListArray.from_arrays(offsets, tags.flatten().field(part))
    columns |= {name: table[name] for name in AFTER}
    if request.extra:
        rows = [json.loads(text or "{}") for text in table["extra"].to_pylist()]
        for name, column in request.extra_names(columns).items():
            type_ = request.extra[name]
            columns[column] = pa.array([as_type(values.get(name), type_) for values in rows], type_)
    return pa.table(columns)


def as_type(value: Any, type_: pa.DataType) -> Any:
    """A value of a source's column in the type that holds all of the column's values."""
    if value is None or not pa.types.is_string(type_) or isinstance(value, str):
        return value
    return to_json(value)


def features(schema: pa.Schema) -> dict[str, Any]:
    """The schema as `datasets` describes it, so that the image column opens as pictures."""
    return {field.name: _feature(field.type) for field in schema}


def _feature(type_: pa.DataType) -> dict[str, Any]:
    if type_ == IMAGE:
        return {"_type": "Image"}
    if pa.types.is_list(type_):
        return {"feature": _feature(type_.value_type), "_type": "List"}
    names = {"double": "float64", "float": "float32"}
    return {"dtype": names.get(str(type_), str(type_)), "_type": "Value"}
