"""docs/operate.md pasted line by line into a terminal, and the units of deploy/ that start the same."""

from __future__ import annotations

import configparser
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from ram_engine.configuration import configure
from tests.conftest import ROOT
from tests.flows.conftest import AGAIN, SET_UP
from tests.flows.test_guard import HARM

LINE_SECONDS = 1800


class Terminal:
    """An interactive bash on a terminal of its own, in a folder, as a person would open it."""

    def __init__(self, folder: Path, home: Path) -> None:
        home.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        self.environment = {**kept, "HOME": str(home), "PS1": "", "TERM": "dumb", "HF_HUB_OFFLINE": "1"}
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe("bash", ["bash", "--norc", "--noprofile"], self.environment)

    def paste(self, line: str) -> str:
        """Types the line and waits for its end; gives what was printed. Fails where its exit status is not 0."""
        os.write(self.terminal, f"{line}\necho status:$?:\n".encode())
        printed, deadline = "", time.monotonic() + LINE_SECONDS
        while not (ended := re.search(r"status:(\d+):", printed)) and time.monotonic() < deadline:
            if select.select([self.terminal], [], [], 1.0)[0]:
                printed += os.read(self.terminal, 65536).decode(errors="replace")
        assert ended, f"{line}: no end after {LINE_SECONDS} s\n{printed}"
        assert ended[1] == "0", f"{line}\n{printed}"
        return printed

    def close(self) -> None:
        """As when its window is closed: what runs in it gets a hangup."""
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


def clone(folder: Path) -> Path:
    """The repository with the environment of this one; its deployments are on the preset `tiny`."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    for name in filter(None, listed):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(Path(sys.prefix))
    for name in ("pyproject.toml", "constraints.txt"):  # else `make` would install this copy into that environment
        os.utime(folder / name, (0, 0))
    file, tiny = folder / "prefect.yaml", configure("tiny")[0].model_dump(mode="json")
    content = yaml.safe_load(file.read_text())
    for one in content["deployments"]:
        parameters, stage = one["parameters"], one["entrypoint"].partition(":")[2]
        if stage == "pipeline":
            parameters["settings"] = tiny
        elif stage == "retrain":
            parameters["settings"] = tiny["retrain"]
    file.write_text(yaml.safe_dump(content))
    return folder


def running_in(folder: Path) -> list[psutil.Process]:
    """The processes whose working folder it is."""
    return [one for one in psutil.process_iter(["cwd"]) if one.info["cwd"] == str(folder)]


@pytest.mark.soak
def test_the_page_works_as_it_is_pasted(tmp_path: Path) -> None:
    tree, home = clone(tmp_path / "ram-engine"), tmp_path / "home"
    terminal = Terminal(tree, home)
    server = [sys.executable, "-m", "ram_engine", "server"]
    here = {"cwd": tree, "env": {**terminal.environment, "PYTHONPATH": str(tree)}}
    try:
        said = "\n".join(terminal.paste(line) for line in [*SET_UP, *AGAIN])
        assert said.count("Flow run finished successfully in 'Completed'") == 3, said
        second = Terminal(tree, tmp_path / "second")  # a new terminal, a day later
        second.paste(f"export HOME={home} && . .venv/bin/activate")
        second.paste(SET_UP[2])
        second.paste("prefect deployment ls")
        second.close()
        assert_guarded(home, terminal)
        terminal.close()
        time.sleep(3)
        subprocess.run([*server, "status"], check=True, **here)  # type: ignore[call-overload]
        assert len([one for one in running_in(tree) if {"worker", "start"} <= set(one.cmdline())]) == 2
        log = (home / ".prefect" / "ram-engine-server" / "server.log").read_text()
        assert "IntegrityError" not in log, log  # a locked database on a busy machine is asked again
    finally:
        for process in running_in(tree):
            if "server" not in process.cmdline():
                process.kill()
        subprocess.run([*server, "stop"], check=True, **here)  # type: ignore[call-overload]
    assert (tree / "runs" / "sample" / "report.html").is_file()


def assert_guarded(home: Path, terminal: Terminal) -> None:
    """No foreign page, with the browser signed in, changes what the page's lines have set up."""
    from tests.foreign_page import attack

    shown = terminal.paste("prefect deployment inspect judge/default --output json")
    identifier = json.loads(shown[shown.index("{") : shown.rindex("}") + 1])["id"]
    own, secret = "http://127.0.0.1:4200", (home / ".prefect" / "ram-engine-server" / "secret").read_text().strip()
    statuses = attack(own, secret, f"{own}/api/deployments/{identifier}", HARM)
    assert set(statuses) <= {403, 421}
    again = terminal.paste("prefect deployment inspect judge/default --output json")
    assert "run_shell_script" not in again


def test_units_and_compose_start_what_the_page_starts() -> None:
    started = []
    for name in ("ram-engine-server.service", "ram-engine-worker@.service"):
        unit = configparser.RawConfigParser(strict=False)
        unit.read(ROOT / "deploy" / name)
        started.append(unit["Service"]["ExecStart"])
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    started += [service["command"] for service in compose["services"].values()]
    assert all(service["network_mode"] == "host" for service in compose["services"].values())  # so it is 127.0.0.1's
    text = "\n".join(started)
    for line in SET_UP:
        if found := re.search(r"ram-engine server \w+|prefect (?:work-pool create|deploy |worker start)[^>&#]*", line):
            pool = found[0].strip()
            assert pool in text or pool.replace("--pool ram-engine", "--pool %i") in text, pool
