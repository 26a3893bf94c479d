"""Where shards run, a file an executor: threads of this process, processes of this machine, actors on a Ray cluster.

All of them have one signature (:class:`~tasks.executors.executor.Executor`), and results never depend on the choice.
"""
