"""Captions to typed phrases: the rules, the gold file, bad input, and that a batch is no other than its captions."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.parse_quality import measure, ours, read_gold
from storage.schemas import check, contract
from tasks.parsing import CaptionParser
from tasks.settings.executor import ExecutorSettings
from tasks.settings.parse_captions import ParseCaptionsSettings
from tasks.stages import parse_captions
from tests.tasks.stage_inputs import inputs_of

GOLD = Path(__file__).parents[1] / "gold" / "captions.jsonl"
N, S, A, V = "object", "scene", "attribute", "action"


@pytest.fixture(scope="module")
def parser() -> CaptionParser:
    return CaptionParser()


def tags_of(parser: CaptionParser, caption: str) -> set[tuple[str, str]]:
    return {(phrase.lemma, phrase.type) for phrase in parser.parse([caption])[0].phrases}


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Two puppies running", {("puppy", N), ("run", V)}),
        ("A cat laying in a suitcase", {("cat", N), ("lay", V), ("suitcase", N)}),
        ("A woman is riding her bicycle", {("woman", N), ("ride", V), ("bicycle", N)}),
        ("The car is red", {("car", N), ("red", A)}),
        ("A fire truck", {("fire truck", N), ("truck", N)}),
        ("Two hot dogs", {("hot dog", N)}),
        ("a red and white bus", {("red", A), ("white", A), ("bus", N)}),
        ("A group of people on the beach", {("people", N), ("beach", S)}),
        ("a pair of shoes", {("shoe", N)}),
        ("She gives it to him", {("give", V)}),
        ("three men and 5 dogs", {("man", N), ("dog", N)}),
        ("An orange cat eats an orange", {("orange", A), ("cat", N), ("eat", V), ("orange", N)}),
        ("A man pedals a bike", {("man", N), ("pedal", V), ("bike", N)}),
        ("Water is splashed by a child", {("water", N), ("splash", V), ("child", N)}),
        ("A bus parked near a hotel", {("bus", N), ("parked", A), ("hotel", S)}),
        ("A black-and-white cow", {("black", A), ("white", A), ("cow", N)}),
        ("A girl in a T-shirt", {("girl", N), ("t-shirt", N)}),
        ("A five-year-old boy", {("boy", N)}),
        ("Someone is rock climbing", {("climb", V)}),
        ("a picture of the front of a train", {("train", N)}),
    ],
)
def test_rules(parser: CaptionParser, caption: str, expected: set[tuple[str, str]]) -> None:
    assert tags_of(parser, caption) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("There are no people on the street", {("street", S)}),
        ("A man without a hat", {("man", N)}),
        ("A dog is not wearing a collar", {("dog", N)}),
        ("A plate with no food or drinks", {("plate", N)}),
    ],
)
def test_what_is_negated_is_no_tag(parser: CaptionParser, caption: str, expected: set[tuple[str, str]]) -> None:
    assert tags_of(parser, caption) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Look at this cute puppy", {("cute", A), ("puppy", N)}),
        ("I found a dog in the park", {("dog", N), ("park", S)}),
        ("You can see a boat on the lake", {("boat", N), ("lake", S)}),
        ("A man looks at a dog", {("man", N), ("look", V), ("dog", N)}),
        ("People enjoying the sun", {("people", N), ("enjoy", V), ("sun", N)}),
    ],
)
def test_what_writer_and_reader_do_is_no_action(
    parser: CaptionParser, caption: str, expected: set[tuple[str, str]]
) -> None:
    assert tags_of(parser, caption) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Stock photo of a wooden table", {("wooden", A), ("table", N)}),
        ("Portrait of Albert Einstein", set()),
        ("Emma Watson arrives in Paris", {("arrive", V)}),
        ("person sings on stage", {("person", N), ("sing", V), ("stage", S)}),
        ("biological species in a forest", {("biological species", N), ("species", N), ("forest", S)}),
        ("A Dog In The Garden", {("dog", N), ("garden", S)}),
        ("A DOG IN THE GARDEN", {("dog", N), ("garden", S)}),
        ("a lemon https://example.com/a?b=c #food @someone", {("lemon", N)}),
        ("<b>a lemon</b> &amp; <i class='x'>a lime</i>", {("lemon", N), ("lime", N)}),
        ("a lemon \U0001f34b\u200d\x07", {("lemon", N)}),
    ],
)
def test_web_noise(parser: CaptionParser, caption: str, expected: set[tuple[str, str]]) -> None:
    assert tags_of(parser, caption) == expected


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("", "caption_empty"),
        (" \t\n", "caption_empty"),
        ("?!... --", "caption_without_words"),
        ("\x00\x01\x07", "caption_without_words"),
        ("\U0001f600\U0001f680", "caption_without_words"),
        ("1234 5678", "caption_without_words"),
        ("<img src='dog.jpg'>", "caption_without_words"),
        ("https://example.com/dog", "caption_without_words"),
        ("dog " * 10_000, "caption_too_long"),
        ("d" * 1_000_000, "caption_too_long"),
        ("un chat noir dort sur le lit", "caption_not_english"),
        ("ein Hund l\u00e4uft \u00fcber die Wiese und bellt", "caption_not_english"),
        ("un perro corre por la playa con una pelota", "caption_not_english"),
        ("\u0627\u0644\u0643\u0644\u0628 \u064a\u0631\u0643\u0636", "caption_not_english"),
        ("\u05db\u05dc\u05d1 \u05e8\u05e5 \u05d1\u05e4\u05d0\u05e8\u05e7", "caption_not_english"),
        ("\u4e00\u53ea\u72d7\u5728\u8349\u5730\u4e0a\u8dd1", "caption_not_english"),
        ("xqzt brrgl fnord wibbz", "caption_not_english"),
    ],
)
def test_bad_captions_have_a_reason_and_no_tag(parser: CaptionParser, caption: str, reason: str) -> None:
    (parsed,) = parser.parse([caption])
    assert (parsed.rejected, parsed.phrases) == (reason, ())


def test_gold_file_reaches_the_goals() -> None:
    gold = read_gold(GOLD)
    assert len(gold) >= 300
    counts = measure(gold, ours)
    assert counts["typed"].f1 >= 0.93
    assert counts["names"].f1 >= 0.96


def test_measure_counts_a_tag_of_two_right_types_once(tmp_path: Path) -> None:
    path = tmp_path / "gold.jsonl"
    path.write_text(
        '{"caption": "c", "tags": [{"name": "water", "types": ["object", "scene"]}, {"name": "dog", "types": '
        '["object"]}], "optional": ["toy"]}\n'
    )
    predicted = {("water", N), ("water", S), ("dog", A), ("toy", N), ("cat", N)}
    counts = measure(read_gold(path), lambda captions: [predicted for _ in captions])
    assert (counts["typed"].right, counts["typed"].wrong, counts["typed"].missed) == (1, 2, 1)
    assert (counts["names"].right, counts["names"].wrong, counts["names"].missed) == (2, 1, 0)


def test_the_stage_keeps_its_contract(tmp_path: Path) -> None:
    captions = [["A dog runs .", "", "un chat dort sur le lit"], [], ["A dog runs ."]]
    ready = pa.nulls(3, contract("pairs").schema.field("ready_tags").type)
    ids = [f"{i:016x}" for i in range(3)]
    pairs = pa.table({"image_id": ids, "captions": pa.array(captions), "ready_tags": ready})
    worker = parse_captions.build(ParseCaptionsSettings(), inputs_of(tmp_path, {}), ExecutorSettings())
    tables = worker({"pairs": pairs})
    phrases, rejected = (check(name, tables[name]) for name in ("phrases", "phrases_rejected"))
    assert phrases["caption_index"].to_pylist() == [0, 1, 2, 0]
    assert [[p["lemma"] for p in row] for row in phrases["phrases"].to_pylist()] == [
        ["dog", "run"],
        [],
        [],
        ["dog", "run"],
    ]
    assert rejected["reason"].to_pylist() == ["caption_empty", "caption_not_english"]
    assert rejected["where"].to_pylist() == ["caption 1", "caption 2"]


def test_max_words_is_a_setting(parser: CaptionParser) -> None:
    caption = "a dog and a cat and a horse"
    assert not parser.parse([caption])[0].rejected
    assert CaptionParser(max_words=5).parse([caption])[0].rejected == "caption_too_long"


# Pieces of captions, of noise and of what the rules look for, to be put together in any order.
PIECES = st.sampled_from([word for row in read_gold(GOLD) for word in row.caption.split()][:600]) | st.sampled_from(
    [
        "no",
        "not",
        "without",
        ",",
        "-",
        "'s",
        "http://x.y",
        "#tag",
        "<b>",
        "&amp;",
        "3",
        "\u00e9",
        "\U0001f600",
        "\u0627",
    ]
)
CAPTIONS = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=14).map(" ".join))
QUICK = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@QUICK
@given(st.lists(CAPTIONS, max_size=6))
def test_parsing_never_raises_and_spans_lie_in_the_caption(parser: CaptionParser, captions: list[str]) -> None:
    for caption, parsed in zip(captions, parser.parse(captions), strict=True):
        assert not (parsed.rejected and parsed.phrases)
        for phrase in parsed.phrases:
            assert caption[phrase.start : phrase.end] == phrase.surface
            assert phrase.surface
            assert phrase.lemma == phrase.lemma.lower().strip() != ""
            assert phrase.type in (N, S, A, V)


@QUICK
@given(st.lists(CAPTIONS, min_size=1, max_size=6))
def test_a_batch_equals_its_captions_one_by_one(parser: CaptionParser, captions: list[str]) -> None:
    assert parser.parse(captions + captions) == [parser.parse([caption])[0] for caption in captions] * 2
