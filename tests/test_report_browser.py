"""The report in a real browser: it draws itself offline, its sliders judge as the run did, a phone can show it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.store import Store
from tasks.report.write import write_report
from tests.browser import open_browser, sync_api
from tests.report_store import HOSTILE, JUDGE, make_store


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = make_store(str(tmp_path_factory.mktemp("store")))
    write_report(made)
    return made


@pytest.fixture
def page(browser: sync_api.Browser, store: Store) -> Iterator[sync_api.Page]:
    yield from open_page(browser, store, width=1200)


@pytest.fixture
def phone(browser: sync_api.Browser, store: Store) -> Iterator[sync_api.Page]:
    yield from open_page(browser, store, width=375)


def open_page(browser: sync_api.Browser, store: Store, width: int) -> Iterator[sync_api.Page]:
    """The report, opened as a file; fails where the page raised an error or asked for anything else."""
    url = (Path(store.root) / "report.html").as_uri()
    troubles: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme="light")
    opened = context.new_page()
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    opened.on("console", lambda message: troubles.append(message.text))
    opened.on("request", lambda request: request.url.startswith(("data:", url)) or troubles.append(request.url))
    opened.goto(url)
    opened.wait_for_selector("#lineage")
    opened.wait_for_selector("#flow svg")
    yield opened
    context.close()
    assert troubles == []


def figure(page: sync_api.Page, name: str) -> str:
    return page.locator(f"[data-figure='{name}'] b").inner_text()


def move(page: sync_api.Page, slider: str, value: float) -> None:
    page.locator(f"#{slider}").fill(str(value))


def test_every_section_is_drawn(page: sync_api.Page) -> None:
    ids = page.eval_on_selector_all("main > section", "sections => sections.map((one) => one.id)")
    assert ids == [
        "growth",
        "flow",
        "quality",
        "models",
        "tags",
        "examples",
        "cleaning",
        "stages",
        "rejected",
        "candidates",
        "lineage",
    ]
    for name in ("flow", "quality", "models", "tags", "cleaning"):
        assert page.locator(f"#{name} svg").first.bounding_box()["height"] > 100
    assert "mAP, with fine-tuning, against the known truth" in page.locator(".tiles").inner_text()
    opened = page.locator("header > *").nth(1)
    assert opened.get_attribute("class") == "verdict better"
    assert "62% of them are right as estimated (95% interval 55% to 70%)" in opened.inner_text()
    assert page.locator("#growth .strip img").count() > 0
    unloaded = "pictures => pictures.filter((one) => !one.complete || !one.naturalWidth).length"
    assert page.eval_on_selector_all("img", unloaded) == 0


def test_an_ablation_is_shown_where_the_store_holds_one(browser: sync_api.Browser, tmp_path: Path) -> None:
    made = make_store(str(tmp_path))
    base = {"spread": None, "operating": {"CF1": 0.25, "OF1": 0.5}}
    rows = {
        "parsed": {**base, "mAP": 0.4, "more": [0.0, 0.0, 0.0]},
        "cleaning": {**base, "mAP": 0.45, "more": [0.05, 0.01, 0.09], "gap_closed": [0.5, 0.1, 0.9]},
    }
    made.write_json("reports/ablation.json", {"all": {"tags": 30, "images": 40, "seeds": 1, "rows": rows}})
    write_report(made)
    for opened in open_page(browser, made, width=1200):
        cells = opened.locator("#ablation tbody tr").nth(1).locator("td").all_inner_texts()
        assert cells == ["cleaning", "0.4500", "", "0.0500 (0.0100 to 0.0900)", "50% (10% to 90%)", "0.250", "0.500"]
        assert opened.locator("nav a[href='#ablation']").count() == 1


def test_sliders_start_where_the_run_was_and_judge_anew(page: sync_api.Page, store: Store) -> None:
    splits = store.table(store.snapshot("pairs"), ["image_id", "split"]).to_pylist()
    train = {row["image_id"] for row in splits if row["split"] == "train"}
    verdicts = [row for row in store.table(store.snapshot("tag_verdicts")).to_pylist() if row["image_id"] in train]
    as_run = str(sum(row["kept"] for row in verdicts))
    first = [figure(page, name) for name in ("kept", "precision", "recall", "lost")]
    assert first[0] == as_run

    removed = [figure(page, "removed")]
    for share in (0.3, 0.5):
        move(page, "outlier-share", share)
        removed.append(figure(page, "removed"))
    assert int(removed[0]) < int(removed[1]) < int(removed[2])
    assert page.locator(".crops figure.moved").count() > 0

    # Nothing is an outlier, any score is good: only tags whose verdict needs no region stay fixed, and none falls.
    move(page, "outlier-share", 0)
    move(page, "region-threshold", 0)
    assert figure(page, "removed") == "0"
    # No region is good enough: every tag that has one falls, but for those beyond doubt.
    move(page, "region-threshold", 1)
    falls = sum(row["region_score"] is not None and row["score"] < JUDGE.doubt for row in verdicts)
    assert figure(page, "removed") == str(falls)
    move(page, "doubt", 0)
    assert figure(page, "removed") == "0"

    page.get_by_role("button", name="As it was run").click()
    assert [figure(page, name) for name in ("kept", "precision", "recall", "lost")] == first
    assert page.locator(".crops figure.moved").count() == 0


def test_a_tag_shows_its_region(page: sync_api.Page) -> None:
    chip = page.locator("#examples button.chip").first
    chip.hover()
    region = page.locator("#examples .region")
    assert region.count() == 1
    assert region.bounding_box()["width"] > 5


def test_tags_can_be_searched(page: sync_api.Page) -> None:
    rows = page.locator("#tags tbody tr")
    assert rows.count() == 25
    name = rows.nth(3).locator("td").first.inner_text()
    page.locator("#tags input").fill(name)
    found = page.locator("#tags tbody tr td:first-child").all_inner_texts()
    assert name in found
    assert all(name in one for one in found)
    page.locator("#tags input").fill("no such tag")
    assert rows.count() == 0


def test_texts_of_the_data_become_no_elements(page: sync_api.Page) -> None:
    assert HOSTILE.split("\u2028")[0].strip() in page.locator("#rejected").inner_text()
    assert page.locator("img[src='x']").count() == 0


def test_dark_mode_can_be_chosen(page: sync_api.Page) -> None:
    background = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate(background) != light


def test_a_phone_scrolls_down_only(phone: sync_api.Page) -> None:
    assert phone.evaluate("() => document.documentElement.scrollWidth") == 375
    charts = "charts => charts.map((one) => one.getBoundingClientRect().right)"
    assert max(phone.eval_on_selector_all("svg", charts)) <= 375


@pytest.mark.parametrize(("until", "truth"), [("ingest", True), ("assign-tags", True), ("evaluate", False)])
def test_unfinished_runs_and_real_data_are_drawn_too(
    browser: sync_api.Browser, tmp_path: Path, until: str, truth: bool
) -> None:
    store = make_store(str(tmp_path), until=until, truth=truth)
    write_report(store)
    url = (Path(store.root) / "report.html").as_uri()
    context = browser.new_context()
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    page.wait_for_selector("#lineage")
    assert page.locator("#quality").count() == (until != "ingest" and truth)
    assert page.locator("#cleaning").count() == (until == "evaluate")
    context.close()
    assert errors == []
