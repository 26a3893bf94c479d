"""Sources: every row is an item or a problem with its reason."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from storage.schemas import DESCRIBED, OF_IMAGE
from tasks.sources import SourceError, SourceItem
from tasks.sources.coco import CocoSource
from tasks.sources.csv_file import CsvSource
from tasks.sources.folder import FolderSource
from tasks.sources.item import inside_of
from tasks.sources.labels_file import LabelsSource


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(b"x")
    return folder


def reasons(items: list[SourceItem]) -> list[str]:
    return [item.problem[0] for item in items if item.problem]


def test_a_csv_groups_the_captions_of_an_image(tmp_path: Path, images: Path) -> None:
    (tmp_path / "c.csv").write_text('image,caption,split\na.jpg,"A dog, running",\nb.jpg,A cat,test\na.jpg,A pet,\n')
    first, second = CsvSource(path=str(tmp_path / "c.csv")).items()
    assert first.captions == ("A dog, running", "A pet")
    assert (first.split, second.split) == ("", "test")
    assert first.path == str(images / "a.jpg")
    assert len(list(CsvSource(path=str(tmp_path / "c.csv"), limit=1).items())) == 1


def test_names_and_links_that_lead_out_of_a_folder_are_told(tmp_path: Path, images: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    (images / "sub").mkdir()
    (images / "out").symlink_to(tmp_path)
    (images / "link.jpg").symlink_to(tmp_path / "secret")
    (images / "good.jpg").symlink_to(images / "a.jpg")
    (images / "sub" / "up").symlink_to(images)
    (tmp_path / "images-2").mkdir()
    holds = inside_of(images)
    names = [
        "a.jpg",
        "sub/none.jpg",
        "sub/../a.jpg",
        "good.jpg",
        "sub/up/a.jpg",
        "",
        ".",
        "sub/..",
        str(images / "a.jpg"),
    ]
    names += [
        "..",
        "../secret",
        "out/secret",
        "link.jpg",
        "sub/up/../../secret",
        "/etc/passwd",
        "../images-2/a.jpg",
        "out",
    ]
    for name in names:
        assert holds(name) == (images / name).resolve().is_relative_to(images.resolve()), name
    assert [name for name in names if holds(name)] == names[:9]


def test_unfit_rows_of_a_csv_are_kept_with_their_reason(tmp_path: Path, images: Path) -> None:
    (tmp_path / "c.csv").write_bytes(
        b"image,caption,split\na.jpg,fine,\nb.jpg,,\n,no image,\n../x.jpg,outside,\na.jpg,caf\xe9,\n"
        b"a.jpg,odd,training\nb.jpg\n"
    )
    items = list(CsvSource(path=str(tmp_path / "c.csv")).items())
    assert reasons(items) == ["row_without_image", "image_outside_folder", "not_utf8", "unknown_split"]
    assert {item.name: item.captions for item in items if not item.problem} == {"a.jpg": ("fine",), "b.jpg": ()}


def test_a_csv_without_the_columns_says_so(tmp_path: Path, images: Path) -> None:
    (tmp_path / "c.csv").write_text("file,text\na.jpg,hello\n")
    with pytest.raises(SourceError, match=r"lacks \['caption', 'image'\]"):
        list(CsvSource(path=str(tmp_path / "c.csv")).items())
    with pytest.raises(SourceError, match="does not exist"):
        list(CsvSource(path=str(tmp_path / "none.csv")).items())


def test_coco_captions_are_listed_with_their_licence(tmp_path: Path, images: Path) -> None:
    content = {
        "licenses": [{"id": 1, "name": "CC BY"}],
        "images": [
            {"id": 7, "file_name": "a.jpg", "license": 1, "coco_url": "http://x/a.jpg"},
            {"id": 8, "file_name": "b.jpg"},
            {"id": 9, "file_name": "../b.jpg"},
        ],
        "annotations": [
            {"image_id": 7, "caption": " A dog. "},
            {"image_id": 7, "caption": "A pet."},
            {"image_id": 99, "caption": "lost"},
            {"image_id": 8, "caption": " "},
            {"image_id": 7, "caption": ""},
        ],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    items = list(CocoSource(path=str(tmp_path / "coco.json")).items())
    good = [item for item in items if not item.problem]
    assert [(item.name, item.captions, item.licence, item.url) for item in good] == [
        ("a.jpg", ("A dog.", "A pet."), "CC BY", "http://x/a.jpg"),
        ("b.jpg", (), None, None),
    ]
    assert reasons(items) == ["row_without_image", "row_without_image"]


def test_a_folder_is_listed_with_all_below_it_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "c/d/e.webp", "c/a.gif", ".cache/x.png", "b.jpg.part"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    items = list(FolderSource(path=str(tmp_path)).items())
    assert [item.name for item in items] == ["a.png", "b.JPG", "c/a.gif", "c/d/e.webp"]
    assert all(item.captions == () and item.ready_tags is None and item.version.startswith("1-") for item in items)
    assert items[2].path == str(tmp_path / "c" / "a.gif")
    assert [item.name for item in FolderSource(path=str(tmp_path), limit=2).items()] == ["a.png", "b.JPG"]
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")
    assert reasons(list(FolderSource(path=str(tmp_path / "odd")).items())) == ["not_utf8"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="holds no image: their names end in"):
        list(FolderSource(path=str(tmp_path / "empty")).items())
    with pytest.raises(SourceError, match="there is no folder"):
        list(FolderSource(path=str(tmp_path / "none")).items())


@pytest.mark.parametrize("text", ["[]", "{", '{"images": []}', '{"images": [{}], "annotations": []}'])
def test_what_is_not_coco_says_what_is_missing(tmp_path: Path, images: Path, text: str) -> None:
    (tmp_path / "coco.json").write_text(text)
    with pytest.raises(SourceError, match="is not COCO captions"):
        list(CocoSource(path=str(tmp_path / "coco.json")).items())


def test_labels_of_ones_own_name_their_pictures_and_say_whether_they_name_everything(
    tmp_path: Path, images: Path
) -> None:
    (tmp_path / "l.csv").write_text(
        "image,tag,type,split,described\n"
        "a.jpg,dog,object,test,\na.jpg,grass,,,yes\nb.jpg,cat,,,\nc.jpg,,,calibrate,yes\n"
        "d.jpg,,,,\n,dog,,,\n../e.jpg,dog,,,\nf.jpg,dog,,train,\ng.jpg,dog,animal,,\nh.jpg,dog,,,perhaps\n"
    )
    items = list(LabelsSource(path=str(tmp_path / "l.csv")).items())
    good = {item.name: item for item in items if item.problem is None}
    assert good["a.jpg"].ready_tags == ((DESCRIBED, (("dog", "object"), ("grass", ""))),)
    assert good["a.jpg"].path == str(images / "a.jpg")
    assert good["b.jpg"].ready_tags == ((OF_IMAGE, (("cat", ""),)),)
    assert good["c.jpg"].ready_tags == ((DESCRIBED, ()),)
    assert [good[name].split for name in ("a.jpg", "b.jpg", "c.jpg")] == ["test", "", "calibrate"]
    assert reasons(items) == [
        "row_without_tag",
        "row_without_image",
        "image_outside_folder",
        "unknown_split",
        "unknown_type",
        "unknown_mark",
    ]
    assert (
        len([item for item in LabelsSource(path=str(tmp_path / "l.csv"), limit=1).items() if item.problem is None]) == 1
    )
    (tmp_path / "other.csv").write_text("image,caption\n")
    with pytest.raises(SourceError, match=r"lacks \['tag'\]"):
        list(LabelsSource(path=str(tmp_path / "other.csv")).items())
