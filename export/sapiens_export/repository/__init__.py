"""Engines to a model repository that Triton can load."""
