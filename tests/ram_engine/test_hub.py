"""Uploads, to a server that speaks as much of the hub as they need: private unless a person says otherwise."""

from __future__ import annotations

import http.server
import inspect
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from ram_engine.export_command import export


class Hub(http.server.BaseHTTPRequestHandler):
    """``repositories`` says by name whether one is private."""

    repositories: dict[str, bool] = {}  # noqa: RUF012 - shared by the handlers of one test
    uploaded: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        name = self.path.removeprefix("/api/datasets/").partition("/revision/")[0]
        self._answer({"id": name, "private": self.repositories[name], "siblings": []})

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            asked = json.loads(content)
            name = f"{asked['organization']}/{asked['name']}"
            there = name in self.repositories
            self.repositories.setdefault(name, asked["private"])
            self._answer({"url": f"http://{self.headers['Host']}/datasets/{name}"}, 409 if there else 200)
        elif "/preupload/" in self.path:
            files = json.loads(content)["files"]
            self._answer({"files": [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in files]})
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in content.splitlines()]
            self.uploaded.append(f"{self.path.split('/commit/')[0]} {len(lines)}")
            address = f"http://{self.headers['Host']}{self.path.split('/commit/')[0].removeprefix('/api')}/commit/1"
            self._answer({"commitUrl": address, "commitOid": "1" * 40, "pullRequestUrl": None})
        else:
            self._answer({})

    def _answer(self, value: object, status: int = 200) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def test_an_upload_is_private_unless_it_is_said_to_be_public(tmp_path: Path) -> None:
    assert inspect.signature(export).parameters["public"].default is False
    Hub.repositories, Hub.uploaded = {"me/seen": False, "me/hidden": True}, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "captions.csv").write_text("image,caption\n")
    code = """
import sys
from pathlib import Path
from ram_engine.hub import HubError, push_folder
for name, public in (("me/new", 0), ("me/open", 1), ("me/hidden", 0), ("me/seen", 1), ("me/seen", 0)):
    try:
        print(name, push_folder(Path(sys.argv[1]), name, "dataset", bool(public)))
    except HubError as error:
        print(error)
"""
    endpoint = f"http://127.0.0.1:{server.server_port}"
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": endpoint, "HF_TOKEN": "hf_none"}
    order = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(order, capture_output=True, text=True, env=environment)
    assert not done.returncode, done.stderr
    told = done.stdout.splitlines()
    server.shutdown()
    assert [line.rpartition(" ")[2] for line in told[:4]] == ["(private)", "(public)", "(private)", "(public)"]
    assert "me/seen is there already and public: add --public" in told[4]
    assert Hub.repositories == {"me/seen": False, "me/hidden": True, "me/new": True, "me/open": False}
    assert len(Hub.uploaded) == 4
