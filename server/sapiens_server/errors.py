"""Why a server could not be started or kept running."""


class ServerError(RuntimeError):
    """Root of what `serve` and a running server raise."""


class ServerNotFoundError(ServerError):
    """There is no tritonserver, or this machine or interpreter cannot run the bundled one."""


class RepositoryError(ServerError):
    """The model repository does not exist or holds no model."""


class EngineError(ServerError):
    """The server at hand cannot run an engine of the repository."""


class GpuError(ServerError):
    """The GPUs of this machine cannot be used."""


class UntoldGpuError(GpuError):
    """There are GPUs, about which nobody can tell."""


class AddressError(ServerError):
    """The server cannot listen on this address, or must not."""


class PortInUseError(AddressError):
    """A port that was asked for is taken."""


class ServerStartError(ServerError):
    """The server ended, hung or took too long before it was ready."""


class ServerDiedError(ServerError):
    """The server was ready and then ended without being told to."""
