"""How right the parsed tags are, beside stock SceneGraphParser's: precision, recall and F1 over a gold file.

    python benchmarks/parse_quality.py [--gold FILE] [--errors] [--smoke]

A gold file has one JSON object a line: ``caption``, ``tags`` (``name`` and the ``types`` that are right) and
``optional`` (names that count neither for nor against). A prediction is right when its name is among the tags with
one of its types (typed), or with any type (by name). The last line of the output is JSON.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sng_parser

from tasks.parsing import CaptionParser
from tasks.parsing.language_model import LANGUAGE_MODEL

TYPES = ("object", "scene", "attribute", "action")
Tag = tuple[str, str]  # (name, type)


@dataclass
class Counts:
    """Right and wrong predictions, and tags that nobody predicted."""

    right: int = 0
    wrong: int = 0
    missed: int = 0

    @property
    def precision(self) -> float:
        return self.right / max(1, self.right + self.wrong)

    @property
    def recall(self) -> float:
        return self.right / max(1, self.right + self.missed)

    @property
    def f1(self) -> float:
        return 2 * self.right / max(1, 2 * self.right + self.wrong + self.missed)


@dataclass(frozen=True)
class Gold:
    caption: str
    tags: dict[str, tuple[str, ...]]
    optional: frozenset[str]

    def compare(self, predicted: Iterable[Tag]) -> tuple[set[Tag], set[Tag], set[str]]:
        """(right, wrong, missed names): a name of several right types is found by any of them, and counts once."""
        relevant = {tag for tag in predicted if tag[0] not in self.optional or tag[0] in self.tags}
        right = {(name, type_) for name, type_ in relevant if type_ in self.tags.get(name, ())}
        return right, relevant - right, self.tags.keys() - {name for name, _ in right}

    def names_only(self, predicted: Iterable[Tag]) -> tuple[set[str], set[str], set[str]]:
        names = {name for name, _ in predicted if name not in self.optional or name in self.tags}
        return names & self.tags.keys(), names - self.tags.keys(), self.tags.keys() - names


def read_gold(path: Path) -> list[Gold]:
    """The captions of a gold file."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    return [
        Gold(
            row["caption"],
            {tag["name"]: tuple(tag["types"]) for tag in row["tags"]},
            frozenset(row.get("optional", ())),
        )
        for row in rows
    ]


def ours(captions: Sequence[str]) -> list[set[Tag]]:
    return [{(p.lemma, p.type) for p in parsed.phrases} for parsed in CaptionParser().parse(captions)]


def stock(captions: Sequence[str]) -> list[set[Tag]]:
    """Heads as objects or scenes, modifiers as attributes, relations as actions: the published recipe, unmodified."""
    parser = sng_parser.Parser("spacy", model=LANGUAGE_MODEL)
    return [_stock_tags(parser.parse(caption)) for caption in captions]


def _stock_tags(graph: dict[str, Any]) -> set[Tag]:
    tags = {(e["lemma_head"], "scene" if e["type"] == "scene" else "object") for e in graph["entities"]}
    tags |= {(m["lemma_span"], "attribute") for e in graph["entities"] for m in e["modifiers"] if m["dep"] == "amod"}
    return tags | {(relation["lemma_relation"], "action") for relation in graph["relations"]}


def measure(gold: Sequence[Gold], parse: Callable[[Sequence[str]], list[set[Tag]]]) -> dict[str, Counts]:
    """Counts for each type, ``typed`` over all of them, and ``names``.

    A missed tag of several types is a miss of its first.
    """
    counts = {key: Counts() for key in (*TYPES, "typed", "names")}
    for truth, predicted in zip(gold, parse([truth.caption for truth in gold]), strict=True):
        right, wrong, missed = truth.compare(predicted)
        # A name found under two right types is one tag found.
        found = {name: type_ for name, type_ in sorted(right)}
        for type_ in found.values():
            counts[type_].right += 1
        for _, type_ in wrong:
            counts[type_].wrong += 1
        for name in missed:
            counts[truth.tags[name][0]].missed += 1
        names = truth.names_only(predicted)
        for key, (r, w, m) in {"typed": (len(found), len(wrong), len(missed)), "names": map(len, names)}.items():
            counts[key].right += r
            counts[key].wrong += w
            counts[key].missed += m
    return counts


def print_errors(gold: Sequence[Gold]) -> None:
    """Every caption with a mistake, and the most frequent mistakes."""
    mistakes: Counter[str] = Counter()
    for truth, predicted in zip(gold, ours([truth.caption for truth in gold]), strict=True):
        _, wrong, missed = truth.compare(predicted)
        if wrong or missed:
            shown_wrong = [f"{name}/{type_}" for name, type_ in sorted(wrong)]
            shown_missed = [f"{name}/{'|'.join(truth.tags[name])}" for name in sorted(missed)]
            print(f"{truth.caption}\n    wrong {shown_wrong}  missed {shown_missed}")
            mistakes.update([f"+{tag}" for tag in shown_wrong] + [f"-{tag}" for tag in shown_missed])
    print(", ".join(f"{mistake} {count}" for mistake, count in mistakes.most_common(20)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).parents[1] / "tests" / "gold" / "captions.jsonl"
    parser.add_argument("--gold", type=Path, default=default)
    parser.add_argument("--errors", action="store_true", help="print every caption that is parsed wrongly")
    parser.add_argument("--smoke", action="store_true", help="the first ten captions alone: does it run?")
    options = parser.parse_args()
    gold = read_gold(options.gold)[: 10 if options.smoke else None]
    if options.errors:
        print_errors(gold)
    print(f"{len(gold)} captions, {sum(len(truth.tags) for truth in gold)} tags: {options.gold}")
    results = {"ours": measure(gold, ours), "sng_parser": measure(gold, stock)}
    print(f"{'':10} {'':10} {'precision':>9} {'recall':>9} {'F1':>9}")
    for name, counts in results.items():
        for key, count in counts.items():
            print(f"{name:10} {key:10} {count.precision:9.3f} {count.recall:9.3f} {count.f1:9.3f}")
    print(
        json.dumps(
            {
                "f1_typed": round(results["ours"]["typed"].f1, 4),
                "f1_names": round(results["ours"]["names"].f1, 4),
                "f1_stock": round(results["sng_parser"]["typed"].f1, 4),
                "f1_stock_names": round(results["sng_parser"]["names"].f1, 4),
            }
        )
    )


if __name__ == "__main__":
    main()
