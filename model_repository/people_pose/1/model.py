from sapiens_core.triton.people import TritonPythonModel

__all__ = ["TritonPythonModel"]
