"""What a run shows in Prefect costs it nothing: a server that hangs holds up no work, and time left is told truly."""

from __future__ import annotations

import time

import psutil
import pytest
from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows import progress, showing


def test_a_server_that_never_answers_holds_up_no_work(
    prefect_api: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(showing, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(progress, "ARTIFACT_SECONDS", 0.0)

    server = next(one for one in psutil.Process().children() if "flows.local_server" in " ".join(one.cmdline()))

    @flow
    def work() -> float:
        server.suspend()
        try:
            begun = time.monotonic()
            with progress.stage_progress("judge") as told:
                for done in range(1, 1000):
                    told(done, 1000)
            bar = time.monotonic() - begun
            showing.show(create_markdown_artifact, "a page", key="page")
            return bar
        finally:
            server.resume()

    assert work() < 10  # the server would keep each of the thousand waiting for a minute
    printed = " ".join(capsys.readouterr().err.split())
    assert "did not take the artifact page: no answer" in printed


def test_time_left_is_told_by_the_pace_of_the_work_and_not_of_the_start() -> None:
    pace = progress.Pace()
    assert pace(0, 0.0) is None
    assert pace(1, 8.0) is None  # what came before the first step says nothing
    assert pace(1, 9.0) is None
    assert pace(11, 9.0) == pytest.approx(10)
    assert [pace(done, 9.0 + done) for done in range(12, 400)][-1] == pytest.approx(1)  # the last minute counts
    assert pace(3, 500.0) is None  # another piece of work
