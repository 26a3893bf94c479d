"""The deployments of prefect.yaml on the session's server, with real workers."""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from flows import guard
from tests.conftest import ROOT

POOLS = ("ram-engine", "ram-engine-training")


def page_lines(heading: str) -> list[str]:
    """The lines of the first block of shell below a heading of docs/operate.md."""
    page = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    return page.partition(f"## {heading}\n")[2].split("```")[1].strip().splitlines()


SET_UP = page_lines("From nothing to a scheduled refresh on one machine")
AGAIN = page_lines("A stage again, with another setting")


@dataclass
class Deployed:
    """Prefect's server with this project deployed, and its workers."""

    api: str
    logs: Path
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @functools.cached_property
    def client(self) -> httpx.Client:
        """Asks the API as the UI does: with the secret, and a token against forged requests."""
        signed_in = {"Authorization": guard.header(os.environ["PREFECT_API_AUTH_STRING"])}
        client = httpx.Client(base_url=self.api, headers=signed_in, timeout=60)
        token = client.get("/csrf-token", params={"client": "tests"}).json()["token"]
        client.headers.update({"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "tests"})
        return client

    def prefect(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Prefect's own command."""
        return subprocess.run(
            [sys.executable, "-m", "prefect", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env=self.environment,
        )

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PREFECT_API_URL": self.api,
            "PYTHONPATH": str(ROOT),
            "PREFECT_LOGGING_LEVEL": "INFO",
            "PREFECT_WORKER_QUERY_SECONDS": "2",  # a worker asks for runs every ten seconds otherwise
        }

    def start_worker(self, pool: str) -> None:
        with (self.logs / f"{pool}.log").open("ab") as log:
            self.workers[pool] = subprocess.Popen(
                [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--name", pool],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def deployment(self, name: str) -> dict[str, Any]:
        """A deployment by ``<flow>/default``."""
        found: dict[str, Any] = self.client.get(f"/deployments/name/{name}").json()
        return found

    def create_run(self, name: str, **parameters: Any) -> httpx.Response:
        """What the UI's Run button asks for; as Prefect's clients do, it asks again while the database is busy."""
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        url = f"/deployments/{self.deployment(name)['id']}/create_flow_run"
        for _ in range(60):
            if (answer := self.client.post(url, json=body)).status_code != 503:
                break
            time.sleep(0.5)
        return answer

    def runs(self, name: str) -> list[dict[str, Any]]:
        """The runs of a deployment that no schedule made, the newest first."""
        wanted = {
            "flow_runs": {"deployment_id": {"any_": [self.deployment(name)["id"]]}},
            "sort": "EXPECTED_START_TIME_DESC",
        }
        found: list[dict[str, Any]] = self.client.post("/flow_runs/filter", json=wanted).json()
        return [run for run in found if not run["auto_scheduled"]]

    def run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"/flow_runs/{run_id}").json()
        return found

    def ended(self, run_id: str, seconds: float = 180) -> dict[str, Any]:
        """Waits until the run is in a final state; gives it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if (run := self.run(run_id))["state_type"] in ("COMPLETED", "FAILED", "CANCELLED", "CRASHED"):
                return run
            time.sleep(0.2)
        raise AssertionError(f"the run is still {run['state_name']}")

    def completed(self, name: str, **parameters: Any) -> str:
        """Runs a deployment to its good end; gives the run's id."""
        created = self.create_run(name, **parameters)
        assert created.status_code == 201, created.text
        run_id: str = created.json()["id"]
        run = self.ended(run_id)
        assert run["state_type"] == "COMPLETED", run["state"]
        return run_id

    def artifacts(self, run_id: str) -> dict[str, dict[str, Any]]:
        """The artifacts of a run and of its task runs, by key."""
        wanted = {"artifacts": {"flow_run_id": {"any_": [run_id]}}}
        found = self.client.post("/artifacts/filter", json=wanted).json()
        return {one["key"]: one for one in found}


@pytest.fixture(scope="session")
def deployed(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Everything of prefect.yaml deployed on a fresh server, as docs/operate.md says, with a worker a pool."""
    made = Deployed(prefect_api, tmp_path_factory.mktemp("workers"))
    for line in SET_UP:
        if line.startswith(("prefect work-pool", "prefect deploy ")):
            done = made.prefect(*shlex.split(line, comments=True)[1:])
            assert done.returncode == 0, done.stdout + done.stderr
    for pool in POOLS:
        made.start_worker(pool)
    yield made
    for worker in made.workers.values():  # at once: it would wait for a run that a trigger started
        process = psutil.Process(worker.pid)
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        worker.wait()
