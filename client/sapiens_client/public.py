"""What programs import from `sapiens_client`, which loads it when they do."""

from sapiens_client.async_client import AsyncSapiensClient
from sapiens_client.bulk.items import Item
from sapiens_client.bulk.tasks import MapOptions
from sapiens_client.client import SapiensClient
from sapiens_client.connection.identity import TLS, Pem, Token
from sapiens_client.connection.options import (
    CallOptions,
    ChannelOrder,
    ClientOptions,
    Compression,
    FloatType,
    Output,
)
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
from sapiens_client.results.coco import CocoDetection, CocoKeypoints, CocoSegmentation, Rle
from sapiens_client.results.dense import FeatureResult, NormalResult, SegmentationResult
from sapiens_client.results.depth import DepthResult, MetricDepth
from sapiens_client.results.detections import Detection, DetectionResult
from sapiens_client.results.matting import AlbedoResult, Background, MattingResult
from sapiens_client.results.models import ModelCard, StepLoad
from sapiens_client.results.openpose import OpenPoseBody, OpenPoseFrame, OpenPosePerson
from sapiens_client.results.people import Keypoint, Person, PoseResult
from sapiens_client.results.pointmap import PointmapResult
from sapiens_client.results.saving import ImageId
from sapiens_client.tasks.analyze import Analysis
from sapiens_client.tasks.boxes import Boxes
from sapiens_client.tasks.images import ImageLike
from sapiens_client.tasks.table import AnalysisTask, TaskName
from sapiens_client.video.decoding import VideoInfo
from sapiens_client.video.frames import VideoFrame
from sapiens_client.video.run import AsyncVideo, Video
from sapiens_client.video.sources import VideoSource
from sapiens_client.video.wishes import VideoOptions
from sapiens_core.contract.model_info import ModelInfo
from sapiens_core.labels import ClassSet, KeypointSet
from sapiens_core.motion.one_euro import OneEuro
from sapiens_core.surfaces.alignment import Alignment

__all__ = [
    "TLS",
    "AlbedoResult",
    "Alignment",
    "Analysis",
    "AnalysisTask",
    "AsyncSapiensClient",
    "AsyncVideo",
    "AuthenticationError",
    "Background",
    "Boxes",
    "CallOptions",
    "ChannelOrder",
    "ClassSet",
    "ClientClosedError",
    "ClientOptions",
    "CocoDetection",
    "CocoKeypoints",
    "CocoSegmentation",
    "Compression",
    "DepthResult",
    "Detection",
    "DetectionResult",
    "FeatureResult",
    "FloatType",
    "ImageId",
    "ImageLike",
    "ImageNotFoundError",
    "ImageReadError",
    "InferenceError",
    "InvalidInputError",
    "Item",
    "Keypoint",
    "KeypointSet",
    "MapOptions",
    "MattingResult",
    "MetricDepth",
    "ModelCard",
    "ModelInfo",
    "ModelNotServedError",
    "NormalResult",
    "OneEuro",
    "OpenPoseBody",
    "OpenPoseFrame",
    "OpenPosePerson",
    "Output",
    "Pem",
    "Person",
    "PointmapResult",
    "PoseResult",
    "RequestTimeoutError",
    "Result",
    "Rle",
    "SapiensClient",
    "SapiensError",
    "SegmentationResult",
    "ServerOverloadedError",
    "ServerUnavailableError",
    "StepLoad",
    "TLSError",
    "TaskName",
    "Timing",
    "Token",
    "Video",
    "VideoFrame",
    "VideoInfo",
    "VideoOptions",
    "VideoSource",
]
