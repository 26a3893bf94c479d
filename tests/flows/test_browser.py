"""Prefect's own UI in a real browser: a stage's form is filled, the run completes, its page and pictures are drawn.

With ``RAM_ENGINE_SCREENSHOTS=docs`` the pictures of docs/operate.md are made anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from flows import guard
from tests.browser import open_browser, sync_api
from tests.flows.conftest import Deployed

expect = sync_api.expect
PATIENCE = 90_000.0  # milliseconds


def test_a_stage_is_run_from_its_form(deployed: Deployed, copied_store: Path) -> None:
    base = deployed.api.removesuffix("/api")
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.set_default_timeout(PATIENCE)
        page.goto(guard.link(base, os.environ["PREFECT_API_AUTH_STRING"], "/deployments"))
        page.get_by_placeholder("Search deployments").fill("judge")
        expect(page.get_by_text("judge", exact=True)).to_be_visible(timeout=PATIENCE)
        page.goto(f"{base}/deployments/deployment/{deployed.deployment('judge/default')['id']}/run")
        expect(page.get_by_text("So large a share of a tag's regions are outliers")).to_be_visible(timeout=PATIENCE)
        field(page, "store").fill(str(copied_store))
        field(page, "Outlier Share").fill("3")
        page.get_by_role("button", name="Submit").click()
        refused = page.get_by_text("Validation failed for field 'settings.outlier_share'").first
        expect(refused).to_be_visible(timeout=PATIENCE)
        field(page, "Outlier Share").fill("0.3")
        shoot(page, "form")
        run_id = submitted(page, deployed)
        page.goto(f"{base}/runs/flow-run/{run_id}")
        expect(page.get_by_text("Completed", exact=True).first).to_be_visible(timeout=PATIENCE)
        page.wait_for_timeout(1500)  # the timeline settles
        shoot(page, "run")
        artifact = deployed.artifacts(run_id)["judge"]
        page.goto(f"{base}/artifacts/artifact/{artifact['id']}")
        expect(page.get_by_role("heading", name="Pictures so far")).to_be_visible(timeout=PATIENCE)
        pictures = page.locator("table img")
        assert pictures.count() == 6
        assert all(width > 0 for width in pictures.evaluate_all("all => all.map(one => one.naturalWidth)"))
        expect(page.locator("table").get_by_text("0.3", exact=True)).to_be_visible()
        shoot(page, "page")


def submitted(page: sync_api.Page, deployed: Deployed) -> str:
    """The run that the form starts. After a refusal, on a busy machine, a click has been seen to start nothing."""
    before = {run["id"] for run in deployed.runs("judge/default")}
    for _ in range(6):
        page.get_by_role("button", name="Submit").click()
        for _ in range(60):
            if new := [run["id"] for run in deployed.runs("judge/default") if run["id"] not in before]:
                return str(new[0])
            page.wait_for_timeout(250)
    raise AssertionError(f"the form started no run:\n{page.locator('main').aria_snapshot()}")


def field(page: sync_api.Page, label: str) -> sync_api.Locator:
    """The box below a label of the form."""
    name = page.locator("span.schema-form-property__label", has_text=re.compile(f"^{label}\\b")).first
    block = name.locator("xpath=ancestor::div[contains(concat(' ', @class, ' '), ' p-label ')][1]")
    return block.locator("input, textarea").first


def shoot(page: sync_api.Page, name: str) -> None:
    if folder := os.environ.get("RAM_ENGINE_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"prefect-{name}.png")
