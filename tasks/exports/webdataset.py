"""WebDataset shards: tars whose members are an image, its first caption and everything else as JSON, by image id."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tasks.exports.export import Export
from tasks.exports.request import Request
from tasks.exports.rows import ExportError
from tasks.exports.writing.files import encode, suffix_of

SAMPLES = 1000  # a shard


class WebDatasetExport(Export):
    """WebDataset tars, as open_clip's trainer reads them."""

    kind: Literal["webdataset"] = "webdataset"

    def write(self, request: Request) -> Mapping[str, int]:
        """``<split>-000000.tar``, .. and ``sizes.json``, by which open_clip's trainer knows how many samples there are.

        Returns the samples of each split. Raises :class:`ExportError` where images are left out: a sample without one
        is none.
        """
        if not request.images:
            raise ExportError("WebDataset shards hold the images: leave out --no-images")
        splits: dict[str, _Shards] = {}
        for row in request.rows(regions=True):
            splits.setdefault(row["split"], _Shards(request.folder, row["split"])).add(row)
        sizes: dict[str, int] = {}
        for shards in splits.values():
            shards.close()
            sizes |= shards.sizes
        (request.folder / "sizes.json").write_text(encode(sizes, indent=1), encoding="utf-8")
        return {split: sum(shards.sizes.values()) for split, shards in splits.items()}


class _Shards:
    """The tars of a split."""

    def __init__(self, folder: Path, split: str) -> None:
        self.folder, self.split = folder, split
        self.sizes: dict[str, int] = {}
        self.tar: tarfile.TarFile | None = None
        self.name = ""

    def add(self, row: dict[str, Any]) -> None:
        if self.tar is None or self.sizes[self.name] == SAMPLES:
            self.close()
            self.name = f"{self.split}-{len(self.sizes):06d}.tar"
            self.sizes[self.name] = 0
            self.tar = tarfile.open(self.folder / self.name, "w")  # noqa: SIM115 - closed when it is full
        data, key = row["image"]["bytes"], row["image_id"]
        caption = row["captions"][0] if row["captions"] else ""
        about = {
            **row["extra"],
            **{name: row[name] for name in ("captions", "generated_captions", "url", "licence", "split", "sha256")},
            **{name: row[name] for name in ("width", "height", "sources", "name", "tags", "regions")},
            "key": key,
            "caption": caption,
        }
        text = encode(about)
        for suffix, content in ((suffix_of(data), data), ("txt", caption.encode()), ("json", text.encode())):
            member = tarfile.TarInfo(f"{key}.{suffix}")
            member.size = len(content)
            self.tar.addfile(member, io.BytesIO(content))
        self.sizes[self.name] += 1

    def close(self) -> None:
        if self.tar is not None:
            self.tar.close()
            self.tar = None
