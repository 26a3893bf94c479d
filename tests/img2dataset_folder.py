"""Makes a real img2dataset folder on this machine, and runs the pipeline's first stages on it.

    python -m tests.img2dataset_folder --to /tmp/i2d --photographs ../shared/data/flickr8k --count 300

img2dataset is no dependency: it is installed into an environment of its own (``--environment``, made if need be). It
downloads from a server on loopback that answers some addresses with 404, some with half an image, some with a page.
Prints one JSON object: what was served, what img2dataset fetched, what ingest took and set apart.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from storage.store import Store

GONE, HALF, PAGE = "gone", "half", "page"  # what an address answers with, told by its query


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--photographs", type=Path, required=True, help="Flickr8k: captions.csv and images/.")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--format", choices=("webdataset", "parquet"), default="webdataset")
    parser.add_argument("--environment", type=Path, default=Path("/tmp/img2dataset-environment"))
    asked = parser.parse_args()
    asked.to.mkdir(parents=True, exist_ok=True)
    python = environment(asked.environment)
    server, served = serve(asked.photographs / "images")
    try:
        answers = list_addresses(asked, server.server_address[1])
        download(python, asked)
    finally:
        server.shutdown()
    source = f"img2dataset:{asked.to / 'fetched'}"
    store = asked.to / "store"
    options = ["--until", "assign-tags", "--set", "ingest.error_budget=0.5"]
    told = subprocess.run(
        [sys.executable, "-m", "ram_engine", "run", "--store", str(store), "--source", source, *options],
        check=True,
        capture_output=True,
        text=True,
    )
    print(told.stdout)
    opened = Store(store, create=False)
    pairs, rejected, tags = (opened.snapshot(name) for name in ("pairs", "pairs_rejected", "caption_tags"))
    assert pairs is not None and rejected is not None and tags is not None  # noqa: PT018
    first = opened.table(pairs, ["url", "extra"]).slice(0, 1).to_pylist()[0]
    print(
        json.dumps(
            {
                "asked": answers,
                "served": served,
                "pairs": pairs.rows,
                "rejected": Counter(opened.table(rejected, ["reason"])["reason"].to_pylist()),
                "captions_with_tags": sum(map(bool, opened.table(tags, ["tag_ids"])["tag_ids"].to_pylist())),
                "url": first["url"],
                "extra": json.loads(first["extra"]),
            }
        )
    )


def environment(folder: Path) -> Path:
    """The Python of an environment with img2dataset in it."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    if subprocess.run([python, "-c", "import img2dataset"], capture_output=True).returncode:
        subprocess.run([python, "-m", "pip", "install", "--quiet", "img2dataset"], check=True)
    return python


def serve(images: Path) -> tuple[ThreadingHTTPServer, Counter[str]]:
    """A server on loopback, and the count of what it answered."""
    served: Counter[str] = Counter()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, _, how = self.path.lstrip("/").partition("?")
            served[how or "whole"] += 1
            if how == GONE:
                self.send_error(404)
                return
            data = b"<html>not an image</html>" if how == PAGE else (images / Path(name).name).read_bytes()
            if how == HALF:
                data = data[: len(data) // 2]
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, served


def list_addresses(asked: argparse.Namespace, port: int) -> Counter[str]:
    """Writes the list that img2dataset downloads: an address, a caption, a licence and a score a line."""
    captions: dict[str, str] = {}
    with (asked.photographs / "captions.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            captions.setdefault(row["image"], row["caption"])
    answers: Counter[str] = Counter()
    with (asked.to / "list.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["url", "caption", "licence", "NSFW"])
        for number, (name, caption) in enumerate(list(captions.items())[: asked.count]):
            how = {0: GONE, 1: HALF, 2: PAGE}.get(number % 20, "")
            answers[how or "whole"] += 1
            writer.writerow(
                [f"http://127.0.0.1:{port}/{name}?{how}".rstrip("?"), caption, "CC-BY-4.0", number % 7 / 10]
            )
    return answers


def download(python: Path, asked: argparse.Namespace) -> None:
    code = (
        "import sys, img2dataset; img2dataset.download(url_list=sys.argv[1], output_folder=sys.argv[2], "
        "output_format=sys.argv[3], input_format='csv', url_col='url', caption_col='caption', "
        "save_additional_columns=['licence', 'NSFW'], image_size=224, resize_mode='keep_ratio', processes_count=1, "
        "thread_count=8, number_sample_per_shard=128, retries=0, enable_wandb=False, compute_hash='sha256')"
    )
    order = [python, "-c", code, str(asked.to / "list.csv"), str(asked.to / "fetched"), asked.format]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(order, check=True, env={**clean, "NO_ALBUMENTATIONS_UPDATE": "1"}, stdout=sys.stderr)


if __name__ == "__main__":
    main()
