"""Python SDK of Sapiens on Triton."""

from sapiens_client.client import SapiensClient
from sapiens_client.errors import (
    ClientClosedError,
    ImageNotFoundError,
    ImageReadError,
    InferenceError,
    InvalidInputError,
    ModelNotServedError,
    RequestTimeoutError,
    SapiensError,
    ServerOverloadedError,
    ServerUnavailableError,
)
from sapiens_client.results import DepthResult, Timing
from sapiens_core.model_info import ModelInfo

__all__ = [
    "ClientClosedError",
    "DepthResult",
    "ImageNotFoundError",
    "ImageReadError",
    "InferenceError",
    "InvalidInputError",
    "ModelInfo",
    "ModelNotServedError",
    "RequestTimeoutError",
    "SapiensClient",
    "SapiensError",
    "ServerOverloadedError",
    "ServerUnavailableError",
    "Timing",
]
