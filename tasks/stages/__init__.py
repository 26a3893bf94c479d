"""The stages of the pipeline, a module each, called as the stage is."""
