"""How fast data leaves a store, and in how much memory: each format beside plain pyarrow writing the same columns.

    python benchmarks/exchange.py --store runs/sample --rows 1000000 | --smoke

The rows of ``--store`` are repeated under new ids, without their images, into a store of ``--rows`` rows and one of a
tenth of that: memory is flat where both exports need as much. Each export is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.keys import digest
from storage.store import Part, Snapshot, Store

FORMATS = ("official", "huggingface", "coco", "fiftyone", "csv", "diff")
ALIGNED = ("pairs", "phrases", "caption_tags", "generated", "regions", "tag_verdicts")
PART = 4096
EXPORT = """
import json, sys, time
from pathlib import Path
from ram_engine.data_export import export_data
from storage.store import Store
from tasks.exports.writing.exported_rows import Selection
started = time.perf_counter()
export_data(Store(sys.argv[1], create=False), sys.argv[2], Path(sys.argv[3]), Selection(images=False))
seconds = time.perf_counter() - started
# ru_maxrss would begin with what the parent held
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([seconds, int(peak) / 1024]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default="runs/sample")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--smoke", action="store_true", help="two formats of a small store: does it run?")
    asked = parser.parse_args()
    formats = asked.formats.split(",")
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="exchange-") as folder:
        if asked.smoke:
            sys.path.insert(0, str(Path(__file__).parents[1]))  # before a package of that name that others install
            from tests.report_store import make_store

            asked.store, asked.rows = make_store(f"{folder}/small").url, 400
            formats = ["csv", "huggingface"]
        for rows in (asked.rows // 10, asked.rows):
            store = Path(folder) / f"store-{rows}"
            repeat(Store(asked.store, create=False), Store(store), rows)
            for name in formats:
                to = Path(folder) / name
                done = subprocess.run(
                    [sys.executable, "-c", EXPORT, str(store), name, str(to)],
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                seconds, peak = json.loads(done.stdout)
                megabytes = sum(file.stat().st_size for file in to.rglob("*") if file.is_file()) / 1e6
                one = found.setdefault(name, {})
                one[f"peak_mb_{rows}"] = round(peak, 1)
                one |= {"rows_per_second": round(rows / seconds), "megabytes": round(megabytes, 1)}
                if name == "huggingface":
                    one["pyarrow_rows_per_second"] = round(plain(to / "data", Path(folder) / "plain.parquet"))
                shutil.rmtree(to)
    least, most = f"peak_mb_{asked.rows // 10}", f"peak_mb_{asked.rows}"
    print(f"{'format':12} {'rows/s':>9} {'MB':>8} {'MB of memory':>13}  at a tenth of the rows")
    for name, one in found.items():
        print(f"{name:12} {one['rows_per_second']:9,} {one['megabytes']:8,.1f} {one[most]:13,.0f}  {one[least]:,.0f}")
    if "huggingface" in found:
        print(
            f"plain pyarrow writes the columns of huggingface at {found['huggingface']['pyarrow_rows_per_second']:,}/s"
        )
    print(json.dumps({"rows": asked.rows, "formats": found}))


def repeat(source: Store, target: Store, rows: int) -> None:
    """Copies the rows of ``source`` under new ids until there are ``rows``, without images, in parts of ``PART``."""
    snapshots = {name: source.snapshot(name) for name in ALIGNED}
    tables: dict[str, pa.Table] = {}
    for name, snapshot in snapshots.items():
        assert snapshot is not None, f"{source.url} has no {name}: run the pipeline first"
        tables[name] = source.table(snapshot)
    pairs = tables["pairs"]
    parts: dict[str, list[Part]] = {name: [] for name in ALIGNED}
    copies, written = PART // pairs.num_rows + 1, 0
    for number in range(-(-rows // (copies * pairs.num_rows))):
        wanted = min(copies * pairs.num_rows, rows - written)
        written += wanted
        key = digest(["exchange", number])
        kept: pa.Array | None = None
        for name, table in tables.items():
            many = pa.concat_tables([renamed(table, number * copies + copy) for copy in range(copies)])
            if name == "pairs":
                many = many.slice(0, wanted)
                kept = many["image_id"].combine_chunks()
            else:
                many = many.filter(pc.is_in(many["image_id"], value_set=kept))
            parts[name].append(target.write_part(name, key, key, many))
    for name, snapshot in snapshots.items():
        if snapshot is not None:
            target.publish(replace(snapshot, parts=tuple(parts[name]), tombstones={}))
    labels = source.snapshot("label_system")
    assert labels is not None
    part = target.write_part("label_system", labels.key, "", source.table(labels))
    target.publish(Snapshot("label_system", labels.key, labels.stage, labels.recipe, (part,)))


def renamed(table: pa.Table, copy: int) -> pa.Table:
    """The rows with the first half of their image ids replaced by the number of the copy."""
    ids = pc.binary_join_element_wise(pa.scalar(f"{copy:08x}"), pc.utf8_slice_codeunits(table["image_id"], 8), "")
    return table.set_column(table.column_names.index("image_id"), "image_id", ids)


def plain(folder: Path, to: Path) -> float:
    """Rows a second at which pyarrow writes the same columns, read before the clock starts."""
    rows = seconds = 0.0
    writer: pq.ParquetWriter | None = None
    for table in batches(folder):
        started = time.perf_counter()
        writer = writer or pq.ParquetWriter(to, table.schema, compression="zstd")
        writer.write_table(table)
        seconds += time.perf_counter() - started
        rows += table.num_rows
    assert writer is not None
    started = time.perf_counter()
    writer.close()
    to.unlink()
    return rows / (seconds + time.perf_counter() - started)


def batches(folder: Path) -> Iterator[pa.Table]:
    schema: pa.Schema | None = None
    for file in sorted(folder.glob("*.parquet")):
        with pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(batch_size=PART):
                table = pa.Table.from_batches([batch]).replace_schema_metadata(None)
                schema = schema or table.schema
                yield table.cast(schema)


if __name__ == "__main__":
    main()
