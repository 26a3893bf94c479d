"""The spreadsheet and the rule file: what a person changes arrives, and what is wrong is said row by row."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.labels import edits, rules, sheet
from tasks.labels.edits import Edit
from tasks.labels.sheet import SheetError
from tasks.labels.tags import TYPES, Tag, read_tags, tags_table

TAGS = [
    Tag(0, "car", "object", ("auto",), 9, groundable=True, prompt="car"),
    Tag(1, "automobile", "object", (), 5, groundable=True, prompt="automobile"),
    Tag(2, "dog", "object", (), 4, groundable=True, prompt="dog"),
    Tag(3, "red", "attribute", (), 3, prompt="red"),
    Tag(4, "ox", "object").retire(),
    Tag(5, "dusk", "object", (), 2, active=False, prompt="dusk"),
]
HEADER = "tag_id,name,type,status,merge_into,synonyms,groundable,prompt\n"
UNCHANGED = {
    0: "0,car,object,active,,auto,yes,car",
    1: "1,automobile,object,active,,,yes,automobile",
    2: "2,dog,object,active,,,yes,dog",
    3: "3,red,attribute,active,,,no,red",
    5: "5,dusk,object,off,,,no,dusk",
}


def sheet_with(changed: dict[int, str] | None = None, *new: str) -> str:
    rows = {**UNCHANGED, **(changed or {})}
    return HEADER + "\n".join([*(row for row in rows.values() if row), *new]) + "\n"


def changes(text: str, known: dict[str, set[str]] | None = None) -> list[Edit]:
    return sheet.compare(TAGS, sheet.read(text), known)


def after(text: str) -> dict[int, Tag]:
    return {tag.tag_id: tag for tag in edits.apply(TAGS, changes(text))}


def problems(text: str, known: dict[str, set[str]] | None = None) -> tuple[str, ...]:
    with pytest.raises(SheetError) as error:
        changes(text, known)
    return error.value.problems


# round trip

words = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8)


@st.composite
def label_systems(draw: st.DrawFn) -> list[Tag]:
    """Valid label systems with gaps in the ids, awkward characters, tags switched off and retired."""
    names = draw(st.lists(words, min_size=1, max_size=12, unique=True))
    ids = draw(st.lists(st.integers(0, 2**31 - 20), min_size=len(names), max_size=len(names), unique=True))
    tags: list[Tag] = []
    while names:
        name = names.pop()
        synonyms = tuple(names.pop() for _ in range(min(len(names), draw(st.integers(0, 2)))))
        tag = Tag(
            ids.pop(), name, draw(st.sampled_from(TYPES)), synonyms, draw(st.integers(0, 10**9)),
            groundable=draw(st.booleans()), prompt=draw(words),
        )  # fmt: skip
        kind = draw(st.sampled_from(["active", "active", "off", "retired"]))
        tags.append(tag if kind == "active" else tag.retire() if kind == "retired" else off(tag))
    return sorted(tags, key=lambda tag: tag.tag_id)


def off(tag: Tag) -> Tag:
    return Tag(tag.tag_id, tag.name, tag.type, tag.synonyms, tag.count, False, tag.groundable, tag.prompt)


@given(label_systems(), st.sampled_from(",;\t"))
def test_ids_and_all_else_round_trip_through_export_and_import(tags: list[Tag], delimiter: str) -> None:
    text = sheet.write(tags, {tags[0].tag_id: ["a; b", "c\nd"]}, {tags[0].tag_id: ["=1+1", 'say "hi", dog']})
    rows = list(csv.reader(io.StringIO(text)))
    saved = io.StringIO()  # as a spreadsheet saves it in some country
    csv.writer(saved, delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    assert sheet.compare(tags, sheet.read("\ufeff" + saved.getvalue())) == []
    assert read_tags(tags_table(tags)) == tags


@given(label_systems(), st.data())
def test_no_id_is_ever_given_twice(tags: list[Tag], data: st.DataObject) -> None:
    gone = data.draw(st.sets(st.sampled_from([tag.tag_id for tag in tags])))
    taken = {tag.name for tag in tags} | {word for tag in tags for word in tag.synonyms}
    fresh = [name for name in data.draw(st.lists(words, max_size=3, unique=True)) if name not in taken]
    rows = [row for row in sheet.rows_of(tags) if row.tag_id not in gone]
    rows += [sheet.Row(99 + number, None, name, "object") for number, name in enumerate(fresh)]
    made = edits.apply(tags, sheet.compare(tags, rows))
    assert len({tag.tag_id for tag in made}) == len(made) == len(tags) + len(fresh)
    by_id = {tag.tag_id: tag for tag in made}
    for tag in tags:
        assert by_id[tag.tag_id].name == tag.name
        assert by_id[tag.tag_id].retired == (tag.retired or tag.tag_id in gone)


@given(label_systems(), st.data())
def test_edits_are_kept_as_they_are(tags: list[Tag], data: st.DataObject) -> None:
    changed = [
        Edit(tag.tag_id, status=data.draw(st.sampled_from(["off", "active", None])), prompt=data.draw(words))
        for tag in tags
    ]
    assert edits.read_table(edits.table_of(changed)) == sorted(changed, key=lambda edit: edit.tag_id)
    assert edits.combine(changed, []) == edits.combine([], changed) == edits.combine(changed, changed)


# what a person may do


def test_nothing_changed() -> None:
    assert changes(sheet_with()) == []


def test_columns_that_are_not_there_change_nothing() -> None:
    names = "".join(f"{tag.tag_id},{tag.name}\n" for tag in TAGS if not tag.retired)
    assert changes("tag_id,name\n" + names) == []


def test_switch_off_rename_regroup() -> None:
    result = after(sheet_with({2: "2,hound,object,active,,,no,a hound", 3: "3,red,attribute,off,,,no,red"}))
    assert result[2] == Tag(2, "hound", "object", ("dog",), 4, groundable=False, prompt="a hound")
    assert (result[3].active, result[3].retired) == (False, False)


def test_a_renamed_tag_is_asked_for_by_its_new_name() -> None:
    assert after(sheet_with({2: "2,hound,object,active,,,yes,dog"}))[2].prompt == "hound"


def test_switch_on_again() -> None:
    assert after(sheet_with({5: "5,dusk,object,active,,,no,dusk"}))[5].active


@pytest.mark.parametrize("target", ["0", "car"])
def test_fold_one_tag_into_another(target: str) -> None:
    result = after(sheet_with({1: f"1,automobile,object,active,{target},,yes,automobile"}))
    assert result[0].synonyms == ("auto", "automobile")
    assert result[0].count == 14
    assert result[1].retired


def test_a_tags_name_among_anothers_synonyms_folds_it_too() -> None:
    result = after(sheet_with({0: "0,car,object,active,,auto;automobile,yes,car"}))
    assert result[0].synonyms == ("auto", "automobile")
    assert result[1].retired


def test_folds_follow_each_other() -> None:
    text = sheet_with({1: "1,automobile,object,active,2,,yes,automobile", 2: "2,dog,object,active,car,,yes,dog"})
    result = after(text)
    assert set(result[0].synonyms) == {"auto", "automobile", "dog"}
    assert result[0].count == 18
    assert result[1].retired
    assert result[2].retired


def test_a_row_taken_out_retires_its_tag() -> None:
    assert after(sheet_with({2: ""}))[2].retired


def test_a_new_row_is_a_new_tag_and_a_retired_one_gets_its_id_back() -> None:
    result = after(sheet_with({}, ",forklift,object,,,lift truck,,", ",ox,object,,,,,"))
    assert result[6] == Tag(6, "forklift", "object", ("lift truck",), 0, groundable=True, prompt="forklift")
    assert result[4] == Tag(4, "ox", "object", (), 0, groundable=True, prompt="ox")


def test_a_synonym_may_move_and_a_merge_may_be_undone() -> None:
    folded = edits.apply(TAGS, changes(sheet_with({1: "1,automobile,object,active,0,,yes,automobile"})))
    rows = [row for row in sheet.rows_of(folded) if row.tag_id != 0]
    rows += [sheet.Row(9, 0, "car", "object", synonyms=("auto",)), sheet.Row(10, None, "automobile", "object")]
    apart = {tag.tag_id: tag for tag in edits.apply(folded, sheet.compare(folded, rows))}
    assert apart[0].synonyms == ("auto",)
    assert (apart[1].name, apart[1].active) == ("automobile", True)


def test_later_edits_win_and_undo_earlier_ones() -> None:
    earlier = [Edit(1, merge_into=0), Edit(0, synonyms_added=("wagon",)), Edit(2, name="hound", status="off")]
    later = [Edit(1, status="active"), Edit(0, synonyms_dropped=("wagon",)), Edit(2, status="active")]
    assert edits.combine(earlier, later) == [
        Edit(0, synonyms_dropped=("wagon",)), Edit(1, status="active"), Edit(2, name="hound", status="active"),
    ]  # fmt: skip


# what is wrong


def test_unknown_missing_and_repeated_columns() -> None:
    assert problems("tag_id,name,synonym\n") == (
        "unknown column 'synonym' (did you mean 'synonyms'?); it may be " + ", ".join(sheet.COLUMNS),
    )
    assert problems("name,type\n") == ("the column 'tag_id' is missing",)
    assert problems("tag_id,name,name\n") == ("the column 'name' stands there twice",)
    assert problems("") == ("the column 'tag_id' is missing", "the column 'name' is missing")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("2x,dog,object,active,,,yes,dog", "row 4: the tag_id '2x' is not a whole number"),
        ("2,,object,active,,,yes,dog", "row 4: the name is empty; to remove a tag, set its status to retired or off"),
        ("2,dog,thing,active,,,yes,dog", "row 4: the type 'thing' is unknown"),
        ("2,dog,object,activ,,,yes,dog", "row 4: the status 'activ' is unknown (did you mean 'active'?)"),
        ("2,dog,object,active,,,maybe,dog", "row 4: the groundable 'maybe' is unknown"),
        ("2,dog,object,active,,,yes,dog,,", "row 4: it has more cells than the header has columns"),
    ],
)
def test_cells_that_cannot_be_read(row: str, said: str) -> None:
    if row.endswith(",,"):
        row += "more"
    [problem] = problems(sheet_with({2: row}))
    assert problem.startswith(said)


def test_ids_used_twice_and_ids_that_are_none() -> None:
    assert problems(sheet_with({2: "1,dog,object,active,,,yes,dog", 3: "77,red,attribute,active,,,no,red"})) == (
        "row 5: there is no tag with the id 77; leave the tag_id of a new tag empty",
        "row 4: the tag_id 1 stands in row 3 already",
    )


def test_cycles_name_every_row_that_is_part_of_them() -> None:
    text = sheet_with({
        0: "0,car,object,active,automobile,auto,yes,car",
        1: "1,automobile,object,active,2,,yes,automobile",
        2: "2,dog,object,active,0,,yes,dog",
    })  # fmt: skip
    assert problems(text) == (
        "row 2: the synonyms go in a circle: 'car' -> 'automobile' -> 'dog' -> 'car'",
        "row 3: the synonyms go in a circle: 'automobile' -> 'dog' -> 'car' -> 'automobile'",
        "row 4: the synonyms go in a circle: 'dog' -> 'car' -> 'automobile' -> 'dog'",
    )
    both = sheet_with({
        0: "0,car,object,active,,auto;automobile,yes,car", 1: "1,automobile,object,active,,car,yes,automobile",
    })  # fmt: skip
    assert [one.partition(":")[0] for one in problems(both)] == ["row 2", "row 3"]


def test_merges_that_lead_nowhere() -> None:
    assert problems(sheet_with({2: "2,dog,object,active,wolf,,yes,dog"})) == (
        "row 4: merge_into 'wolf' is no id and no name of its type",
    )
    assert problems(sheet_with({2: "2,dog,object,active,2,,yes,dog"})) == ("row 4: 'dog' cannot merge into itself",)
    assert problems(sheet_with({2: "2,dog,object,active,5,,yes,dog"})) == (
        "row 4: 'dog' merges into 'dusk', which is off",
    )


def test_a_word_of_two_tags() -> None:
    assert problems(sheet_with({2: "2,dog,object,active,,auto,yes,dog"})) == (
        "row 4: 'auto' belongs to tag 0 'car' (row 2) and to tag 2 'dog': take it out of one, or merge them",
    )
    assert problems(sheet_with({}, ",car,scene,,,,,")) == (
        "row 7: 'car' belongs to tag 0 'car' (row 2) and to tag 6 'car': take it out of one, or merge them",
    )
    assert changes(sheet_with({}, ",car,attribute,,,,,")) != []


def test_a_new_tag_needs_a_type() -> None:
    assert problems(sheet_with({}, ",forklift,,,,,,")) == (
        "row 7: the new tag 'forklift' needs a type: object, scene, attribute, action",
    )


def test_a_removed_tag_that_a_checkpoint_knows() -> None:
    known = {"ram": {"dog", "red"}, "baseline": {"dog"}}
    text = sheet_with({2: "", 3: "3,red,attribute,retired,,,no,red"})
    assert problems(text, known) == (
        "row 4: tag 3 'red' is removed, but the checkpoint ram knows it; keep its row with the status off",
        "a missing row: tag 2 'dog' is removed, but the checkpoint ram and baseline knows it; "
        "keep its row with the status off",
    )
    assert changes(sheet_with({2: "2,dog,object,off,,,yes,dog"}), known) == [Edit(2, status="off")]


# rules


def test_rules_change_many_rows_and_count_them() -> None:
    tags = [Tag(index, f"{colour} tree", "object", (), 1, groundable=True, prompt=f"{colour} tree")
            for index, colour in enumerate(["red", "green", "old"])]  # fmt: skip
    tags.append(Tag(3, "tree", "object", (), 9, groundable=True, prompt="tree"))
    tags.append(Tag(4, "old", "attribute", (), 5, prompt="old"))
    text = (
        "action,type,pattern,value\n"
        "merge,object,/(red|green) tree/,tree\n"
        "rename,object,/old (.*)/,ancient \\1\n"
        "off,attribute,o*,\n"
        "groundable,,*tree,no\n"
        "prompt,object,tree,one tree\n"
        "retire,,zebra*,\n"
    )
    rows, touched = rules.apply(sheet.rows_of(tags), rules.read(text))
    assert list(touched.values()) == [2, 1, 1, 4, 1, 0]
    assert str(next(iter(touched))) == "2: merge object /(red|green) tree/ -> tree"
    made = {tag.tag_id: tag for tag in edits.apply(tags, sheet.compare(tags, rows))}
    assert made[3] == Tag(3, "tree", "object", ("red tree", "green tree"), 11, groundable=False, prompt="one tree")
    assert (made[2].name, made[2].synonyms) == ("ancient tree", ("old tree",))
    assert not made[4].active
    assert made[0].retired


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("drop,,*,", "rule 2: the action 'drop' is unknown"),
        ("off,thing,*,", "rule 2: the type 'thing' is unknown"),
        ("off,,,", "rule 2: the pattern is empty"),
        ("off,,/(/,", "rule 2: the pattern '/(/' is no regular expression"),
        ("rename,,dog,", "rule 2: rename needs a value"),
        ("rename,,/dog/,\\1", "rule 2: the value '\\1' does not fit the pattern"),
        ("type,,dog,verb", "rule 2: the type 'verb' is unknown"),
        ("groundable,,dog,perhaps", "rule 2: groundable is yes or no, not 'perhaps'"),
    ],
)
def test_wrong_rules(line: str, said: str) -> None:
    with pytest.raises(SheetError) as error:
        rules.read("action,type,pattern,value\n" + line + "\n")
    assert [problem.startswith(said) for problem in error.value.problems] == [True]


def test_a_rule_file_with_other_columns() -> None:
    with pytest.raises(SheetError, match="the columns of a rule file are"):
        rules.read("action,pattern\n")
