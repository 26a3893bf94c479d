"""Runs on this machine: a plan first, then the pipeline under a Prefect server of its own, nothing left running."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from filelock import FileLock, Timeout

from flows.environment import FOR_ONE_RUN, local_prefect
from storage import full_disk
from storage.addresses import concealed
from storage.names import of_round
from storage.store import Snapshot, Store, StoreError
from storage.user_folder import home_folder, user_folder
from tasks.executors.fork_server import fork_server
from tasks.machine import planning
from tasks.machine.outlook import Request, outlook
from tasks.machine.planning import StageFailedError
from tasks.machine.repairs import repairing
from tasks.machine.rounds import last_round
from tasks.settings.executor import ExecutorSettings
from tasks.settings.pipeline import PipelineSettings


def run(
    url: str,
    settings: PipelineSettings,
    executor: ExecutorSettings,
    request: Request,
    tell: Callable[[str], None] = print,
) -> None:
    """Runs the pipeline; where everything is up to date no server is started and nothing is recomputed."""
    store = Store(url)
    planned = repairing(store, lambda: outlook(store, settings, request), tell)
    todo = [one.stage for one in planned if one.state not in ("done", "kept")]
    if not todo:
        for one in planned:
            if one.work is not None:
                planning.point_to(one.work)
        tell("everything is up to date: nothing to compute")
        return

    def load() -> None:
        from flows import pipeline, stages  # noqa: F401

        if any(stage.uses_model for stage in todo):
            importlib.import_module("tasks.annotators.models")

    def compute() -> None:
        from flows.pipeline import pipeline
        from flows.run_stage import plans_at_hand

        if any(stage.kind == "training" for stage in todo):
            fork_server()
        with plans_at_hand(one.work for one in planned if one.work is not None):
            pipeline(
                store.url,
                settings.mapped(concealed),
                executor,
                start=request.start,
                until=request.until,
                force=request.force,
                retry_rejected=request.retry_rejected,
                refit=request.refit,
            )

    with_server(store, compute, load)


def verdict_lines(store: Store) -> list[str]:
    """What a run ends with: is the retrained model better, what does that rest on, and what was added."""
    from tasks.report.opening import lines

    return lines(store)


def with_server(store: Store, action: Callable[[], Any], meanwhile: Callable[[], None] = lambda: None) -> Any:
    """Calls ``action`` with a Prefect API to report to: the one that is configured, else a server for this call.

    ``meanwhile`` is called while such a server starts.
    """
    home = prefect_home(store)
    try_folders(store, home)
    with full_disk_told(store, home), local_prefect(home), alone(store):
        if os.environ.get("PREFECT_API_URL"):
            return action()
        from flows.local_server import local_server

        with local_server(str(home / "server.log"), settings=FOR_ONE_RUN, meanwhile=meanwhile):
            return action()


def try_folders(store: Store, home: Path) -> None:
    """Writes where a run will write for hours, before it starts. Raises OSError with a sentence where that fails."""
    if not store.is_local:
        user_folder()
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        raise OSError("no temporary file can be written: make room, or name a folder in TMPDIR") from error
    elsewhere = "name another with --store" if store.is_local else "name another home in the variable HOME"
    for folder in (*store.folders, home):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
                file.write(bytes(4096))
        except OSError as error:
            if full := full_disk.of(error, folder):
                raise full from error
            raise OSError(f"nothing can be written in the folder {folder} ({error.strerror}): {elsewhere}") from error


@contextlib.contextmanager
def full_disk_told(store: Store, home: Path) -> Iterator[None]:
    """Raises FullDiskError in place of what follows from a full disk, such as errors of Prefect's server."""
    try:
        yield
    except StageFailedError:
        raise
    except Exception as error:
        full = full_disk.of(error, *store.folders)
        if full is None and isinstance(error, (httpx.HTTPError, OSError)):
            full = full_disk.nothing_left(home)
        if full is None:
            raise
        raise full from error


@contextlib.contextmanager
def alone(store: Store) -> Iterator[None]:
    """Two runs would work on the same unfinished files. The lock of a run that was killed is free.

    Raises StoreError where another run of this machine works on the store.
    """
    home = prefect_home(store)
    home.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(home / "lock", timeout=0):
            yield
    except Timeout:
        raise StoreError(
            f"another run is working on the store {store.url}: wait until it has ended, or stop it"
        ) from None


def prefect_home(store: Store) -> Path:
    """Where Prefect keeps the history of a store's runs: within the store, or in the user's folder for a remote one."""
    if store.is_local:
        return Path(store.root) / ".prefect"
    return home_folder() / ".ram-engine" / store.url.partition("://")[2].rstrip("/").replace("/", "-")


def latest_model(store: Store) -> Snapshot | None:
    """The best model that a store holds: fine-tuned, retrained (the last round), baseline."""
    retrained = [of_round("ram", number) for number in range(last_round(store, "ram"), 0, -1)]
    for artifact in ("ram_fine_tuned", *retrained, "baseline"):
        snapshot = store.snapshot(artifact)
        if snapshot is not None and _is_tagger(snapshot):
            return snapshot
    return None


def _is_tagger(model: Snapshot) -> bool:
    """Whether the folder holds a tagger: an annotator that a package brought is one for the engine alone."""
    return str(model.settings.get("annotator", {}).get("kind", "trained")) in ("trained", "pretrained")


def serve_ui(
    store: Store, settings: PipelineSettings, executor: ExecutorSettings, port: int, tell: Callable[[str], None]
) -> None:
    """Prefect's UI over the store's history, and a runner that answers its Run buttons, until it is interrupted."""
    home = prefect_home(store)
    url = str(Path(store.root)) if store.is_local else store.url
    with local_prefect(home):
        from flows.guard import kept_secret
        from flows.local_server import local_server

        secret_file = home / "secret"
        secret = kept_secret(secret_file)  # the same at every start, so that a browser stays signed in
        with local_server(str(home / "server.log"), port, secret) as api:
            from flows.deployments import serve_deployments

            tell(signing_in(api.removesuffix("/api"), secret, secret_file, "/deployments"))
            tell("Ctrl-C stops it.")
            os.environ["RAM_ENGINE_EXIT_WITH_PARENT"] = "1"  # of the processes of runs, which Prefect starts
            serve_deployments(url, settings, executor)


def signing_in(origin: str, secret: str, file: Path, path: str = "/") -> str:
    """How a person opens the UI: a link that signs in, for a terminal alone; what is kept names the ``file``."""
    from flows.guard import link

    if sys.stdout.isatty():
        return f"Prefect's UI: {link(origin, secret, path)}"
    return f"Prefect's UI: {origin}{path} (user and password are in {file})"
