"""Models and arrays as Triton's messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import np_to_triton_dtype

from sapiens_client.testing.checks import VERSION
from sapiens_core.contract.steps import step_maps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_client.testing.models import FakeModel

SERVER_NAME, SERVER_VERSION = "fake", "2.51.0"


def server_metadata() -> Any:
    """Return what the server says about itself."""
    return service_pb2.ServerMetadataResponse(
        name=SERVER_NAME,
        version=SERVER_VERSION,
        extensions=["model_repository", "model_configuration", "statistics"],
    )


def repository_index(names: Iterable[str]) -> Any:
    """Return the list of all models."""
    reply = service_pb2.RepositoryIndexResponse()
    for name in sorted(names):
        reply.models.add(name=name, version=VERSION, state="READY")
    return reply


def model_statistics(models: Iterable[FakeModel], asked: Iterable[str]) -> Any:
    """Return how often every model answered; it never took any time.

    Args:
        models: All models.
        asked: Names of the models in the requests for inference, one a request.
    """
    counts: Counter[str] = Counter()
    ensembles = {model.name: model for model in models}
    for name in asked:
        if name in ensembles:
            counts.update([name, *(step.name for step in ensembles[name].steps)])
    reply = service_pb2.ModelStatisticsResponse()
    for name in sorted(ensembles):
        statistics = reply.model_stats.add(name=name, version=VERSION, inference_count=counts[name])
        for part in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
            getattr(statistics.inference_stats, part).count = counts[name]
    return reply


def model_metadata(model: FakeModel) -> Any:
    """Return a model's tensors."""
    reply = service_pb2.ModelMetadataResponse(
        name=model.name, versions=[VERSION], platform="ensemble" if model.steps else "python"
    )
    batch = [-1] if model.max_batch_size else []
    for tensors, field in ((model.inputs, reply.inputs), (model.outputs, reply.outputs)):
        for tensor in tensors:
            field.add(name=tensor.name, datatype=tensor.dtype, shape=[*batch, *model.shape(tensor)])
    return reply


def model_config(model: FakeModel) -> Any:
    """Return a model's config, as far as clients can make use of it."""
    config = model_config_pb2.ModelConfig(name=model.name, max_batch_size=model.max_batch_size)
    config.platform, config.backend = ("ensemble", "") if model.steps else ("", "python")
    for tensor in model.inputs:
        config.input.add(
            name=tensor.name,
            data_type=f"TYPE_{tensor.dtype}",
            dims=model.shape(tensor),
            optional=tensor.is_optional,
        )
    for tensor in model.outputs:
        config.output.add(name=tensor.name, data_type=f"TYPE_{tensor.dtype}", dims=model.shape(tensor))
    for name, value in model.parameters.items():
        config.parameters[name].string_value = value
    for step, maps in zip(model.steps, step_maps(model.steps, model.outputs), strict=True):
        config.ensemble_scheduling.step.add(
            model_name=step.name, model_version=-1, input_map=maps.inputs, output_map=maps.outputs
        )
    return service_pb2.ModelConfigResponse(config=config)


def infer_reply(request: Any, names: Iterable[str], arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Return output tensors as the answer to a request.

    Args:
        request: The `ModelInferRequest`.
        names: Of the arrays to return.
        arrays: By name, of any shape.
    """
    reply = service_pb2.ModelInferResponse(
        model_name=request.model_name, model_version=VERSION, id=request.id
    )
    for name in names:
        array = arrays[name]
        reply.outputs.add(name=name, datatype=np_to_triton_dtype(array.dtype), shape=array.shape)
        reply.raw_output_contents.append(np.ascontiguousarray(array).tobytes())
    return reply
