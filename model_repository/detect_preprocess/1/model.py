"""Written by `sapiens export`; what it does is in config.pbtxt."""

from sapiens_core.triton.image import TritonPythonModel

__all__ = ["TritonPythonModel"]
