"""Python SDK of Sapiens on Triton."""

from typing import TYPE_CHECKING, Any

__version__: str

if TYPE_CHECKING:
    from sapiens_client.public import *  # noqa: F403  which its `__all__` names
    from sapiens_client.public import __all__ as __all__
else:

    def __getattr__(name: str) -> Any:
        """Load the SDK when somebody asks for something of it: the command line tells its version without."""
        from importlib import import_module

        if name == "__version__":
            return import_module("sapiens_client.version").sdk_version()
        public = import_module("sapiens_client.public")
        if name == "__all__" or name in public.__all__:
            return getattr(public, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return [*globals(), *__getattr__("__all__")]
