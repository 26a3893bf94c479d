"""How much of what is in a picture a caption names: the table that the engine ships, from photographs with captions.

``python benchmarks/mention_rates.py FLICKR8K [--write]``. FLICKR8K holds ``captions.csv`` (``image,caption``, five
captions a photograph) and ``train.txt``. A word's mention rate is the number of captions that name it, over five times
the photographs that any caption names it for. Rates are pooled by type and by the share of captions that name the word;
their spread is the standard deviation between words, less what a handful of captions make by luck.

Prints the table, with ``--write`` writes it to ``tasks/labels/mention_rates.csv``, and as its last line prints JSON:
``photographs``, ``words``, and ``rates`` (type -> the rate over all words). ``--smoke`` parses ten captions of its own.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tasks.parsing import CaptionParser

TABLE = Path(__file__).parents[1] / "tasks" / "labels" / "mention_rates.csv"
SHARES = (0.0, 0.002, 0.005, 0.02)  # of the captions: where a frequency band begins
LEAST_CAPTIONS = 8  # rarer words say nothing of their rate
SMOKE = [
    ["A dog runs on the beach.", "A brown dog is running along the sea.", "A dog on a sandy beach."],
    ["A man in a red shirt rides a bike.", "A man rides.", "A cyclist in a red shirt on a street."],
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flickr8k", type=Path, nargs="?")
    parser.add_argument("--write", action="store_true", help="write the table that the engine ships")
    parser.add_argument("--smoke", action="store_true", help="a few captions of its own, to see that it works")
    options = parser.parse_args()
    if options.smoke:
        captions, least = SMOKE, 1
    else:
        captions, least = read(options.flickr8k), LEAST_CAPTIONS
    rows = measure(captions, least)
    print(f"{'type':<10} {'share from':>10} {'rate':>6} {'spread':>7} {'words':>6}")
    for row in rows:
        print(f"{row['type']:<10} {row['least_share']:>10} {row['rate']:>6.3f} {row['spread']:>7.3f} {row['tags']:>6}")
    if options.write:
        with open(TABLE, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["type", "least_share", "rate", "spread", "tags"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    rates = {}
    for type_ in sorted({row["type"] for row in rows}):
        own = [row for row in rows if row["type"] == type_]
        rates[type_] = round(float(np.average([row["rate"] for row in own], weights=[row["tags"] for row in own])), 3)
    print(json.dumps({"photographs": len(captions), "words": sum(row["tags"] for row in rows), "rates": rates}))


def read(folder: Path) -> list[list[str]]:
    """The captions of each training photograph."""
    train = set((folder / "train.txt").read_text("utf-8").split())
    captions: dict[str, list[str]] = defaultdict(list)
    with open(folder / "captions.csv", encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if row["image"] in train:
                captions[row["image"]].append(row["caption"])
    return list(captions.values())


def measure(captions: Sequence[Sequence[str]], least: int) -> list[dict]:
    """The rows of the table: a type and a frequency band each."""
    parsed = iter(CaptionParser().parse([text for texts in captions for text in texts]))
    said: Counter[tuple[str, str]] = Counter()  # captions that name a word
    seen: Counter[tuple[str, str]] = Counter()  # of five people's chances to name it, where any of them does
    total = 0
    for texts in captions:
        words = [{(phrase.lemma, phrase.type) for phrase in next(parsed).phrases} for _ in texts]
        for named in words:
            said.update(named)
        for word in set().union(*words):
            seen[word] += len(texts)
        total += len(texts)
    rows = []
    for type_ in sorted({word[1] for word in said}):
        for at, share in enumerate(SHARES):
            end = SHARES[at + 1] if at + 1 < len(SHARES) else 2.0
            own = [word for word, count in said.items() if word[1] == type_ and share <= count / total < end]
            own = [word for word in own if said[word] >= least]
            if not own:
                continue
            each = np.array([said[word] / seen[word] for word in own])
            luck = np.mean([rate * (1 - rate) / seen[word] for rate, word in zip(each, own, strict=True)])
            rate = sum(said[word] for word in own) / sum(seen[word] for word in own)
            spread = float(np.sqrt(max(each.var() - luck, 0.02**2)))
            figures = {"rate": round(rate, 3), "spread": round(spread, 3), "tags": len(own)}
            rows.append({"type": type_, "least_share": share, **figures})
    return rows


if __name__ == "__main__":
    main()
