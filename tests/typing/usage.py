"""How people's programs use the SDK: type-checked, not run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

from sapiens_client import (
    AlbedoResult,
    Analysis,
    AnalysisTask,
    AsyncSapiensClient,
    Boxes,
    CallOptions,
    ClassSet,
    CocoKeypoints,
    DepthResult,
    Detection,
    DetectionResult,
    FeatureResult,
    ImageLike,
    KeypointSet,
    MattingResult,
    NormalResult,
    OpenPoseFrame,
    Person,
    PointmapResult,
    PoseResult,
    RequestTimeoutError,
    Result,
    SapiensClient,
    SapiensError,
    SegmentationResult,
    TaskName,
    Timing,
    Token,
    Video,
    VideoFrame,
    __version__,
)


def every_task(image: NDArray[np.uint8]) -> None:
    with SapiensClient("gpu-1:8001", timeout_s=10) as client:
        assert_type(client.ready(), bool)
        assert_type(client.depth(image), DepthResult)
        assert_type(client.depth("photo.jpg", model="depth_2b").depth, NDArray[np.float32])
        assert_type(client.normal(Path("photo.jpg")), NormalResult)
        assert_type(client.seg(b"the bytes of a file"), SegmentationResult)
        assert_type(client.pose(image, bboxes=[[1, 2, 3, 4]]), PoseResult)
        assert_type(client.features(image), FeatureResult)
        assert_type(client.pointmap(image), PointmapResult)
        assert_type(client.matting(image), MattingResult)
        assert_type(client.albedo(image, model="albedo_1b"), AlbedoResult)
        assert_type(client.detect(image), DetectionResult)
        assert_type(client.people(image, whole_image_if_nobody=True), PoseResult)
        analysis = client.analyze(image, tasks=("depth", "seg"))
        assert_type(analysis, Analysis)
        assert_type(analysis["depth"], Result)
        assert_type(analysis.depth, DepthResult)


def results(client: SapiensClient) -> tuple[Path, ...]:
    result: Result = client.depth("photo.jpg")
    assert_type(result.timing, Timing)
    assert_type(result.timing.total_s, float)
    assert_type(result.model.licence, str)
    assert_type(result.arrays(), dict[str, NDArray[Any]])
    pose = client.pose("photo.jpg")
    assert_type(pose.keypoints, NDArray[np.float32])
    for person in pose.persons:
        assert_type(person["left_elbow"].score, float)
    assert_type(pose[0], Person)
    assert_type(pose[pose.person_scores > 0.5], PoseResult)
    detections = client.detect("photo.jpg")
    assert_type(next(iter(detections)), Detection)
    assert_type(detections[detections.scores > 0.5][:3], DetectionResult)
    assert_type(client.pose("photo.jpg", detections), PoseResult)
    assert_type(pose.to("openpose25").to_openpose(), OpenPoseFrame)
    points = client.pointmap("photo.jpg")
    assert_type(points.focal_px, float)
    assert_type(points.valid, NDArray[np.bool_])
    assert_type(points.save("mesh.glb", edge_tolerance=0.04), tuple[Path, ...])
    assert_type(client.depth("photo.jpg").align_to(points), DepthResult)
    assert_type(client.depth("photo.jpg").align_to([[1, 2, 3.5]]).to_points(np.eye(3)), PointmapResult)
    client.matting("photo.jpg").composite((255, 255, 255)).save("portrait.png")
    assert_type(client.seg("photo.jpg").mask("Hair"), NDArray[np.bool_])
    assert_type(DepthResult.load("depth.npz"), DepthResult)
    assert_type(Result.load(Path("depth.npz")), Result)
    return result.save("depth.npz")


def names_of_types(image: ImageLike, boxes: Boxes, task: TaskName, token: Token) -> list[CocoKeypoints]:
    with SapiensClient("gpu-1:8001", token=token, tls=True) as client:
        assert_type(__version__, str)
        pose = client.pose(image, boxes)
        assert_type(pose.keypoint_set, KeypointSet)
        assert_type(client.seg(image).class_set, ClassSet)
        client.analyze(image, tasks=(task,))
        return pose.to_coco(image_id=1)


def many_images(client: SapiensClient, paths: list[Path], task: AnalysisTask) -> None:
    assert_type(next(client.map("depth", paths)).result, DepthResult)
    assert_type(next(client.map("normal", paths)).result, NormalResult)
    assert_type(next(client.map("seg", paths, ordered=False)).result, SegmentationResult)
    assert_type(next(client.map("features", paths)).result, FeatureResult)
    assert_type(next(client.map("pointmap", paths)).result, PointmapResult)
    assert_type(next(client.map("matting", paths)).result, MattingResult)
    assert_type(next(client.map("albedo", paths)).result, AlbedoResult)
    assert_type(next(client.map("detect", paths)).result, DetectionResult)
    assert_type(next(client.map("pose", paths)).result, PoseResult)
    assert_type(next(client.map("people", paths)).result, PoseResult)
    assert_type(next(client.map(task, paths, progress=True)).result, Result)
    assert_type(next(client.map("depth", paths, on_error="yield")).error, SapiensError | None)
    assert_type(next(client.map("pose", paths, bboxes=[None, [[1, 2, 3, 4]]])).result, PoseResult)
    assert_type(next(client.map("analyze", paths, tasks=("depth", "seg"))).result, Analysis)

    def faces(path: Path) -> NDArray[np.bool_]:
        return client.seg(path).mask("Face_Neck")

    assert_type(next(client.map(faces, paths)).result, NDArray[np.bool_])


def options_of_calls(client: SapiensClient, image: NDArray[np.uint8], options: CallOptions) -> None:
    opencv = client.with_options(channel_order="bgr", dtype="float16", headers={"x-team": "blue"})
    assert_type(opencv, SapiensClient)
    assert_type(opencv.depth(image, timeout_s=3, headers={"x-trace": "1f"}), DepthResult)
    assert_type(client.pose("https://example.org/photo.jpg", **options), PoseResult)
    client.warm_up("depth", "seg", timeout_s=20)


async def on_an_event_loop(image: NDArray[np.uint8], paths: list[Path]) -> None:
    async with AsyncSapiensClient(["gpu-1:8001", "gpu-2:8001"], token="secret", tls=True) as client:
        assert_type(await client.depth(image), DepthResult)
        assert_type(await client.analyze(image, tasks=("depth", "seg")), Analysis)
        async for item in client.map("seg", paths, on_error="yield"):
            assert_type(item.result, SegmentationResult)


def misspelt(client: SapiensClient, paths: list[Path]) -> None:
    client.map("depht", paths)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    client.analyze("photo.jpg", tasks=("depht",))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.depth("photo.jpg", timeot_s=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.map("depth", paths, concurency=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


def errors(client: SapiensClient) -> str:
    try:
        client.depth("photo.jpg")
    except RequestTimeoutError as error:
        timeout: TimeoutError = error
        return str(timeout)
    except SapiensError as error:
        return str(error)
    return ""


def videos(client: SapiensClient) -> None:
    with client.video("clip.mp4", tasks=("people", "seg"), every=2, smooth=True) as video:
        assert_type(video, Video)
        for frame in video:
            assert_type(frame, VideoFrame)
            assert_type(frame.results.people, PoseResult)
            assert_type(frame.track_ids, NDArray[np.int64] | None)


async def awaited_videos(client: AsyncSapiensClient) -> None:
    async for frame in client.video(0, tasks="detect"):
        assert_type(frame.results.detect, DetectionResult)
