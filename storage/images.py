"""The image files of pairs: an artifact of their own, `images`, read where a picture is needed and there alone.

Its parts have the rows of the parts of `pairs`, in the same order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.store import DamagedPartError, Part, Snapshot, Store

ImageRecord = Mapping[str, Any]  # bytes and path


def with_files(store: Store, pairs: Snapshot, images: Snapshot, columns: Collection[str]) -> Iterator[pa.Table]:
    """``columns`` of the pairs and the column ``image``, part by part, without the images that left."""
    files = {part.partition: part for part in images.parts}
    for part in pairs.parts:
        table = store.rows_of(pairs, part, list(columns))
        if table.num_rows:
            yield table.append_column("image", store.rows_of(images, files[part.partition])["image"])


def read_files(store: Store, pairs: Snapshot, images: Snapshot, image_ids: Collection[str]) -> dict[str, ImageRecord]:
    """The files of some images by id, each read with the few that lie beside it; those that left are not among them.

    Raises :class:`DamagedPartError` where a file is not that of its image: an id is the digest of the contents.
    """
    wanted, records = set(image_ids), dict[str, ImageRecord]()
    files = {part.partition: part for part in images.parts}
    for part in pairs.parts:
        if not wanted:
            break
        ids = store.rows_of(pairs, part, ["image_id"])["image_id"].to_pylist()
        if here := wanted.intersection(ids):
            records |= records_of(store, images.artifact, files[part.partition], here)
            wanted -= here
    return records


def records_of(store: Store, artifact: str, part: Part, image_ids: Collection[str]) -> dict[str, ImageRecord]:
    """The files of images that all stand in one part; only the row groups that hold them are read.

    Raises :class:`DamagedPartError` as :func:`read_files` does.
    """
    records: dict[str, ImageRecord] = {}
    wanted = pa.array(sorted(image_ids), pa.string())
    try:
        with store.open_part(artifact, part) as stream:
            file = pq.ParquetFile(stream, pre_buffer=False)
            for group in range(file.num_row_groups):
                ids = file.read_row_group(group, ["image_id"], use_threads=False)["image_id"]
                if pc.any(pc.is_in(ids, value_set=wanted)).as_py():
                    table = file.read_row_group(group, use_threads=False)
                    for row in table.filter(pc.is_in(table["image_id"], value_set=wanted)).to_pylist():
                        records[row["image_id"]] = row["image"]
    except pa.ArrowInvalid as error:
        raise store.damaged(artifact, part, f"cannot be read ({error})") from None
    except OSError as error:
        raise DamagedPartError(artifact, part, f"cannot be read ({error})") from None
    if len(records) < len(image_ids) or not all(_is_of(record, image_id) for image_id, record in records.items()):
        raise store.damaged(artifact, part, "is damaged (an image is not that of its id)")
    return records


def _is_of(record: ImageRecord, image_id: str) -> bool:
    return hashlib.sha256(record["bytes"] or b"").hexdigest().startswith(image_id)
