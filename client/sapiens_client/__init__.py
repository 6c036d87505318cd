"""Python SDK of Sapiens on Triton."""

from sapiens_client.analysis import Analysis
from sapiens_client.async_client import AsyncSapiensClient
from sapiens_client.bulk_items import Item
from sapiens_client.client import SapiensClient
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
from sapiens_client.inventory import ModelCard, StepLoad
from sapiens_client.options import ClientOptions
from sapiens_client.questions import AnalysisTask
from sapiens_client.results import Result, Timing
from sapiens_client.results_dense import DepthResult, FeatureResult, NormalResult, SegmentationResult
from sapiens_client.results_people import DetectionResult, Keypoint, Person, PoseResult
from sapiens_client.security import TLS
from sapiens_core.model_info import ModelInfo

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
