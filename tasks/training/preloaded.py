"""What a fork server of trainings loads ahead; it minds the end of its parent only when all is loaded."""

import atexit
import os

from tasks.executors.parents import ending_with_parent

with ending_with_parent():
    import tasks.training.jobs  # noqa: F401

atexit.register(os._exit, 0)  # it has nothing to put in order, and torch would take seconds to
