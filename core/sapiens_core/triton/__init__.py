"""Inside Triton's Python backend: for every kind of step, the class that Triton makes one of.

The `1/model.py` of a model only names the module of its kind; all else is in its config.
"""
