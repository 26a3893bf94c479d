"""The table of everyday words for ImageNet's 1,000 classes, `models/imagenet_words.csv`, made once from WordNet.

``python -m tasks.labels.imagenet_words --wordnet nltk_data --words ram_tag_list.txt`` writes it anew. A class is a kind
of all that stands above it in WordNet: a word of ``--words`` (a list of everyday words, one a line, RAM's own tags say)
that means such a synset before anything else is true of the class. `imagenet_words.txt` beside this has the exceptions.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from timm.data.imagenet_info import ImageNetInfo

from models.everyday import TABLE
from tasks.labels.synonyms import wordnet_reader
from tasks.labels.words import lines

if TYPE_CHECKING:
    from nltk.corpus.reader.wordnet import Synset, WordNetCorpusReader


@cache
def curated() -> dict[str, tuple[str, ...]]:
    """What `imagenet_words.txt` says, by its keywords ("vague", "class ashcan", ...)."""
    found: dict[str, tuple[str, ...]] = {}
    for line in lines("imagenet_words.txt"):
        key, _, listed = line.partition(": ")
        found[key] = (*found.get(key, ()), *(word.strip() for word in listed.split(",")))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wordnet", required=True, help="A folder as in NLTK_DATA.")
    parser.add_argument("--words", type=Path, required=True, help="Everyday words, one a line.")
    options = parser.parse_args()
    reader = wordnet_reader(options.wordnet)
    if reader is None:
        raise SystemExit(f"{options.wordnet} holds no WordNet (corpora/wordnet)")
    words = set(options.words.read_text(encoding="utf-8").lower().split("\n"))
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["class", "words"])
        for described in ImageNetInfo("imagenet-1k").label_descriptions(detailed=True):
            names = [name.strip() for name in described.partition(": ")[0].split(",")]
            found = dict.fromkeys(everyday(names, _synset(reader, names, described.partition(": ")[2]), words))
            writer.writerow([names[0], "; ".join(found)])


def everyday(names: list[str], synset: Synset, words: set[str]) -> Iterator[str]:
    """What one calls a class that ImageNet knows by ``names``, from the particular to the general."""
    above = sorted(synset.closure(lambda each: each.hypernyms()), key=lambda each: -each.min_depth())
    known = curated()
    kinds = [place for place, each in enumerate(above) if each.name() in known["kinds below"]]
    said = known.get(f"class {names[0]}", tuple(name.lower() for name in names if name.lower() in words))
    if said and (f"class {names[0]}" in known or not kinds):
        yield said[0]
    elif not kinds and not any(each.name() == "animal.n.01" for each in above):
        yield names[0].lower()
    for each in above[min(kinds, default=0) :]:
        lemmas = [lemma.replace("_", " ").lower() for lemma in each.lemma_names()]
        fit = [lemma for lemma in lemmas if lemma in words.difference(known["vague"]) and _means_first(each, lemma)]
        yield from [*known.get(f"synset {each.name()}", ()), *fit][:1]
    yield from (
        key.removeprefix("shows ") for key, shown in known.items() if key.startswith("shows ") and names[0] in shown
    )


def _means_first(synset: Synset, lemma: str) -> bool:
    reader = synset._wordnet_corpus_reader
    return bool(reader.synsets(lemma.replace(" ", "_"), "n")[0] == synset)


def _synset(reader: WordNetCorpusReader, names: list[str], gloss: str) -> Synset:
    """The synset of a class: the one of its names' that is explained in the same words, else the first."""
    found = [synset for name in names for synset in reader.synsets(name.replace(" ", "_"), "n")]
    return next((synset for synset in found if synset.definition() == gloss), found[0])


if __name__ == "__main__":
    main()
