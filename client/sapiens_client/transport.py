"""One gRPC channel to one Triton server: named arrays in, named arrays or an error of the tree out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from sapiens_client.errors import (
    ClientClosedError,
    InferenceError,
    InvalidInputError,
    ModelNotServedError,
    RequestTimeoutError,
    SapiensError,
    ServerOverloadedError,
    ServerUnavailableError,
)
from sapiens_client.served_model import ServedModel
from sapiens_client.transport_wire import decoded_reply, encoded_request

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_client.deadline import Deadline

_INFER = "/inference.GRPCInferenceService/ModelInfer"

_CHANNEL_OPTIONS = (
    # With http_proxy set gRPC would send even the requests to this machine through the proxy.
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # In fact the time limit for connecting, by default 20 s; it ends waiting for a port that stays silent.
    ("grpc.min_reconnect_backoff_ms", 5000),
    # Between attempts to connect calls fail at once, by default for up to 2 minutes after a server is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)

_KIND_OF_STATUS: Mapping[grpc.StatusCode, type[SapiensError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInputError,
    grpc.StatusCode.NOT_FOUND: ModelNotServedError,
    grpc.StatusCode.UNAVAILABLE: ServerUnavailableError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ServerOverloadedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: RequestTimeoutError,
    grpc.StatusCode.CANCELLED: ClientClosedError,
}

# Triton answers these with UNAVAILABLE, as if it were not there; only the text tells.
_KIND_OF_UNAVAILABLE: Mapping[str, type[SapiensError]] = {
    "Exceeds maximum queue size": ServerOverloadedError,
    "Request timeout expired": RequestTimeoutError,
}

_SENTENCES: Mapping[type[SapiensError], str] = {
    InvalidInputError: "{text}",
    ModelNotServedError: (
        "{url} must serve the model '{model}', got: {text}; "
        "wait if the server is starting or stopping, else add the model with `sapiens export`"
    ),
    ServerUnavailableError: (
        "a Triton server must answer at {url}, got: {text}; "
        "start it with `sapiens serve`, wait until it is ready, and use its gRPC port"
    ),
    ServerOverloadedError: "{url} must have room for the request, got: {text}; send fewer or try later",
    RequestTimeoutError: "{url} must answer within {timeout_s:g} s, got: {text}; allow more with timeout_s",
    ClientClosedError: "the client must stay open until its calls are answered, got: {text}; use a new one",
    InferenceError: "{url} must answer with a result of '{model}', got {code}: {text}; see the server's log",
}

_NOISE = re.compile(
    r"^(in ensemble '[^']*', |\[request id: [^]]*\] |failed to connect to all addresses; last error: \w+: )*"
)


@dataclass(frozen=True)
class Reply:
    """The answer to one inference request.

    Attributes:
        arrays: Output tensors by name, read-only.
        request_bytes: Size of the request.
        response_bytes: Size of the reply.
    """

    arrays: Mapping[str, NDArray[Any]]
    request_bytes: int
    response_bytes: int


class Transport:
    """A channel to one server; any number of threads may share it.

    Args:
        url: `host:port` of the server's gRPC service, or another gRPC target such as `dns:///host:port`.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._channel = grpc.insecure_channel(url, options=_CHANNEL_OPTIONS)
        self._service = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._model_infer = self._channel.unary_unary(_INFER, None, None)

    def close(self) -> None:
        """Close the channel; calls that are under way end with a ClientClosedError."""
        self._channel.close()

    def is_ready(self, deadline: Deadline) -> bool:
        """Return whether the server answers and all its models are loaded."""
        request = service_pb2.ServerReadyRequest()
        try:
            return bool(self._call(self._service.ServerReady, request, "", deadline).ready)
        except ClientClosedError:
            raise
        except SapiensError:
            return False

    def served_model(self, model: str, deadline: Deadline) -> ServedModel:
        """Read a model's config.

        Raises:
            ModelNotServedError: The server has no such model.
        """
        request = service_pb2.ModelConfigRequest(name=model)
        config = self._call(self._service.ModelConfig, request, model, deadline).config
        return ServedModel(
            name=model,
            url=self._url,
            parameters={name: value.string_value for name, value in config.parameters.items()},
            output_dims={output.name: tuple(output.dims) for output in config.output},
        )

    def infer(
        self, model: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str], deadline: Deadline
    ) -> Reply:
        """Let a model compute.

        Args:
            model: Name of the model.
            inputs: Input tensors by name, each of the shape in the model's config.
            outputs: Names of the output tensors wanted; the server skips steps that only others need.
            deadline: When the answer must be here.

        Raises:
            SapiensError: No answer, or one without the outputs; each status of gRPC has its class.
        """
        request = encoded_request(model, inputs, outputs)
        reply = self._call(self._model_infer, request, model, deadline)
        arrays = self._decoded(reply, model)
        if missing := set(outputs) - arrays.keys():
            raise InferenceError(
                f"'{model}' at {self._url} must return {sorted(missing)}, got {sorted(arrays)}"
            )
        return Reply(arrays, request_bytes=len(request), response_bytes=len(reply))

    def _decoded(self, reply: bytes, model: str) -> dict[str, NDArray[Any]]:
        try:
            return decoded_reply(reply)
        except Exception as error:  # of numpy, protobuf or our own reading: the bytes are no message
            raise InferenceError(
                f"{self._url} must answer with a result of '{model}', got {len(reply)} bytes that are none: "
                f"{error!r}; use the gRPC port of a Triton server, and nothing between that changes replies"
            ) from error

    def _call(self, method: Callable[..., Any], request: Any, model: str, deadline: Deadline) -> Any:
        try:
            return method(request, timeout=deadline.left_s())
        except grpc.RpcError as error:
            raise self._error(error.code(), error.details() or "", model, deadline) from error
        except ValueError as error:  # how grpc refuses a channel that is closed
            raise self._error(grpc.StatusCode.CANCELLED, str(error), model, deadline) from error

    def _error(self, code: grpc.StatusCode, details: str, model: str, deadline: Deadline) -> SapiensError:
        text = _NOISE.sub("", details).partition("\n")[0]
        kind = _KIND_OF_STATUS.get(code, InferenceError)
        if kind is ServerUnavailableError:
            kind = next((kind for words, kind in _KIND_OF_UNAVAILABLE.items() if words in text), kind)
        sentence = _SENTENCES[kind]
        return kind(
            sentence.format(
                url=self._url, model=model, code=code.name, text=text, timeout_s=deadline.timeout_s
            )
        )
