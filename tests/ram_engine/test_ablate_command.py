"""`ram-engine ablate` on the finished run of `tiny`."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from storage.store import Store
from tasks.evaluation.metrics import mean_average_precision
from tests.conftest import ram_engine

QUICK = [
    "retrain.epochs=1", "retrain.architecture=tag2text", "retrain.decoder_layers=0", "retrain.evidence=mean",
    "retrain.distillation=none",
]  # fmt: skip
SETS = [part for each in QUICK for part in ("--set", each)]


def test_rows_differ_in_their_labels_alone(finished_store: Path, tmp_path: Path) -> None:
    options = ["--store", str(finished_store), "--preset", "tiny", "--seeds", "2", "--samples", "20", *SETS]
    done = ram_engine("ablate", *options, "--to", str(tmp_path), "--fine-tune", "20")
    assert "gap closed" in done.stdout
    found = json.loads((tmp_path / "ablation.json").read_text(encoding="utf-8"))["all"]
    rows = found["rows"]
    tuned = {"parsed_fine_tuned", "cleaning_fine_tuned", "ceiling_fine_tuned"}
    assert set(rows) == {"parsed", "generation", "cleaning", "ceiling", *tuned}
    for each in rows.values():
        assert len(each["seeds"]) == 2
        assert each["seeds"][0] != each["seeds"][1]
        assert each["more"][0] == pytest.approx(each["mAP"] - rows["parsed"]["mAP"])
    assert rows["ceiling"]["labels"]["precision"] == rows["ceiling"]["labels"]["recall"] == 1
    assert rows["parsed"]["labels"]["recall"] < rows["generation"]["labels"]["recall"]
    assert len(rows["cleaning"]["gap_closed"]) == 3
    kept = load_file(tmp_path / "all.safetensors")
    assert kept["parsed.scores"].shape == (2, *kept["truth"].shape)
    assert mean_average_precision(kept["truth"] > 0, kept["parsed.scores"][1]) == rows["parsed"]["seeds"][1]
    assert not any((tmp_path / "models").glob("*/model.safetensors"))
    drawing = ET.fromstring((tmp_path / "ablation.svg").read_text(encoding="utf-8"))
    assert len(drawing.findall("{http://www.w3.org/2000/svg}circle")) == 2 * len(rows)


def test_captions_give_the_ceiling_and_things_are_varied(finished_store: Path, tmp_path: Path) -> None:
    store = Store(str(finished_store), create=False)
    pairs = store.table(store.snapshot("pairs"), ["names", "captions"]).to_pylist()
    with open(tmp_path / "all.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "caption"])
        writer.writerows([name, text] for pair in pairs for name in pair["names"] for text in pair["captions"])
    options = ["--store", str(finished_store), "--preset", "tiny", "--seeds", "1", "--samples", "20", *SETS]
    varied = ["--vary", "tags=10", "--vary", "images=20,40", "--vary", "retrain.caption=false,true"]
    ram_engine("ablate", *options, "--to", str(tmp_path), "--captions", f"csv:{tmp_path / 'all.csv'}", *varied)
    found = json.loads((tmp_path / "ablation.json").read_text(encoding="utf-8"))
    assert {name: one["tags"] == 10 for name, one in found.items()} == {
        "tags=10": True,
        "images=20": False,
        "images=40": False,
        "retrain.caption=false": False,
        "retrain.caption=true": False,
    }
    alone, together = (found[f"retrain.caption={value}"]["rows"]["parsed"]["seeds"] for value in ("false", "true"))
    assert alone != together
    for one in found.values():  # the captions are those that were parsed: the ceiling is what they name
        assert one["rows"]["parsed"]["labels"] == one["rows"]["ceiling"]["labels"]
        assert one["rows"]["parsed"]["seeds"] == pytest.approx(one["rows"]["ceiling"]["seeds"])
    assert found["images=20"]["rows"]["parsed"]["seeds"] != found["images=40"]["rows"]["parsed"]["seeds"]
    wrong = ram_engine("ablate", *options, "--vary", "epochs=1", check=False)
    assert "retrain.SETTING" in wrong.stdout
    wrong = ram_engine("ablate", *options, "--to", str(tmp_path), "--vary", "size=999", check=False)
    assert "no further encoder looks at 999 pixels" in wrong.stdout + wrong.stderr
