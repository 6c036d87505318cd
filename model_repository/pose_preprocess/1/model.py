from sapiens_core.triton.persons import TritonPythonModel

__all__ = ["TritonPythonModel"]
