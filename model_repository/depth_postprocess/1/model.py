from sapiens_core.triton.finish import TritonPythonModel

__all__ = ["TritonPythonModel"]
