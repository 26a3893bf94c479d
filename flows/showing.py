"""What a run shows in Prefect beside its work. A server that refuses, hangs or is away costs no run its work."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any

from prefect import get_run_logger

from flows.progress import console
from storage.markdown import plain

PATIENCE_SECONDS = 20.0  # for one artifact; the server has answered within a second so far, or not at all


def show(create: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    """Calls one of Prefect's ``create_*_artifact``; what hinders it is said in a line, and the run goes on.

    A ``description`` is text: Prefect, which takes it for Markdown, shows it as it is.
    """
    if "description" in named:
        named["description"] = plain(named["description"])
    failed: list[BaseException] = []

    def call() -> None:
        try:
            create(*arguments, **named)
        except BaseException as error:
            failed.append(error)

    # A daemon: the process of a run ends, although the server never answers.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(call,), daemon=True, name="artifact")
    thread.start()
    thread.join(PATIENCE_SECONDS)
    if thread.is_alive():
        failed.append(TimeoutError(f"no answer within {PATIENCE_SECONDS:.0f} s"))
    if failed:
        reason = str(failed[0]).splitlines()[0] if str(failed[0]) else type(failed[0]).__name__
        told = f"Prefect's server did not take the artifact {named.get('key', '')}: {reason}".replace("  ", " ")
        console.print(f"  {told}")
        get_run_logger().warning("%s", told)
