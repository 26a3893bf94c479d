"""Every setting of every stage, a file a stage, as frozen pydantic models: forms are drawn from them, keys hash them.

A setting in a stage's model changes what the stage computes, and so its key. What only changes how fast it is
computed (workers, device, batch sizes) is in :mod:`tasks.settings.executor` and enters no key.
"""
