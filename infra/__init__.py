"""Declarations around the pipeline: the demo, DVC's stages, the served model."""
