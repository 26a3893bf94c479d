"""The question for a CLIP, at a real pseudo-terminal, and its weights from a hub that this test serves."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import json
import os
import pty
import threading
from collections.abc import Iterator
from pathlib import Path

import open_clip
import pytest
import torch

from models import everyday, weights, zero_shot
from ram_engine import offer
from tests.conftest import SMALL_CLIP

NAME, TAG = "ViT-64-wide-offered", "tests"


class Hub(http.server.SimpleHTTPRequestHandler):
    """As much of the hub as a download needs: one file of one model."""

    asked: list[str] = []  # noqa: RUF012 - shared by the handlers of one test

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self.wfile.write(self._answer())

    def _answer(self) -> bytes:
        self.asked.append(self.path)
        content = b""
        if self.path.endswith("open_clip_pytorch_model.bin"):
            content = (Path(self.directory) / "weights.pt").read_bytes()
        self.send_response(200 if content or self.path == "/" else 404)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.end_headers()
        return content

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The paths that were asked of a hub on this machine, with a CLIP of random weights to offer."""
    from huggingface_hub import constants

    (tmp_path / f"{NAME}.json").write_text(json.dumps(SMALL_CLIP))
    open_clip.add_model_config(tmp_path)
    torch.save(open_clip.create_model(NAME).state_dict(), tmp_path / "weights.pt")
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, NAME, {TAG: {"hf_hub": "owner/small-clip/"}})
    monkeypatch.setattr(offer, "CLIP", f"open_clip:{NAME}:{TAG}")
    monkeypatch.setattr(zero_shot, "installed_classifiers", lambda: ["tf_efficientnet_lite0"])
    monkeypatch.setattr(everyday, "classes", lambda: (("dog", "animal"), ("taxi", "car", "vehicle")))
    monkeypatch.setattr(everyday, "words", lambda: ("animal", "car", "dog", "person", "taxi", "vehicle"))
    Hub.asked.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Hub, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    template = constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    forget = weights.hub_in_reach.cache_clear  # tests put another function in its place
    forget()
    yield Hub.asked
    server.shutdown()
    forget()


@contextlib.contextmanager
def terminal(typed: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Standard input and error at a pseudo-terminal on which ``typed`` was typed."""
    person, program = pty.openpty()
    os.write(person, typed.encode())
    with (
        open(program, encoding="utf-8", closefd=False) as typing,
        open(program, "w", encoding="utf-8", closefd=False) as screen,
        monkeypatch.context() as patched,
    ):
        patched.setattr("sys.stdin", typing)
        patched.setattr("sys.stderr", screen)
        yield
    os.close(person)
    os.close(program)


def test_no_is_remembered_and_nothing_is_loaded(hub: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with terminal("n\n", monkeypatch):
        assert not offer.zero_shot(said.append).name.startswith("CLIP")
    assert f"{NAME}:{TAG}" in said[0]
    assert "605 MB" in said[0]
    assert hub == ["/"]
    with terminal("y\n", monkeypatch):
        offer.zero_shot(said.append)
    assert len(said) == 1
    assert json.loads(offer.answers().read_text()) == {offer.CLIP: False}


def test_yes_loads_it_once_and_the_cache_answers_offline(hub: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with terminal("y\n", monkeypatch):
        assert offer.zero_shot(said.append).name.startswith(f"CLIP {NAME}")
    assert sum("resolve" in path for path in hub) >= 1
    monkeypatch.setattr(weights, "hub_in_reach", lambda: False)
    offer.answers().unlink()
    assert offer.zero_shot(said.append).name.startswith(f"CLIP {NAME}")
    assert "found" in said[-1]


def test_nobody_is_asked_without_a_terminal_or_a_hub(hub: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with open(os.devnull, encoding="utf-8") as nothing, monkeypatch.context() as patched:
        patched.setattr("sys.stdin", nothing)
        offer.zero_shot(said.append)
    monkeypatch.setattr(weights, "hub_in_reach", lambda: False)
    with terminal("y\n", monkeypatch):
        offer.zero_shot(said.append)
    assert not said
    assert not hub
    assert not offer.answers().exists()
