"""Written by `sapiens export`; what it does is in config.pbtxt."""

from sapiens_core.triton.people import TritonPythonModel

__all__ = ["TritonPythonModel"]
