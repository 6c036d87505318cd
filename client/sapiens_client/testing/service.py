"""Triton's gRPC service on fake models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import grpc
from tritonclient.grpc import service_pb2

from sapiens_client.testing.answers import answer, halved
from sapiens_client.testing.checks import VERSION, checked_inputs, found_model, wanted_outputs
from sapiens_client.testing.faults import Fault, RefusedError, invalid
from sapiens_client.testing.messages import (
    infer_reply,
    model_config,
    model_metadata,
    model_statistics,
    repository_index,
    server_metadata,
)
from sapiens_client.testing.traffic import Request, Traffic, Visit

if TYPE_CHECKING:
    from sapiens_client.testing.models import FakeModel, Networks

_SERVICE = "inference.GRPCInferenceService"
# What a server that is about to end still answers as before; whatever it was asked before it finishes.
_ALWAYS = "ServerMetadata"
# What `--grpc-restricted-protocol=inference,metadata:...` keeps for those who know the token.
_RESTRICTED = ("ModelInfer", "ModelMetadata", "ServerMetadata")


class FakeService:
    """Answers of one server.

    Args:
        models: By name.
        networks: What they can do.
        traffic: What calls are noted in, and what else shall happen to them.
    """

    def __init__(self, models: Mapping[str, FakeModel], networks: Networks, traffic: Traffic) -> None:
        self._models = models
        self._networks = networks
        self._traffic = traffic
        self._answers: Mapping[str, Callable[[Any], Any]] = {
            "ServerLive": lambda _: service_pb2.ServerLiveResponse(live=True),
            "ServerReady": lambda _: service_pb2.ServerReadyResponse(ready=True),
            "ServerMetadata": lambda _: server_metadata(),
            "RepositoryIndex": lambda _: repository_index(self._models),
            "ModelReady": self._model_ready,
            "ModelMetadata": lambda message: model_metadata(self._asked(message)),
            "ModelStatistics": lambda _: model_statistics(
                self._models.values(),
                (each.model for each in self._traffic.requests if each.method == "ModelInfer"),
            ),
            "ModelConfig": lambda message: model_config(self._asked(message)),
            "ModelInfer": self._inferred,
        }

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods that it has."""
        return tuple(self._answers)

    def handler(self) -> grpc.GenericRpcHandler[Any, Any]:
        """Return what a gRPC server needs of it."""
        return grpc.method_handlers_generic_handler(
            _SERVICE,
            {
                method: grpc.unary_unary_rpc_method_handler(
                    self._behaviour(method),
                    request_deserializer=getattr(service_pb2, f"{method}Request").FromString,
                    response_serializer=lambda message: message.SerializeToString(),
                )
                for method in self._answers
            },
        )

    def _behaviour(self, method: str) -> Callable[[Any, grpc.ServicerContext], Any]:
        def behave(message: Any, context: grpc.ServicerContext) -> Any:
            visit = self._traffic.enter(Request.of(method, message, context), context)
            try:
                self._check_let_in(visit)
                reply = self._infer(visit, message) if method == "ModelInfer" else self._tell(visit, message)
            except RefusedError as error:
                visit.is_answered = not visit.has_left
                context.abort(error.code, error.text)
            visit.is_answered = not visit.has_left
            return reply

        return behave

    def _tell(self, visit: Visit, message: Any) -> Any:
        self._traffic.wait(visit, 0.0)
        return self._answers[visit.request.method](message)

    def _infer(self, visit: Visit, message: Any) -> Any:
        with self._traffic.place(visit.request):
            self._traffic.wait(visit, self._traffic.latency_s)
            return self._answers["ModelInfer"](message)

    def _check_let_in(self, visit: Visit) -> None:
        request = visit.request
        required = self._traffic.required
        if required and request.method in _RESTRICTED:
            header, value = required
            if request.metadata.get(header) != value:
                raise RefusedError(Fault.RESTRICTED.code, Fault.RESTRICTED.text.replace("{header}", header))
        if (failure := self._traffic.due(request)) is not None:
            if failure.after_s:
                self._traffic.wait(visit, failure.after_s)
            raise failure
        if self._traffic.is_draining and request.method != _ALWAYS:
            raise self._farewell(request)

    def _farewell(self, request: Request) -> RefusedError:
        if request.method in ("ServerLive", "ServerReady"):
            return Fault.EXITING.error()
        if request.method in ("ModelReady", "RepositoryIndex"):
            return Fault.UNAVAILABLE.error()
        fault = Fault.NO_VERSIONS if request.model in self._models else Fault.UNKNOWN_MODEL
        return fault.error(request.model)

    def _asked(self, message: Any) -> FakeModel:
        return found_model(self._models, message.name, message.version)

    def _model_ready(self, message: Any) -> Any:
        is_ready = message.name in self._models and message.version in ("", VERSION)
        return service_pb2.ModelReadyResponse(ready=is_ready)

    def _inferred(self, message: Any) -> Any:
        model = found_model(self._models, message.model_name, message.model_version)
        wanted, inputs = wanted_outputs(message, model), checked_inputs(message, model)
        if not model.tasks:
            raise RefusedError(
                grpc.StatusCode.UNIMPLEMENTED,
                f"a fake server answers only what clients call, got {model.name!r}; ask the ensemble",
            )
        try:
            arrays = answer(model, inputs, wanted, self._networks)
        except ValueError as error:
            raise invalid(f"in ensemble '{model.name}', {error}" if model.steps else str(error)) from error
        return infer_reply(message, wanted, halved(message, model, arrays))
