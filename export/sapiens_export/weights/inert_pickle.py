"""A pickle module for `torch.load` that rebuilds tensors and nothing else."""

from __future__ import annotations

import pickle
from typing import Any


class Inert:
    """Stands for any object that a checkpoint names beside its tensors; accepts everything, does nothing."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Inert:
        """Take whatever the object was made of."""
        return super().__new__(cls)

    def __call__(self, *_args: Any, **_kwargs: Any) -> Inert:
        """Return itself."""
        return self

    def __setstate__(self, _state: Any) -> None: ...

    def __setitem__(self, _key: Any, _value: Any) -> None: ...

    def append(self, _value: Any) -> None:
        """Do nothing."""


class Unpickler(pickle.Unpickler):
    """Finds what rebuilds tensors, and `Inert` for every other name."""

    _ALLOWED = frozenset(
        {
            ("collections", "OrderedDict"),
            ("torch._utils", "_rebuild_tensor_v2"),
            ("torch._utils", "_rebuild_parameter"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name in the file stands for."""
        return super().find_class(module, name) if (module, name) in self._ALLOWED else Inert


def load(file: Any, **options: Any) -> Any:
    """Read one pickle of a file, as torch's older format has several; options are those of `pickle`."""
    return Unpickler(file, **options).load()
