from sapiens_core.triton.engine import TritonPythonModel

__all__ = ["TritonPythonModel"]
