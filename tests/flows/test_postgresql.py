"""The team's set-up of docs/operate.md: Prefect's server on a real PostgreSQL, behind the guard."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.flows.conftest import POOLS, Deployed
from tests.test_faults import Server

BINARIES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """A database cluster of its own on a free port; gives its address as Prefect takes it."""
    if BINARIES is None or shutil.which("runuser") is None:
        pytest.skip("PostgreSQL is not installed: its check does not run")
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir()
    if as_user:
        shutil.chown(folder, "postgres")
        for parent in list(folder.parents)[:-2]:  # pytest's folders are root's alone
            parent.chmod(parent.stat().st_mode | 0o011)

    def run(*command: str) -> None:
        subprocess.run(
            [*as_user, f"{BINARIES}/{command[0]}", *command[1:]], check=True, cwd=folder, capture_output=True
        )

    run("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "prefect")
    options = f"-p {port} -k {folder} -h 127.0.0.1"
    subprocess.run(
        [
            *as_user,
            f"{BINARIES}/pg_ctl",
            "-D",
            str(folder / "data"),
            "-o",
            options,
            "-w",
            "start",
            "-l",
            f"{folder}/log",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    try:
        run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "prefect", "prefect")
        yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"
    finally:
        run("pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "stop")


@pytest.mark.soak
def test_a_server_on_postgresql_runs_deployments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with postgresql(tmp_path / "postgresql") as database:
        for name in list(os.environ):
            if name.startswith("PREFECT_"):
                monkeypatch.delenv(name)
        monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
        monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", database)
        server = Server(dict(os.environ), tmp_path / "server.log")
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", server.secret)
        team = Deployed(server.url, tmp_path)
        try:
            assert httpx.get(f"{server.url}/version").status_code == 401
            for pool in POOLS:
                assert team.prefect("work-pool", "create", pool, "--type", "process").returncode == 0
            deployed = team.prefect("deploy", "--all", "--no-prompt")
            assert deployed.returncode == 0, deployed.stdout + deployed.stderr
            team.start_worker("ram-engine")
            run = team.prefect(
                *("deployment", "run", "ingest/default", "-p", f"store={tmp_path / 'store'}", "--watch"),
                *("-p", 'settings={"source": {"kind": "sample", "train": 8, "test": 2, "fine_tune": 0}}'),
            )
            assert run.returncode == 0, run.stdout + run.stderr
        finally:
            for worker in team.workers.values():
                worker.terminate()
                worker.wait(30)
            server.stop()
