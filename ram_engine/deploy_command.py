"""`ram-engine deploy`: a store's deployments, with the settings it was made with, for a Prefect server that stays."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.terminal import Terminal
from ram_engine.options import StoreOption, default_store
from ram_engine.store_settings import settings_of_store
from storage.store import Store

console = Terminal(width=None if sys.stdout.isatty() else 200)  # pipes get whole rows


def deploy(
    store: StoreOption = default_store(),
    to: Annotated[str, typer.Option("--to", help="The file to write; by default prefect.yaml in the store.")] = "",
    register: Annotated[bool, typer.Option(help="Register them with the Prefect server, too.")] = True,
) -> None:
    """Write deployments with the store's own settings, and register them: <flow>/<the store's name>."""
    from flows import lasting_server
    from flows.deployments import deploy as registered
    from flows.deployments import deployment_file

    opened = Store(store, create=False)
    name = opened.url.rstrip("/").rsplit("/", 1)[-1]
    file = Path(to or (f"{opened.root}/prefect.yaml" if opened.is_local else f"prefect-{name}.yaml"))
    settings, executor = settings_of_store(store, console.print)
    url = str(Path(opened.root).resolve()) if opened.is_local else opened.url
    file.write_text(deployment_file(name, url, settings.absolute(), executor), encoding="utf-8")
    console.print(f"written: {file}")
    if not register:
        return
    here = lasting_server.place()
    if "PREFECT_API_URL" not in os.environ:
        if not lasting_server.answers(here):
            raise ValueError(
                "no Prefect server answers: start one with `ram-engine server start`, or set PREFECT_API_URL"
            )
        os.environ.update(lasting_server.environment(here))
    registered(file)
    console.print(f"registered: ram-data-engine/{name}, refresh/{name} and one for each stage")
