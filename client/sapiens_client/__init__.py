"""Python SDK of Sapiens on Triton."""

from sapiens_client.async_client import AsyncSapiensClient
from sapiens_client.bulk.items import Item
from sapiens_client.client import SapiensClient
from sapiens_client.connection.identity import TLS
from sapiens_client.connection.options import ClientOptions
from sapiens_client.errors import (
    AuthenticationError,
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
    TLSError,
)
from sapiens_client.results.base import Result, Timing
from sapiens_client.results.dense import DepthResult, FeatureResult, NormalResult, SegmentationResult
from sapiens_client.results.people import DetectionResult, Keypoint, Person, PoseResult
from sapiens_client.tasks.analyze import Analysis
from sapiens_client.tasks.models import ModelCard, StepLoad
from sapiens_client.tasks.questions import AnalysisTask
from sapiens_core.contract.model_info import ModelInfo

__all__ = [
    "TLS",
    "Analysis",
    "AnalysisTask",
    "AsyncSapiensClient",
    "AuthenticationError",
    "ClientClosedError",
    "ClientOptions",
    "DepthResult",
    "DetectionResult",
    "FeatureResult",
    "ImageNotFoundError",
    "ImageReadError",
    "InferenceError",
    "InvalidInputError",
    "Item",
    "Keypoint",
    "ModelCard",
    "ModelInfo",
    "ModelNotServedError",
    "NormalResult",
    "Person",
    "PoseResult",
    "RequestTimeoutError",
    "Result",
    "SapiensClient",
    "SapiensError",
    "SegmentationResult",
    "ServerOverloadedError",
    "ServerUnavailableError",
    "StepLoad",
    "TLSError",
    "Timing",
]
