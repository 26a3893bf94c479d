"""Prefect flows: one a stage, and the pipeline that chains them."""

import os

from tasks.executors.parents import exit_with

if os.environ.get("RAM_ENGINE_EXIT_WITH_PARENT"):  # here, since Prefect starts processes that run flows as well
    exit_with(os.getppid())
