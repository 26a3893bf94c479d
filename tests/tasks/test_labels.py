"""build-labels and assign-tags: which words become tags, which share one, which ids they keep."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest

from storage.schemas import check, contract
from storage.store import Snapshot, Store
from tasks.labels import edits, ready_lists
from tasks.labels.counts import Word, select, settle_types
from tasks.labels.coverage import coverage
from tasks.labels.diff import diff
from tasks.labels.edits import Edit
from tasks.labels.grounding import is_groundable
from tasks.labels.lookup import TagLookup
from tasks.labels.spelling import american_form, hyphen_form, singular_form
from tasks.labels.synonyms import Proposal, everyday_synonyms, merge, propose, source_names
from tasks.labels.tags import TYPES, Tag, read_tags, role, tags_table
from tasks.machine.inputs import Inputs
from tasks.sample_world.nouns import NOUNS
from tasks.settings.assign_tags import AssignTagsSettings
from tasks.settings.build_labels import BuildLabelsSettings
from tasks.settings.executor import ExecutorSettings
from tasks.stages import assign_tags, build_labels

PLAIN = BuildLabelsSettings(wordnet="", synonyms=False, min_count=2)
MERGING = BuildLabelsSettings(wordnet="", min_count=2)
SHARED = os.environ.get("RAM_ENGINE_SHARED", "")
needs_shared = pytest.mark.skipif(not SHARED, reason="RAM_ENGINE_SHARED names no folder of shared data")


def phrase(word: str) -> dict[str, object]:
    """``red.attribute`` as a phrase; without a type it is an object."""
    lemma, _, type_ = word.partition(".")
    return {"surface": lemma, "lemma": lemma, "type": type_ or "object", "start": 0, "end": len(lemma)}


def phrases_table(*captions: tuple[str, int]) -> pa.Table:
    """Comma-separated words of a caption, and how many images have it."""
    rows = [words for words, times in captions for _ in range(times)]
    return pa.Table.from_pylist(
        [
            {"image_id": f"{index:016x}", "caption_index": 0, "phrases": [phrase(w) for w in words.split(",") if w]}
            for index, words in enumerate(rows)
        ],
        schema=contract("phrases").schema,
    )


class Corpus:
    """A store whose artifacts a test sets."""

    def __init__(self, folder: Path, *captions: tuple[str, int]) -> None:
        self.store = Store(folder)
        self.snapshots: dict[str, Snapshot] = {}
        self.put("phrases", phrases_table(*captions))

    def put(self, artifact: str, table: pa.Table, alias: str = "") -> None:
        key = f"{alias or artifact}{len(self.snapshots)}"
        part = self.store.write_part(artifact, key, "p", table)
        self.snapshots[alias or artifact] = Snapshot(artifact, key, "test", key, parts=(part,))

    def build(self, settings: BuildLabelsSettings = PLAIN) -> dict[tuple[str, str], Tag]:
        inputs = Inputs(self.store, self.snapshots)
        table = check("label_system", build_labels.reduce(settings, inputs, ExecutorSettings())["label_system"])
        return {tag.key: tag for tag in read_tags(table)}

    def rebuild(
        self, tags: dict[tuple[str, str], Tag], settings: BuildLabelsSettings = PLAIN
    ) -> dict[tuple[str, str], Tag]:
        self.put("label_system", tags_table(tags.values()), "label_system_previous")
        return self.build(settings)


# choosing words


def test_a_word_counts_once_a_caption_and_the_most_frequent_tag_has_the_first_id(tmp_path: Path) -> None:
    tags = Corpus(tmp_path, ("dog,dog,tree", 4), ("tree", 1)).build()
    assert (tags["tree", "object"].count, tags["dog", "object"].count) == (5, 4)
    assert [tags["tree", "object"].tag_id, tags["dog", "object"].tag_id] == [0, 1]


def test_an_orange_is_a_fruit_and_a_colour_but_a_dog_is_no_attribute(tmp_path: Path) -> None:
    tags = Corpus(tmp_path, ("orange,dog", 30), ("orange.attribute", 20), ("dog.attribute", 2)).build()
    assert set(tags) == {("orange", "object"), ("orange", "attribute"), ("dog", "object")}
    assert tags["dog", "object"].count == 32  # the slips count for the word's own tag


def test_object_and_scene_are_one_tag_of_the_more_frequent_type() -> None:
    counted = [Word("water", "scene", 6), Word("water", "object", 5), Word("water", "action", 3)]
    assert settle_types(counted, 0.1) == [Word("water", "scene", 11), Word("water", "action", 3)]
    assert settle_types(counted, 0.1, {"water": "object"})[0] == Word("water", "object", 11)


def test_stop_list_minimum_count_share_and_most_tags_of_each_type() -> None:
    words = [Word("photo", "object", 99), Word("dog", "object", 50), Word("cat", "object", 40), Word("ox", "object", 3)]
    words.append(Word("red", "attribute", 30))
    names = {"all": ["dog", "cat", "ox", "red"], "count": ["dog", "cat", "red"], "top": ["dog", "red"]}
    assert [w.lemma for w in select(words, 1000, BuildLabelsSettings(min_count=1))] == names["all"]
    assert [w.lemma for w in select(words, 1000, BuildLabelsSettings(min_count=4))] == names["count"]
    assert [w.lemma for w in select(words, 1000, BuildLabelsSettings(min_count=1, min_share=0.01))] == names["count"]
    assert [w.lemma for w in select(words, 1000, BuildLabelsSettings(min_count=1, max_tags=1))] == names["top"]


@pytest.mark.parametrize(
    ("captions", "found"), [([("dog", 2), ("cat", 1)], "'dog', stands in 2"), ([("", 3)], "no word stands in two")]
)
def test_captions_without_a_frequent_word_are_told_so(
    captions: list[tuple[str, int]], found: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="there is no tag to learn") as told:
        Corpus(tmp_path, *captions).build(BuildLabelsSettings(min_count=3))
    assert found in str(told.value)


def test_only_objects_with_an_outline_are_groundable(tmp_path: Path) -> None:
    tags = Corpus(tmp_path, ("dog,beach.scene,red.attribute,run.action,music", 3)).build()
    assert [key[0] for key, tag in tags.items() if tag.groundable] == ["dog"]
    assert not is_groundable("sunset", "object")
    assert tags["dog", "object"].prompt == "dog"


# written forms


@pytest.mark.parametrize(
    ("plural", "singular"),
    [("dogs", "dog"), ("boxes", "box"), ("benches", "bench"), ("ponies", "pony"), ("leaves", "leaf"), ("buses", "bus"),
     ("fire trucks", "fire truck"), ("mice", "mouse"), ("horses", "horse"), ("potatoes", "potato")],
)  # fmt: skip
def test_plurals(plural: str, singular: str) -> None:
    assert singular_form(plural) == singular == singular_form(singular)


@pytest.mark.parametrize(
    "word", ["glasses", "glass", "scissors", "jeans", "grass", "bus", "woods", "tennis", "canvas", "series", "gas"]
)
def test_these_are_no_plurals(word: str) -> None:
    assert singular_form(word) == word


def test_hyphens_and_british_spelling() -> None:
    assert hyphen_form("t-shirt") == hyphen_form("t shirt") == hyphen_form("tshirt")
    assert american_form("grey-coloured theatre") == "gray-colored theater"
    assert american_form("tired") == "tired"


# synonyms


def test_synonyms_share_the_more_frequent_words_tag(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, ("car", 9), ("automobile", 4), ("truck", 6), ("grey.attribute", 3), ("gray.attribute", 2))
    tags = corpus.build(MERGING)
    assert tags["car", "object"].synonyms == ("automobile",)
    assert tags["car", "object"].count == 13
    assert tags["truck", "object"].synonyms == ()
    assert tags["grey", "attribute"].synonyms == ("gray",)


def test_a_word_too_rare_for_a_tag_is_still_a_synonym(tmp_path: Path) -> None:
    tags = Corpus(tmp_path, ("car", 9), ("automobile", 2)).build(BuildLabelsSettings(wordnet="", min_count=5))
    assert list(tags) == [("car", "object")]
    assert tags["car", "object"].synonyms == ("automobile",)


def test_each_proposal_has_its_evidence_and_score() -> None:
    [proposal] = propose([Word("car", "object", 9), Word("automobile", "object", 3)])
    assert (proposal.name, proposal.word, proposal.evidence[0]) == ("car", "automobile", "curated")
    assert proposal.evidence[1].startswith("embedding 0.8")
    assert 0.9 < proposal.score < 1


def test_on_the_sample_world_every_merge_is_right_and_most_synonyms_merge() -> None:
    nouns = list(NOUNS.values())
    owner = {word: noun.name for noun in nouns for word in noun.words}
    words = [Word(word, "object", 1000 - index) for index, word in enumerate(owner)]
    heads = merge(words, propose(words), BuildLabelsSettings().merge_bar)
    merged = {word.lemma: head.lemma for word, head in heads.items() if word != head}
    assert {word: head for word, head in merged.items() if owner[word] != owner[head]} == {}
    synonyms = sum(len(noun.words) - 1 for noun in nouns)
    assert len(merged) >= 0.75 * synonyms


def test_embeddings_alone_never_merge() -> None:
    pairs = [("left", "right"), ("man", "woman"), ("crab", "lobster"), ("summer", "winter"), ("tv", "television set")]
    words = [Word(word, "object", 5) for pair in pairs[:-1] for word in pair]
    assert [one for one in propose(words) if one.score >= BuildLabelsSettings().merge_bar] == []


def test_near_synonyms_do_not_chain_but_written_forms_do() -> None:
    words = [Word("a", "object", 9), Word("b", "object", 5), Word("c", "object", 3), Word("bs", "object", 2)]
    a, b, c, bs = words
    proposals = [
        Proposal("bs", "b", "object", ("plural",), 0.95),
        Proposal("b", "a", "object", ("curated",), 0.9),
        Proposal("c", "b", "object", ("curated",), 0.9),
    ]
    assert merge(words, proposals, 0.8) == {a: a, b: a, bs: a, c: c}
    assert merge(words, proposals, 0.92) == {a: a, b: b, bs: b, c: c}


def test_the_curated_list_is_large_and_says_each_thing_once() -> None:
    groups = everyday_synonyms()
    assert sum(len(words) - 1 for _, words in groups) >= 150
    assert {type_ for type_, _ in groups} == set(TYPES)
    seen = [(type_, word) for type_, words in groups for word in words]
    assert [key for key in set(seen) if seen.count(key) > 1] == []


@needs_shared
def test_wordnet_proposes_but_does_not_merge_alone() -> None:
    folder = str(Path(SHARED) / "data/wordnet/nltk_data")
    words = [Word("sack", "object", 9), Word("paper bag", "object", 8), Word("bike", "object", 7)]
    words += [Word("motorcycle", "object", 6), Word("automobile", "object", 5), Word("car", "object", 4)]
    found = {(one.name, one.word): one for one in propose(words, wordnet=folder)}
    assert "wordnet car.n.01" in found["automobile", "car"].evidence
    assert any(text.startswith("wordnet") for text in found["bike", "motorcycle"].evidence)
    assert found["bike", "motorcycle"].score < BuildLabelsSettings().merge_bar
    assert found["sack", "paper bag"].score < BuildLabelsSettings().merge_bar
    assert source_names(folder)[-1] == "WordNet"
    assert "WordNet" not in source_names("")


# versions


def test_ids_stay_when_frequencies_change_and_new_words_come(tmp_path: Path) -> None:
    before = Corpus(tmp_path / "a", ("dog", 9), ("cat", 5), ("ox", 3)).build()
    after = Corpus(tmp_path / "b", ("zebra", 20), ("cat", 9), ("dog", 2)).rebuild(before)
    for name in ("dog", "cat", "ox"):
        assert after[name, "object"].tag_id == before[name, "object"].tag_id
    assert after["zebra", "object"].tag_id == 3
    assert after["ox", "object"].retired
    again = Corpus(tmp_path / "c", ("ox", 9), ("yak", 8)).rebuild(after)
    assert again["ox", "object"].tag_id == before["ox", "object"].tag_id  # its own id, and nobody else's
    assert again["ox", "object"].active
    assert again["yak", "object"].tag_id == 4


def test_a_tag_keeps_its_name_when_its_synonym_becomes_more_frequent(tmp_path: Path) -> None:
    before = Corpus(tmp_path / "a", ("car", 9), ("automobile", 5)).build(MERGING)
    after = Corpus(tmp_path / "b", ("car", 3), ("automobile", 9)).rebuild(before, MERGING)
    assert after["car", "object"].tag_id == before["car", "object"].tag_id
    assert after["car", "object"].synonyms == ("automobile",)


def test_synonyms_that_part_are_two_tags_and_come_together_again_under_the_old_id(tmp_path: Path) -> None:
    captions = (("car", 9), ("automobile", 5))
    together = Corpus(tmp_path / "a", *captions).build(MERGING)
    apart = Corpus(tmp_path / "b", *captions).rebuild(together, PLAIN)
    assert (apart["car", "object"].tag_id, apart["automobile", "object"].tag_id) == (0, 1)
    again = Corpus(tmp_path / "c", *captions).rebuild(apart, MERGING)
    assert again["car", "object"].synonyms == ("automobile",)
    assert again["automobile", "object"].retired


def test_a_persons_edits_hold_in_every_rebuild(tmp_path: Path) -> None:
    captions = (("dog", 9), ("cat", 8), ("ox", 7), ("car", 6), ("automobile", 4), ("wood.attribute", 3))
    first = Corpus(tmp_path / "a", *captions).build(MERGING)
    ids = {key[0]: tag.tag_id for key, tag in first.items()}
    changes = [
        Edit(ids["dog"], status="off"),
        Edit(ids["cat"], name="house cat"),
        Edit(ids["ox"], status="retired"),
        Edit(ids["car"], synonyms_dropped=("automobile",)),
        Edit(90, name="automobile", type="object", status="active"),
        Edit(ids["wood"], type="object", groundable=True),
    ]
    tags = first
    for number in range(3):  # edits of edits must be what they were
        corpus = Corpus(tmp_path / f"b{number}", *captions)
        corpus.put("label_edits", edits.table_of(changes))
        tags = corpus.rebuild(tags, MERGING)
        by_id = {tag.tag_id: tag for tag in tags.values()}
        assert len(by_id) == len(tags) == 6
        assert not by_id[ids["dog"]].active
        assert not by_id[ids["dog"]].retired
        assert (by_id[ids["cat"]].name, by_id[ids["cat"]].synonyms) == ("house cat", ("cat",))
        assert by_id[ids["cat"]].count == 8
        assert by_id[ids["ox"]].retired
        assert (by_id[ids["car"]].synonyms, by_id[ids["car"]].count) == ((), 6)
        assert (by_id[90].name, by_id[90].count, by_id[90].active) == ("automobile", 4, True)
        assert (by_id[ids["wood"]].type, by_id[ids["wood"]].count) == ("object", 3)


def test_diff_says_what_changed() -> None:
    before = [Tag(number, name, "object", prompt=name) for number, name in enumerate(["car", "dog", "ox"])]
    after = [
        Tag(0, "auto", "object", ("car",), prompt="auto"),
        Tag(1, "dog", "object", active=False, prompt="dog"),
        Tag(2, "ox", "object").retire(),
        Tag(3, "red", "attribute"),
    ]
    assert [str(change) for change in diff(before, after)] == [
        "tag 0 'auto' was 'car'",
        "tag 0 'auto' gained the synonyms car",
        "tag 0 'auto' has the prompt 'auto' and had 'car'",
        "tag 1 'dog' is switched off and was active",
        "tag 2 'ox' is retired and was active",
        "tag 3 'red' is new (attribute)",
    ]
    assert diff(after, after) == []


# ready lists


def test_a_ready_list_gives_ids_by_place_types_by_the_corpus_and_takes_no_other_word(tmp_path: Path) -> None:
    path = tmp_path / "tags.txt"
    path.write_text("zebra\nCar\nred\nrun\taction\n", encoding="utf-8")
    corpus = Corpus(tmp_path / "s", ("automobile,red.attribute", 5), ("dog,run.action", 9), ("car", 2))
    tags = corpus.build(MERGING.model_copy(update={"tag_list": str(path)}))
    assert [(key, tag.tag_id) for key, tag in tags.items()] == [
        (("zebra", "object"), 0), (("Car", "object"), 1), (("red", "attribute"), 2), (("run", "action"), 3),
    ]  # fmt: skip
    assert tags["Car", "object"].synonyms == ("automobile", "car")
    assert (tags["Car", "object"].count, tags["zebra", "object"].count) == (7, 0)


def test_listed_tags_never_merge_with_each_other(tmp_path: Path) -> None:
    path = tmp_path / "tags.txt"
    path.write_text("car\nautomobile\n", encoding="utf-8")
    tags = Corpus(tmp_path / "s", ("car,automobile", 5)).build(MERGING.model_copy(update={"tag_list": str(path)}))
    assert [tag.synonyms for tag in tags.values()] == [(), ()]


def test_a_wrong_list_is_refused_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "tags.txt"
    path.write_text("dog\n\ndog\nrun\tverb\ncat\n", encoding="utf-8")
    with pytest.raises(ready_lists.TagListError) as error:
        ready_lists.read(path)
    assert "line 2 is empty" in str(error.value)
    assert "line 3: 'dog' stands in line 1 already" in str(error.value)
    assert "line 4: 'run' has the type 'verb'" in str(error.value)
    with pytest.raises(ready_lists.TagListError, match="there is no list of tags"):
        ready_lists.read(tmp_path / "none.txt")
    path.write_bytes("café\n".encode("latin-1"))
    with pytest.raises(ready_lists.TagListError, match="not UTF-8"):
        ready_lists.read(path)


@needs_shared
def test_the_official_lists_keep_their_order_and_tag2text_its_types(tmp_path: Path) -> None:
    official = Path(SHARED) / "data/ram_official"
    names = (official / "ram_tag_list.txt").read_text(encoding="utf-8").split("\n")
    corpus = Corpus(tmp_path / "a", ("dog,red.attribute,run.action", 5))
    ram = corpus.build(PLAIN.model_copy(update={"tag_list": str(official / "ram_tag_list.txt")}))
    assert [tag.name for tag in ram.values()] == [name.strip() for name in names if name.strip()]
    assert len(ram) == 4585
    assert [tag.tag_id for tag in ram.values()] == list(range(4585))
    tag2text = corpus.build(PLAIN.model_copy(update={"tag_list": str(official / "tag2text_ori_tag_list.txt")}))
    types = [tag.type for tag in tag2text.values()]
    assert len(types) == 3429
    assert {role(type_) for type_ in types[:3012]} == {"object"}
    assert set(types[3012:3252]) == {"action"}
    assert set(types[3252:]) == {"attribute"}


# coverage


def test_coverage_says_through_which_word() -> None:
    tags = [
        Tag(0, "car", "object", ("automobile",), 9, prompt="car"),
        Tag(1, "couch", "object", (), 5, prompt="couch"),
        Tag(2, "potted plant", "object", (), 4, active=False, prompt="potted plant"),
        Tag(3, "truck", "object").retire(),
    ]
    found = coverage(tags, ["Car", "automobile", "sofa", "pottedplant", "truck", "fire hydrant"], 0.8)
    assert [one.how for one in found] == ["name", "synonym", "synonym", "synonym", "near", "missing"]
    assert [one.tag.tag_id for one in found if one.tag] == [0, 0, 1, 2, 0]
    assert str(found[0]) == "Car: tag 0 'car' (object)"
    assert str(found[2]).startswith("sofa: tag 1 'couch' (object) through 'couch' (0.9")
    assert "switched off" in str(found[3])
    assert str(found[4]).startswith("truck: missing; nearest is tag 0 'car'")
    assert str(found[5]) == "fire hydrant: missing"


# assign-tags


SYSTEM = [
    Tag(0, "car", "object", ("automobile",), 9, prompt="car"),
    Tag(1, "red", "attribute", (), 8),
    Tag(2, "orange", "object", (), 7, prompt="orange"),
    Tag(3, "orange", "attribute", (), 3, active=False, prompt="orange"),
    Tag(4, "beach", "scene", (), 3),
    Tag(5, "automobile", "object").retire(),
]


def assign(folder: Path, phrases: pa.Table, least: int = 1) -> tuple[list[list[int]], list[dict[str, object]]]:
    corpus = Corpus(folder)
    corpus.put("label_system", tags_table(SYSTEM))
    settings = AssignTagsSettings(min_candidate_count=least)
    work = assign_tags.build(settings, Inputs(corpus.store, corpus.snapshots), ExecutorSettings())
    made = {name: check(name, table) for name, table in work({"phrases": phrases}).items()}
    assert made["caption_tags"]["image_id"].equals(phrases["image_id"])
    return made["caption_tags"]["tag_ids"].to_pylist(), made["candidates"].to_pylist()


def test_ids_come_once_in_the_order_of_first_mention(tmp_path: Path) -> None:
    ids, _ = assign(tmp_path, phrases_table(("beach.scene,automobile,red.attribute,car", 1), ("", 1)))
    assert ids == [[4, 0, 1], []]


def test_a_role_without_a_tag_falls_back_unless_it_was_switched_off(tmp_path: Path) -> None:
    ids, candidates = assign(tmp_path, phrases_table(("beach", 1), ("orange.action", 1), ("orange.attribute", 1)))
    assert ids == [[4], [2], []]
    assert candidates == []


def test_unknown_words_are_candidates_with_their_count(tmp_path: Path) -> None:
    table = phrases_table(("zebu,zebu,photo", 3), ("yak,car", 1))
    assert assign(tmp_path / "a", table)[1] == [
        {"lemma": "zebu", "type": "object", "count": 3}, {"lemma": "yak", "type": "object", "count": 1},
    ]  # fmt: skip
    assert [row["lemma"] for row in assign(tmp_path / "b", table, 2)[1]] == ["zebu"]


def test_a_slice_of_a_table_is_assigned_as_the_whole_was(tmp_path: Path) -> None:
    table = phrases_table(("car", 1), ("red.attribute,zebu", 1), ("beach.scene", 1), ("orange", 1))
    whole, _ = assign(tmp_path / "a", table)
    for start in range(4):
        assert assign(tmp_path / f"b{start}", table.slice(start, 2))[0] == whole[start : start + 2]
    assert assign(tmp_path / "c", pa.concat_tables([table.slice(2), table.slice(0, 2)]))[0] == whole[2:] + whole[:2]
    assert assign(tmp_path / "d", table.slice(0, 0))[0] == []


def test_an_active_tag_has_the_word_of_a_retired_one() -> None:
    found = TagLookup(SYSTEM).find("automobile", "object")
    assert found is not None
    assert found.tag_id == 0
