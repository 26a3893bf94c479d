"""The artifact store: content-keyed parts, snapshots that list them, model folders. The store is the truth.

Layout, below any fsspec URL::

    store.json                            the format's version
    <artifact>/parts/<key>.parquet        a part; its key is in the footer too
    <artifact>/models/<key>/              a model folder, where the artifact is a model
    <artifact>/snapshots/<key>.json       a snapshot: the parts that belong together, and where they came from
    <artifact>/latest.json                the name of the newest snapshot
    .damaged/<artifact>@<key>.json        a part or a model that a reader found damaged: it is computed again

A part is written under a temporary name, synced and renamed; a snapshot is published after all of its parts. Readers
open only what a snapshot lists, so whatever a killed run left behind is never read. Parts and model folders are read
only where their digests are those that their snapshot lists, JSON files where their own checksum fits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import math
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc

from storage import damage, documents, full_disk, model_folders
from storage import parts as parquet
from storage.addresses import concealed, revealed
from storage.damage import DamagedModelError, DamagedPartError, StoreError, naming, note_of
from storage.keys import digest
from storage.schemas import check, contract
from storage.snapshots import Part, Snapshot, model_folder_of, part_file, row_id
from storage.user_folder import user_folder
from storage.versions import Version, version_of

__all__ = ["DamagedModelError", "DamagedPartError", "Part", "Snapshot", "Store", "StoreError", "row_id", "without"]

FORMAT = 2
TEMPORARY = ".writing-"
WAITS = 20  # tenths of a second, for a name that another run has taken and not yet filled
LARGE = 16 << 20  # bytes from which a file of a store of objects is fetched in pieces at once
END = 1 << 40  # of any file
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)  # what systems say that have no hard links


class Store:
    """An artifact store below ``url`` (a local folder, or any fsspec URL such as ``s3://bucket/run``).

    Where there is none, one is made; without ``create`` :class:`StoreError` is raised, and with None it is an empty one
    that is only read. Raises StoreError where another version made it.
    """

    def __init__(self, url: str | os.PathLike[str], create: bool | None = True) -> None:
        address = revealed(os.fspath(url))
        self.url = concealed(address)  # as people and other processes are told it
        # without a cache: other processes write too
        self.fs, root = fsspec.core.url_to_fs(address, use_listings_cache=False)
        self.root: str = root.rstrip("/")
        self.is_local = "file" in (self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,))
        try:
            marker = self.read_json("store.json")
            if marker is None and create:
                self.write_json("store.json", {"format": FORMAT})
        except OSError as error:
            raise StoreError(
                f"the store {self.url} cannot be used ({error.strerror or error}): name another with --store"
            ) from error
        if marker is None:
            if create is False:
                raise StoreError(f"there is no store at {self.url}; `ram-engine run --store {self.url}` makes one")
        elif not isinstance(marker, dict) or not isinstance(marker.get("format"), int):
            raise self._unusable("store.json", "does not say which format the store has")
        elif (made := marker["format"]) != FORMAT:
            mend = "upgrade ram-engine" if made > FORMAT else "read it with the version that made it"
            raise StoreError(
                f"the store at {self.url} has format {made}, and this version of ram-engine reads format "
                f"{FORMAT}: {mend}, or name another store with --store"
            )

    @property
    def free_bytes(self) -> float:
        """What the disk has room for; infinite where the store is one of objects."""
        return min(map(full_disk.room, self.folders), default=math.inf)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of this machine that the store fills: none where it is one of objects."""
        return (Path(self.root),) if self.is_local else ()

    # parts

    def write_part(self, artifact: str, key: str, partition: str, table: pa.Table, replace: bool = False) -> Part:
        """Checks ``table`` against the artifact's contract and writes it as the part ``key``.

        Where another run was first, its part stays and is returned, unless it is to be replaced: snapshots that list it
        know its digest.
        """
        # in one piece: the same rows give the same bytes, however they were put together
        data = parquet.to_bytes(check(artifact, table.combine_chunks()), key)
        path = part_file(artifact, key)
        try:
            self._write_bytes(path, data, exclusive=not replace)
        except FileExistsError:
            if not self._is_noted(artifact, key) and (first := self._first_of_two(artifact, key, partition)):
                return first
            self._write_bytes(path, data)
            replace = True
        if replace or self.is_local:  # a part that was removed by hand leaves its note; elsewhere that is a request
            self.remove(note_of(artifact, key))
        footer = parquet.read_footer(pa.BufferReader(data), len(data))
        if footer is None:
            raise StoreError(f"{artifact}: the part {key} was written and has no footer")
        return Part(key, partition, footer.rows, len(data), footer.digest)

    def _first_of_two(self, artifact: str, key: str, partition: str) -> Part | None:
        """What another run wrote before; None where that is no part. A name may stand empty for a moment, see
        :func:`_move_if_new`."""
        path = self._path(part_file(artifact, key))
        for _ in range(WAITS):
            first = self.find_part(artifact, key, partition)
            if first is not None or self.fs.size(path):
                return first
            time.sleep(0.1)
        return None

    def find_part(self, artifact: str, key: str, partition: str) -> Part | None:
        """The part ``key`` if its file is there: what a killed run had finished. Its end alone is read, which tells
        what the rest has to be when it is."""
        path = self._path(part_file(artifact, key))
        try:
            with self.fs.open(path, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                footer = parquet.read_footer(file, size)
        except (FileNotFoundError, IsADirectoryError):
            return None
        if footer is None or footer.key != key:
            return None
        return Part(key, partition, footer.rows, size, footer.digest)

    def read_part(self, artifact: str, part: Part, columns: Iterable[str] | None = None) -> pa.Table:
        """A part's table, or some columns of it. Raises :class:`DamagedPartError` where the bytes are not those that
        were written: they are digested once a process, which reads all of them, and later only what is asked for."""
        path = self.part_file(artifact, part)
        version = self._version(path)
        with naming(artifact, part):
            if version and version == _checked.get((path, part.digest)):
                with self.fs.open(path, "rb") as file:
                    return parquet.read(file, columns)
            data = self._contents(path, part.bytes)
            self._check(artifact, part, pa.BufferReader(data), len(data))
            _checked[path, part.digest] = version
            return parquet.read(pa.BufferReader(data), columns)

    def part_file(self, artifact: str, part: Part) -> str:
        """The path of a part's file within the store's file system."""
        return self._path(part_file(artifact, part.key))

    def local_part(self, artifact: str, part: Part, folder: Path) -> Path:
        """A part as a local file for readers that open it themselves, such as DuckDB: its own file, else a copy in
        ``folder``. Raises :class:`DamagedPartError` as :meth:`read_part` does."""
        path = self.part_file(artifact, part)
        version = self._version(path)
        with naming(artifact, part):
            if not self.is_local:
                data = self._contents(path, part.bytes)
                self._check(artifact, part, pa.BufferReader(data), len(data))
                copy = folder / f"{artifact}-{part.key}.parquet"  # a part of pairs and one of images have one key
                copy.write_bytes(data)
                return copy
            if not version or version != _checked.get((path, part.digest)):
                with Path(path).open("rb") as file:
                    self._check(artifact, part, file, os.stat(path).st_size)
                _checked[path, part.digest] = version
        return Path(path)

    def open_part(self, artifact: str, part: Part) -> IO[bytes]:
        """A part's file for readers that check for themselves what they take from it. Raises
        :class:`DamagedPartError` where it is missing."""
        with naming(artifact, part):
            file: IO[bytes] = self.fs.open(self.part_file(artifact, part), "rb")
        return file

    def _contents(self, path: str, size: int = 0) -> bytes:
        """A whole file, of which ``size`` may be known. A small one elsewhere takes one request: whoever asks for no
        range is first told the size."""
        ranged = not self.is_local and size < LARGE
        contents: bytes = self.fs.cat_file(path, **({"start": 0, "end": END} if ranged else {}))
        return contents

    def _version(self, path: str) -> Version:
        """What changes with a local file; nothing for one elsewhere."""
        return version_of(path) if self.is_local else ()

    def _check(self, artifact: str, part: Part, file: IO[bytes], size: int) -> None:
        if not parquet.is_whole(file, size, part.digest):
            raise self.damaged(artifact, part, "is damaged (its digest differs)")

    def damaged(self, artifact: str, part: Part, what: str) -> DamagedPartError:
        """The error for a part whose bytes are wrong, which is noted: no plan takes it for present from then on."""
        self._note_damage(artifact, part.key, what)
        return DamagedPartError(artifact, part, what)

    def _note_damage(self, artifact: str, key: str, what: str) -> None:
        with contextlib.suppress(OSError):  # of a store that may only be read
            self.write_json(note_of(artifact, key), {"found": what})

    def _is_noted(self, artifact: str, key: str) -> bool:
        return bool(self.fs.exists(self._path(note_of(artifact, key))))

    def found_damaged(self) -> list[str]:
        """The parts and models of latest snapshots that are not whole: the next run computes them again."""
        latest = [snapshot for artifact in self.artifacts() if (snapshot := self.snapshot(artifact)) is not None]
        models = [one for one in latest if one.model and not self._has_model(one)]
        parts = [(one.artifact, part.key) for one in latest for part in {*one.parts} - {*self.whole_parts(one)}]
        return sorted([model_folder_of(one.artifact, one.key) for one in models] + [part_file(*part) for part in parts])

    def discard(self, found: DamagedPartError) -> None:
        """Lets the next plan compute again what was found damaged. A model stays until another takes its place."""
        if found.part is not None:
            self.remove_part(found.artifact, found.part)

    def remove_part(self, artifact: str, part: Part) -> None:
        """Removes a damaged part, so that the next plan computes it again."""
        self.remove(part_file(artifact, part.key))
        self.remove(note_of(artifact, part.key))

    def parts_present(self, artifact: str) -> set[str]:
        """The keys of all part files of an artifact, but for those that a reader found damaged."""
        return set(self._part_sizes(artifact))

    def whole_parts(self, snapshot: Snapshot) -> tuple[Part, ...]:
        """Those parts of a snapshot whose files are there, of their size, and that no reader found damaged."""
        sizes = self._part_sizes(snapshot.artifact)
        return tuple(part for part in snapshot.parts if sizes.get(part.key) == part.bytes)

    def is_whole(self, snapshot: Snapshot) -> bool:
        """Whether all files of a snapshot are there, of their size, and none is known to be damaged."""
        if snapshot.model:
            return self._has_model(snapshot)
        return len(self.whole_parts(snapshot)) == len(snapshot.parts)

    def _part_sizes(self, artifact: str) -> dict[str, int]:
        """The bytes of part files by key, but for those that a reader found damaged."""
        noted = set(self.names(damage.FOLDER))
        entries = [entry for entry in self._entries(f"{artifact}/parts") if entry["type"] != "directory"]
        names = {_base(entry["name"]): int(entry["size"]) for entry in entries}
        sizes = {name.removesuffix(".parquet"): size for name, size in names.items() if name.endswith(".parquet")}
        return {key: size for key, size in sizes.items() if _base(note_of(artifact, key)) not in noted}

    def check_present(self, snapshot: Snapshot) -> None:
        """Raises :class:`DamagedPartError` where a part of a snapshot is not there in its whole size, StoreError where
        its model is not. No file is opened."""
        artifact = snapshot.artifact
        if snapshot.model and not self.fs.exists(folder := self._path(f"{artifact}/models/{snapshot.key}")):
            raise StoreError(f"the model {folder} was removed before its snapshot was published: run again")
        try:
            files = self.fs.ls(self._path(f"{artifact}/parts"), detail=True) if snapshot.parts else []
        except FileNotFoundError:
            files = []
        sizes = {file["name"].rsplit("/", 1)[-1]: file["size"] for file in files}
        for part in snapshot.parts:
            size = sizes.get(f"{part.key}.parquet")
            if size is None:
                raise DamagedPartError(artifact, part, "is missing")
            if size != part.bytes:
                raise DamagedPartError(artifact, part, f"has {size} bytes in place of {part.bytes}")

    # reading a snapshot

    def tables(self, snapshot: Snapshot, columns: Iterable[str] | None = None) -> Iterator[pa.Table]:
        """The snapshot's tables, part by part, without the rows of images that left."""
        wanted = list(columns) if columns is not None else None
        for part in snapshot.parts:
            yield self.rows_of(snapshot, part, wanted)

    def rows_of(self, snapshot: Snapshot, part: Part, columns: list[str] | None = None) -> pa.Table:
        """One part of a snapshot, without the rows of images that left."""
        gone = snapshot.gone(part.partition)
        column = row_id(snapshot.artifact)
        if gone and columns is not None and column not in columns:
            return without(self.read_part(snapshot.artifact, part, [*columns, column]), gone, column).select(columns)
        return without(self.read_part(snapshot.artifact, part, columns), gone, column)

    def removed_rows(self, artifact: str, parts: Iterable[Part], tombstones: Mapping[str, list[str]]) -> dict[str, int]:
        """By partition the rows of ``parts`` that ``tombstones`` hide from readers."""
        if not tombstones:  # a model has no rows
            return {}
        column, counts = row_id(artifact), {}
        for part in parts if column else ():
            if gone := tombstones.get(part.partition):
                left = without(self.read_part(artifact, part, [column]), gone, column)
                counts[part.partition] = part.rows - left.num_rows
        return {partition: count for partition, count in counts.items() if count}

    def table(self, snapshot: Snapshot, columns: Iterable[str] | None = None) -> pa.Table:
        """The whole snapshot as one table; empty with the contract's columns where it has no part."""
        wanted = list(columns) if columns is not None else None
        tables = [table for table in self.tables(snapshot, wanted) if table.num_rows]
        if not tables:
            empty = contract(snapshot.artifact).schema.empty_table()
            return empty.select(wanted) if wanted is not None else empty
        return pa.concat_tables(tables)

    # snapshots

    def publish(self, snapshot: Snapshot) -> Snapshot:
        """Writes the snapshot and makes it the artifact's latest, unless it is held back."""
        created = snapshot.created
        if not created:  # a clock that went back must not make the new one look older
            latest = self.snapshot(snapshot.artifact)
            created = max(time.time(), latest.created + 1e-3 if latest else 0.0)
        files = snapshot.files or dict(model_folders.known.get(snapshot.model, {}))
        stamped = dataclasses.replace(snapshot, created=created, files=files)
        self.write_json(f"{stamped.artifact}/snapshots/{stamped.key}.json", stamped.to_json())
        if not stamped.held_back:
            self.point_to(stamped)
        return stamped

    def point_to(self, snapshot: Snapshot) -> None:
        """Makes an existing snapshot the artifact's latest."""
        self.write_json(f"{snapshot.artifact}/latest.json", {"artifact": snapshot.artifact, "snapshot": snapshot.key})

    def snapshot(self, artifact: str, key: str = "") -> Snapshot | None:
        """A snapshot by key, the latest without one; None where there is none."""
        asked, key = key, key or self.latest_key(artifact)
        if not key:
            return None
        file = f"{artifact}/snapshots/{key}.json"
        value = self.read_json(file)
        if value is None and not asked:
            raise self._unusable(f"{artifact}/latest.json", f"names the snapshot {key}, which is missing")
        if value is None:
            return None
        try:
            snapshot = Snapshot.from_json(value)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._unusable(file, f"is no snapshot ({str(error).splitlines()[0]})") from error
        if (snapshot.artifact, snapshot.key) != (artifact, key):
            raise self._unusable(file, f"is the snapshot {snapshot.name}")
        return snapshot

    def latest_key(self, artifact: str) -> str:
        """The key of the latest snapshot, which is not read for that; "" where there is none."""
        file = f"{artifact}/latest.json"
        pointer = self.read_json(file)
        if pointer is None:
            return ""
        if not isinstance(pointer, dict) or not isinstance(pointer.get("snapshot"), str):
            raise self._unusable(file, "names no snapshot")
        if pointer.get("artifact", artifact) != artifact:  # earlier versions did not say whose pointer it is
            raise self._unusable(file, f"is the pointer of {pointer['artifact']}")
        return str(pointer["snapshot"])

    def snapshots(self, artifact: str) -> list[Snapshot]:
        """All snapshots of an artifact, the newest first."""
        names = [name for name in self.names(f"{artifact}/snapshots") if name.endswith(".json")]
        found = [self.snapshot(artifact, name.removesuffix(".json")) for name in names]
        return sorted((one for one in found if one is not None), key=lambda one: -one.created)

    def artifacts(self) -> list[str]:
        """The names of all artifacts that have a snapshot."""
        return sorted(name for name in self.names("") if self.fs.exists(self._path(f"{name}/latest.json")))

    # model folders

    def write_model(self, artifact: str, key: str, folder: Path) -> str:
        """Moves or uploads a finished model folder into the store; returns the digest of its files."""
        model, _ = model_folders.read(folder)
        name = model_folder_of(artifact, key)
        target = self._path(name)
        self.remove(name)
        if self.is_local:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(folder, target)
            model_folders.sync(Path(target))
        else:
            self.fs.put(str(folder), target, recursive=True)
        self.remove(note_of(artifact, key))
        return model

    def model_folder(self, snapshot: Snapshot) -> Path:
        """The model folder as a local one; from an object store it is fetched once a process.

        Raises :class:`DamagedModelError` where its files are not those that were written: they are digested once a
        process.
        """
        name = model_folder_of(snapshot.artifact, snapshot.key)
        folder = Path(self._path(name)) if self.is_local else self._fetched(name, snapshot.model)
        version = model_folders.versions(folder)
        if not version or version != _checked.get((str(folder), snapshot.model)):
            model, there = model_folders.read(folder)
            if model != snapshot.model:
                file, what = model_folders.damage(there, snapshot.files)
                self._note_damage(snapshot.artifact, snapshot.key, f"{file} {what}".strip())
                raise DamagedModelError(snapshot.artifact, f"{name}/{file}".rstrip("/"), what)
            _checked[str(folder), snapshot.model] = version
        return folder

    def _fetched(self, name: str, model: str) -> Path:
        """A copy of a model folder on this machine."""
        path = self._path(name)
        local = user_folder("models") / digest([self.url, path, model])
        if local.exists() and model_folders.read(local)[0] != model:
            shutil.rmtree(local)
        if not local.exists():
            fetched = local.with_name(f"{local.name}{TEMPORARY}{uuid.uuid4().hex}")
            self.fs.get(path, str(fetched), recursive=True)
            with contextlib.suppress(OSError):  # another process was first
                fetched.rename(local)
        return local

    def _has_model(self, snapshot: Snapshot) -> bool:
        """Whether the files of a model are there, each of its size, and none is known to be damaged."""
        folder = self._path(model_folder_of(snapshot.artifact, snapshot.key))
        found = self.fs.find(folder, detail=True).items()
        sizes = {path.removeprefix(f"{folder}/"): int(entry["size"]) for path, entry in found}
        there = {file: size for file, size in sizes.items() if model_folders.is_visible(file)}
        listed = {file: of.bytes for file, of in snapshot.files.items()}
        fits = there == listed if listed else bool(there) and all(there.values())
        if fits and self._is_noted(snapshot.artifact, snapshot.key):  # put right meanwhile? a training costs more
            with contextlib.suppress(DamagedModelError):
                self.model_folder(snapshot)
                self.remove(note_of(snapshot.artifact, snapshot.key))
        return fits and not self._is_noted(snapshot.artifact, snapshot.key)

    def work_folder(self, name: str) -> Path:
        """A local folder for unfinished work, such as a training's checkpoints; kept until the work is done."""
        folder = self._folder_here("work") / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def unfinished_work(self) -> list[Path]:
        """The folders of unfinished work on this machine."""
        return sorted(folder for folder in self._folder_here("work").glob("*") if folder.is_dir())

    # plain files

    def write_text(self, name: str, text: str) -> None:
        """A file beside the artifacts, such as the report."""
        self._write_bytes(name, memoryview(text.encode()))

    def remove(self, name: str) -> None:
        """Removes a file, or a folder; one that is gone already is no error."""
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm(self._path(name), recursive=True)

    def lock_file(self, name: str) -> Path:
        """A local file whose lock keeps two runs of this machine from the same work."""
        folder = self._folder_here("locks")
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def _folder_here(self, kind: str) -> Path:
        """A folder on this machine for what no other machine needs: within a local store, else the user's own."""
        return Path(self._path(f".{kind}")) if self.is_local else user_folder(kind, digest(self.url))

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    def names(self, folder: str) -> list[str]:
        """The names of a folder's files and folders; none where it is not there."""
        return [_base(name) for name in self._entries(folder, detail=False)]

    def _entries(self, folder: str, detail: bool = True) -> list[Any]:
        """What fsspec tells of a folder's files and folders."""
        try:
            return list(self.fs.ls(self._path(folder), detail=detail))
        except FileNotFoundError:
            return []

    def read_text(self, name: str) -> str | None:
        """A file beside the artifacts; None where it is not there."""
        try:
            return self._contents(self._path(name)).decode()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except IsADirectoryError:
            raise self._unusable(name, "is a directory") from None

    def read_json(self, name: str) -> Any:
        """A JSON file's value; None where it is not there."""
        try:
            text = self.read_text(name)
            value = None if text is None else documents.from_text(text)
        except (ValueError, RecursionError) as error:  # bytes that are no text among them
            what = "is damaged" if isinstance(error, documents.ChecksumError) else "is not JSON"
            raise self._unusable(name, f"{what} ({error})") from error
        if value is None and text is not None:
            raise self._unusable(name, "says nothing (null)")
        return value

    def _unusable(self, name: str, why: str) -> StoreError:
        file = self._path(name) if self.is_local else f"{self.url.rstrip('/')}/{name}"
        return StoreError(f"{file} {why}: remove it and run again")

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Writes a JSON file with its checksum; a reader sees the old or the new one, never half."""
        self.write_text(name, documents.to_text(value))

    def _write_bytes(self, name: str, data: memoryview, exclusive: bool = False) -> None:
        """Writes a file as a whole. Raises FileExistsError where it must be new and is not."""
        path = self._path(name)
        if not self.is_local:
            # `create` is a conditional PUT where the service has one
            self.fs.pipe_file(path, bytes(data), mode="create" if exclusive else "overwrite")
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if exclusive:
                _move_if_new(temporary, target)
            else:
                if target.is_dir():  # no folder of a store bears the name of a file
                    shutil.rmtree(target)
                temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


_checked: dict[tuple[str, str], Version] = {}  # (path, digest) -> the version that this process has checked


def _move_if_new(temporary: Path, target: Path) -> None:
    """Gives a finished file its name. Raises FileExistsError where there is one of that name already."""
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        # exFAT and many network drives have no links: whoever creates the name may then put the finished file there
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        temporary.replace(target)
    else:
        temporary.unlink()


def _base(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def without(table: pa.Table, gone: list[str], column: str = "image_id") -> pa.Table:
    """``table`` without the rows whose ``column`` is among ``gone``."""
    if not gone:
        return table
    return table.filter(pc.invert(pc.is_in(table[column], value_set=pa.array(gone, pa.string()))))
