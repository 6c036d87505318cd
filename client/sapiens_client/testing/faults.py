"""What a real server answers instead of a result, as Triton 2.51 words it."""

from __future__ import annotations

from enum import Enum

import grpc

from sapiens_core.recipes.combined import PEOPLE_POSE

UNKNOWN_ID = "<id_unknown>"  # what Triton calls a request without an id


class RefusedError(Exception):
    """A call ends without a result.

    Args:
        code: gRPC's status.
        text: What the caller is told.
        after_s: How long the server works before it says so, seconds.
    """

    def __init__(self, code: grpc.StatusCode, text: str, after_s: float = 0.0) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.after_s = after_s


class Fault(Enum):
    """A failure of a server; `code` is gRPC's status, `text` what it says, see `filled`.

    Attributes:
        QUEUE_FULL: Too many requests wait.
        QUEUE_TIMEOUT: The request has waited too long.
        DEAD_STUB: A process of the Python backend has ended.
        INTERNAL: The network raised an error.
        UNAVAILABLE: The server starts or ends.
        EXITING: The server ends.
        NO_VERSIONS: The server ends, and the model is gone already.
        UNKNOWN_MODEL: There is no such model.
        RESTRICTED: The token is wrong or missing.
    """

    QUEUE_FULL = (grpc.StatusCode.UNAVAILABLE, "{in}[request id: {id}] Exceeds maximum queue size")
    QUEUE_TIMEOUT = (grpc.StatusCode.UNAVAILABLE, "{in}Request timeout expired")
    DEAD_STUB = (grpc.StatusCode.INTERNAL, "{in}Stub process '{step}_0_0' is not healthy.")
    INTERNAL = (grpc.StatusCode.INTERNAL, "{in}RuntimeError: the network fell over")
    UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, "Server not ready")
    EXITING = (grpc.StatusCode.UNAVAILABLE, "Server exiting")
    NO_VERSIONS = (
        grpc.StatusCode.NOT_FOUND,
        "Request for unknown model: '{model}' has no available versions",
    )
    UNKNOWN_MODEL = (grpc.StatusCode.NOT_FOUND, "Request for unknown model: '{model}' is not found")
    RESTRICTED = (
        grpc.StatusCode.UNAVAILABLE,
        "This protocol is restricted, expecting header '{header}'",
    )

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        self.code = code
        self.text = text

    def error(self, model: str = "", request_id: str = "") -> RefusedError:
        """Return the failure of a call.

        Args:
            model: Name of the model that was asked; empty: none was.
            request_id: The caller's id of the request; empty: it has none.
        """
        return RefusedError(self.code, filled(self.text, model, request_id))


TOKEN_HEADER = "triton-grpc-protocol-authorization"


def filled(text: str, model: str, request_id: str) -> str:
    """Return a text with {model}, {id}, {step}, {in} and {header} filled in; other braces stay.

    Args:
        text: What the server says.
        model: Name of the model that was asked; it becomes {model}, {in} says that it is an ensemble, and
            {step} is one of its processes.
        request_id: The caller's id of the request; empty: it has none.
    """
    is_ensemble = model not in ("", PEOPLE_POSE.name)
    values = {
        "{in}": f"in ensemble '{model}', " if is_ensemble else "",
        "{step}": f"{model}_postprocess" if is_ensemble else model,
        "{model}": model,
        "{id}": request_id or UNKNOWN_ID,
        "{header}": TOKEN_HEADER,
    }
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def invalid(text: str) -> RefusedError:
    """Return the error of a call that asks for what there is not, or in the wrong way."""
    return RefusedError(grpc.StatusCode.INVALID_ARGUMENT, text)
