"""Every benchmark runs on a few inputs of its own, and ends with one JSON object that has the keys it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SLOW = pytest.mark.soak  # those that run the pipeline, or start a server: more than the other tests can wait for
KEYS = {
    "parse_speed": ({"speedup", "speedup_one_core", "flat", "captions_a_second", "hours_for_14m", "peak_gib"}, ()),
    "parse_quality": ({"f1_typed", "f1_names", "f1_stock", "f1_stock_names"}, ()),
    "clustering": ({"seconds", "linearity", "peak_memory_gb", "same_for_workers", "projected_hours"}, ()),
    "captioning": ({"speedup_captions", "speedup_end_to_end", "same_captions"}, ()),
    "grounding": ({"speedup_per_tag", "speedup_joined", "largest_difference", "projected_hours"}, SLOW),
    "exchange": ({"rows", "formats"}, ()),
    "orchestration": ({"planner_seconds", "planner_linearity", "seconds_a_shard_threads", "overhead_share"}, SLOW),
    "plan_estimates": ({"first", "grown"}, SLOW),
    "corpus": (
        {
            *("read_ratio", "text_stage_share", "between_share", "peak_gb", "idle_gb", "idle_read_gb"),
            *("seconds_a_photo", "speed_against_loop", "cpu_against_loop", "run_overhead_s"),
            *("bytes_a_row", "worst_stage", "time_growth", "read_growth"),
            *("projected_gb", "projected_disk_gb", "projected_hours", "resume_plan_s", "resume_read_gb"),
        },
        SLOW,
    ),
    "screening": ({"found", "wrong_pairs", "seconds", "recall"}, SLOW),
    "sample_world": ({"seeds", "recall_gain", "added_precision", "gap_closed", "map_parsed"}, SLOW),
    "cleaning_sample": ({"auroc", "auroc_picture", "wrong_removed_at_5", "precision", "recall_before"}, SLOW),
    "cleaning_photographs": ({"attention", "attention, regions alone"}, SLOW),
    "zero_shot": ({"coco", "flickr8k"}, SLOW),
    "mention_rates": ({"photographs", "words", "rates"}, ()),
    "first_contact": (
        {
            *("added_precision", "estimated_precision", "added_a_picture", "share_of_possible", "worst_tag_excess"),
            *("right_words_lost", "map_difference", "map_low", "map_high", "verdict"),
            *("thresholds_precision", "thresholds_recall", "parsed_recall", "minutes"),
        },
        SLOW,
    ),
    "tagging": ({"speedup_float32", "speedup_int8", "map_loss_int8", "share_of_matrix_rate", "peak_memory_gb"}, SLOW),
    "ablation_flickr8k": ({"gap_closed", "gap_closed_low", "seeds", "f1_gap_closed", "minutes", "rows"}, SLOW),
}
ELSEWHERE = {"drawn_photographs", "made_pictures", "process_tree"}  # what others draw from, and measure with


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks) for name, (_, marks) in KEYS.items()])
def test_a_benchmark_runs_and_ends_with_json(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{name}.py"), "--smoke"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path), "PREFECT_API_URL": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # the last line of both streams together
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert KEYS[name][0] <= json.loads(done.stdout.splitlines()[-1]).keys()


def test_no_benchmark_is_left_out() -> None:
    assert {file.stem for file in BENCHMARKS.glob("*.py")} <= KEYS.keys() | ELSEWHERE


WATCHING = """
import json, os, sys
from pathlib import Path
from process_tree import watch
watched = watch([sys.executable, "-c", sys.argv[1]], Path.cwd(), os.environ)
print(json.dumps([watched.code, watched.whole.read, watched.whole.peak]))
"""
READING = """
import mmap, subprocess, sys, time
subprocess.run(["cat", "data"], stdout=subprocess.DEVNULL)
file = open("data", "rb")
mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
time.sleep(1)
held = b"x" * 200_000_000
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5); open('data', 'rb').read()"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_what_processes_read_counts_when_they_ended_outlived_their_parent_or_mapped_it(tmp_path: Path) -> None:
    size = 30_000_000
    (tmp_path / "data").write_bytes(bytes(size))
    done = subprocess.run(
        [sys.executable, "-c", WATCHING, READING],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    code, read, peak = json.loads(done.stdout)
    assert code == 0
    assert 3 * size < read < 4 * size
    assert 200_000_000 < peak < 300_000_000
