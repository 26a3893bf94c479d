"""Prefect's settings for runs on one machine. They must be in the environment before Prefect is first imported."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

SERVER = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    # what a killed run held of a concurrency limit is known to the next server too, and runs out
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
}
FOR_ONE_RUN = {  # of a server that ends with it: nobody sees a page of blocks, and to fill it takes two seconds
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",  # else a later server on the same folder takes it for done
}
LOCAL = {
    **SERVER,
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the command tells errors itself, in a sentence
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_CLI_PROMPT": "false",
}


@contextlib.contextmanager
def local_prefect(home: Path) -> Iterator[None]:
    """Keeps Prefect's history in ``home`` and sends nothing anywhere; what is set already stays as it is."""
    home.mkdir(parents=True, exist_ok=True)
    added = {name: value for name, value in {**LOCAL, "PREFECT_HOME": str(home)}.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
