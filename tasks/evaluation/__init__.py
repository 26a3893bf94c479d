"""Measuring any tagger on any evaluation set."""
