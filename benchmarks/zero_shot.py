"""What `ram-engine tag` says right after install, against true boxes and against captions.

``python benchmarks/zero_shot.py --coco coco_photographs --classes coco_classes.txt --flickr8k flickr8k
--wordnet nltk_data [--images 200]``, or ``--smoke`` alone, which draws its pictures and needs no WordNet. COCO holds
``images/`` and ``labels/`` (YOLO text), FLICKR8K ``images/``, ``captions.csv`` (five captions an image) and
``dev.txt``. *Before* is plain ConSE: the five of ImageNet's names that are most like the picture's vector.

A word is right for a picture in which COCO boxes something that is a kind of it by WordNet (a dog makes "dog" and
"animal" right), or that it is a kind of itself ("taxi" where a car is boxed: COCO cannot tell). A word that no class
of COCO decides ("snow", "clothing") is not judged: ``precision`` leaves it out, ``precision_at_worst`` counts it wrong.
``recall`` is the share of a picture's classes that are named by their own or a more particular word. For Flickr8k the
same holds of the tags of a picture's five captions, which never name all that is there, and every word is judged; its
recall is over the words of the vocabulary that the captions name.

Prints tables, and as its last line JSON: for each set ``before``, ``after`` and the same at other thresholds:
``precision``, ``precision_at_worst``, ``recall``, ``answers`` a picture, ``silent`` (share of pictures with no answer).
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from functools import cache
from pathlib import Path

import numpy as np
import torch
from drawn_photographs import draw
from rich.console import Console
from rich.table import Table

from models import label_queries
from models.conse import ConSE
from models.everyday import classes
from models.image_encoder import preprocessing
from models.zero_shot import THRESHOLD, THRESHOLDS, ZeroShot
from tasks.images.decoding import decode_image
from tasks.labels.imagenet_words import curated
from tasks.labels.synonyms import wordnet_reader
from tasks.parsing import CaptionParser

# what COCO calls otherwise, or by a word that WordNet knows in another sense first
CALLED = {
    "motorbike": "motorcycle", "aeroplane": "plane", "sports ball": "ball", "sofa": "couch", "diningtable": "table",
    "tvmonitor": "television", "skis": "ski", "remote": "remote control", "mouse": "computer mouse",
    "donut": "doughnut", "pottedplant": "potted plant", "kite": "toy kite",
}  # fmt: skip
# words that hold with others although no dictionary says "is a"
WITH = {
    "bus": "vehicle", "train": "vehicle", "television": "screen", "laptop": "screen", "wine glass": "glass",
    "carrot": "vegetable, food", "doughnut": "food, dessert", "cake": "food, dessert", "banana": "food",
    "apple": "food", "orange": "food", "broccoli": "food", "baseball bat": "baseball", "baseball glove": "baseball",
    "tennis racket": "racket", "handbag": "purse", "cup": "mug", "hot dog": "sandwich", "boat": "ship", "bike":
    "bicycle, motorcycle", "dirt bike": "motorcycle", "ocean": "water, beach", "sea": "water, beach", "lake": "water",
    "river": "water", "pool": "water", "pond": "water", "wave": "water", "swim": "water", "splash": "water", "beach":
    "water", "stream": "water", "sand": "beach", "shore": "beach", "coast": "beach", "hill": "mountain", "cliff":
    "mountain", "rock": "mountain", "snowy": "snow", "bathing suit": "swimsuit", "baseball player": "baseball",
    "people": "person", "men": "person", "women": "person", "crowd": "person", "team": "person", "couple": "person",
    "guy": "person", "kid": "person", "toddler": "person", "family": "person", "biker": "person", "group": "person",
}  # fmt: skip
# of these COCO has so few kinds that it says nothing about the rest
UNTOLD = {
    "clothing", "tableware", "armor", "toy", "jar", "bread", "beverage", "alcohol", "swimwear", "weapon", "fabric",
    "box", "basin", "cutlery",
}  # fmt: skip
# a caption that names these says nothing of their kinds
GENERAL = {"animal", "person", "vehicle", "clothing", "furniture", "food", "fruit", "vegetable", "building", "insect",
           "musical instrument", "fabric", "weapon", "tableware", "water", "snow", "ball", "store", "fish",
           "bird"}  # fmt: skip
console = Console(width=120)


# whether a word is right, which words are judged (None: all), and for each thing to be named the words that name it
Known = tuple[Callable[[str], bool], Set[str] | None, Sequence[Set[str]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coco", type=Path)
    parser.add_argument("--classes", type=Path)
    parser.add_argument("--flickr8k", type=Path)
    parser.add_argument("--wordnet", default="")
    parser.add_argument("--images", type=int, default=200, help="Of Flickr8k's development photographs.")
    parser.add_argument("--smoke", action="store_true", help="four drawn pictures: does it work?")
    options = parser.parse_args()
    if options.smoke:
        options.coco = options.flickr8k = draw(Path(tempfile.mkdtemp()) / "drawn", 1, 3)
        options.classes = boxes(options.coco)
    elif not (options.coco and options.classes and options.flickr8k):
        parser.error("name the folders of both sets, and COCO's classes")
    elif wordnet_reader(options.wordnet) is None:
        parser.error(f"--wordnet {options.wordnet} holds no WordNet (corpora/wordnet)")
    found = {}
    for name, pictures in (
        ("coco", coco(options.coco, options.classes, options.wordnet)),
        ("flickr8k", flickr8k(options.flickr8k, options.images, options.wordnet)),
    ):
        answers = answered(list(pictures))
        found[name] = {way: figures([(said[way], pictures[path]) for path, said in answers]) for way in answers[0][1]}
        show(name, found[name])
    print(json.dumps(found))


def boxes(folder: Path) -> Path:
    """Boxes what a caption of each drawn picture names; returns the file of classes."""
    names = ["dog", "cat", "car", "boat", "tree", "house", "person"]
    (folder / "labels").mkdir()
    with (folder / "captions.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            lines = [f"{place} 0.5 0.5 1 1" for place, name in enumerate(names) if name in row["caption"].split()]
            (folder / "labels" / row["image"]).with_suffix(".txt").write_text("\n".join(lines), encoding="utf-8")
    classes_file = folder / "classes.txt"
    classes_file.write_text("\n".join(names), encoding="utf-8")
    return classes_file


def answered(paths: Sequence[Path]) -> list[tuple[Path, dict[str, set[str]]]]:
    """For each picture what is said of it before, after, and at other thresholds."""
    conse, tagger = ConSE(), ZeroShot()
    prepare = preprocessing(conse.image_encoder.name, conse.image_encoder.image_size).transform()
    names = label_queries.build(conse.class_names)
    special = np.isin(tagger.words, list(THRESHOLDS))
    rows = []
    for path in paths:
        picture = decode_image(path.read_bytes())
        with torch.inference_mode():
            cosines = conse.scores(conse.encode_image(prepare(picture)[None]), names)[0]
            scores = tagger.probabilities(picture).numpy()
        said = {"before": {conse.class_names[place].lower() for place in cosines.topk(5).indices.tolist()}}
        for threshold in (THRESHOLD, 0.3, 0.5, 0.6):
            limits = np.where(special, tagger.thresholds().numpy(), threshold)
            way = "after" if threshold == THRESHOLD else f"after, at {threshold}"
            said[way] = {tagger.words[place] for place in np.flatnonzero(scores >= limits)}
        rows.append((path, said))
    return rows


def coco(folder: Path, classes_file: Path, wordnet: str) -> dict[Path, Known]:
    """Each picture -> whether a word is right, which words are judged, and the words that name each boxed class."""
    names = [CALLED.get(name, name) for name in classes_file.read_text(encoding="utf-8").split("\n") if name.strip()]
    general = {name: above(name, wordnet) - UNTOLD for name in names}
    deciding: dict[str, set[str]] = defaultdict(set)
    for name, holds in general.items():
        for word in holds:
            deciding[word].add(name)
    for word, more in table().items():  # "taxi": decided by the boxes of cars
        if word not in deciding:
            deciding[word] = more.intersection(names)
    judged = {word for word, by in deciding.items() if by}
    known: dict[Path, Known] = {}
    for path in sorted((folder / "images").iterdir()):
        labels = folder / "labels" / f"{path.stem}.txt"
        lines = labels.read_text(encoding="utf-8").split("\n") if labels.is_file() else []
        boxed = {names[int(line.split()[0])] for line in lines if line.strip()}
        named = [{word for word, by in deciding.items() if by == {name}} | {name} for name in sorted(boxed)]
        known[path] = (lambda word, boxed=boxed: bool(deciding[word] & boxed), judged, named)
    return known


def flickr8k(folder: Path, images: int, wordnet: str) -> dict[Path, Known]:
    """The same by the tags of five captions."""
    captions: dict[str, list[str]] = defaultdict(list)
    with (folder / "captions.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            captions[row["image"]].append(row["caption"])
    names = (folder / "dev.txt").read_text(encoding="utf-8").split()
    chosen = sorted(np.random.default_rng(0).permutation(names)[:images].tolist())
    texts = [(name, text) for name in chosen for text in captions[name]]
    tags: dict[str, set[str]] = defaultdict(set)
    for (name, _), parsed in zip(texts, CaptionParser().parse([text for _, text in texts]), strict=True):
        tags[name] |= {phrase.lemma for phrase in parsed.phrases}
    vocabulary = {word for row in classes() for word in row}

    def judge(said: Set[str]) -> Known:
        holds = {word for tag in said for word in above(tag, wordnet)}
        return (
            lambda word: word in holds or bool((table().get(word, set()) - GENERAL) & said),
            None,
            [{word} for word in sorted(holds & vocabulary)],
        )

    return {folder / "images" / name: judge(tags[name]) for name in chosen}


@cache
def table() -> Mapping[str, Set[str]]:
    """Each everyday word -> the more general ones of its classes."""
    shown = {key.removeprefix("shows ") for key in curated() if key.startswith("shows ")}
    found: dict[str, set[str]] = defaultdict(set)
    for row in classes():
        kinds = [word for word in row if word not in shown]
        for place, word in enumerate(kinds):
            found[word].update(kinds[place + 1 :])
    return found


@cache
def above(word: str, wordnet: str) -> frozenset[str]:
    """All that something called ``word`` is: itself, and what stands above its most frequent sense in WordNet."""
    found = {word, *table().get(word, set()), *(other.strip() for other in WITH.get(word, word).split(","))}
    reader = wordnet_reader(wordnet) if wordnet else None
    for synset in reader.synsets(word.replace(" ", "_"), "n")[:1] if reader else ():
        for general in (synset, *synset.closure(lambda each: each.hypernyms())):
            lemmas = general.lemma_names()
            found.update(each.replace("_", " ").lower() for each in lemmas if reader.synsets(each, "n")[0] == general)
    return frozenset(found)


def figures(rows: Sequence[tuple[Set[str], Known]]) -> dict[str, float]:
    """The figures of one way to tag over all pictures."""
    answers = sum(len(words) for words, _ in rows)
    judged = sum(1 for words, (_, known, _) in rows for word in words if known is None or word in known)
    right = sum(
        1 for words, (holds, known, _) in rows for word in words if (known is None or word in known) and holds(word)
    )
    things = [(bool(words & names)) for words, (_, _, named) in rows for names in named]
    return {
        "precision": round(right / max(judged, 1), 3),
        "precision_at_worst": round(right / max(answers, 1), 3),
        "recall": round(float(np.mean(things)), 3),
        "answers": round(answers / len(rows), 2),
        "silent": round(float(np.mean([not words for words, _ in rows])), 3),
    }


def show(name: str, found: Mapping[str, Mapping[str, float]]) -> None:
    table_ = Table(name, *next(iter(found.values())), box=None)
    for way, each in found.items():
        table_.add_row(way, *(f"{value:.3f}" for value in each.values()))
    console.print(table_)


if __name__ == "__main__":
    main()
