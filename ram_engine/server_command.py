"""`ram-engine server`: Prefect's server for a store that lives, with a secret, started, stopped and asked for."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from flows import lasting_server
from ram_engine import runs

app = typer.Typer(help="Prefect's server for work that goes on: deployments, schedules, workers.", no_args_is_help=True)


@app.command()
def start(
    port: Annotated[int, typer.Option(help="Where it answers, on this machine alone.")] = 4200,
    origin: Annotated[
        str, typer.Option(help="Where people reach it through a TLS proxy on this machine: https://prefect.example.org")
    ] = "",
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Serve in this process, for systemd or a container.")
    ] = False,
) -> None:
    """Start it in the background, with a log file, and wait until it is healthy."""
    here = lasting_server.place()
    if foreground:
        lasting_server.run(here, port, origin)
        return
    lasting_server.start(here, port, origin)
    print(f"Prefect's server runs; its log is {here.log}")
    _tell(here)


@app.command()
def status() -> None:
    """Say where it runs and how to sign in; ends 1 where it does not answer."""
    here = lasting_server.place()
    if not lasting_server.answers(here):
        print(f"no server answers; what it said last is in {here.log}" if here.log.is_file() else "no server runs")
        raise typer.Exit(1)
    _tell(here)


@app.command()
def stop() -> None:
    """Stop it; what it knows stays."""
    print("stopped" if lasting_server.stop(lasting_server.place()) else "no server runs")


@app.command()
def environment() -> None:
    """Print what Prefect's commands and workers need, for a shell: eval "$(ram-engine server environment)"."""
    for name, value in lasting_server.environment(lasting_server.place()).items():
        print(f"export {name}={shlex.quote(value)}")


def _tell(here: lasting_server.Place) -> None:
    print(runs.signing_in(here.origin, here.secret, here.secret_file))
