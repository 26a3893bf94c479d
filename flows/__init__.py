"""Prefect flows: one a stage, and the pipeline that chains them."""
