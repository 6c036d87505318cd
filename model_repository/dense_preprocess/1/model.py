from sapiens_core.triton.image import TritonPythonModel

__all__ = ["TritonPythonModel"]
