from __future__ import annotations

import asyncio
import threading
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clips import number_of, numbered, write_clip

from sapiens_client import (
    AsyncSapiensClient,
    ImageNotFoundError,
    ImageReadError,
    InferenceError,
    InvalidInputError,
    SapiensClient,
)
from sapiens_client.testing import FakeServer
from sapiens_client.testing.faults import Fault
from sapiens_client.video.decoding import Reader
from sapiens_client.video.live import newest
from sapiens_client.video.sources import opening

NUM_FRAMES = 12


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", numbered(NUM_FRAMES))


@pytest.fixture(scope="module")
def fake():
    with FakeServer(persons=2) as server:
        yield server


@pytest.fixture
def fake_client(fake):
    with SapiensClient(fake.url) as client:
        yield client
    fake.recover()


def decoded(path, **options):
    with Reader(path) as reader:
        return list(reader.frames(**options))


def same(result, other):
    assert type(result) is type(other)
    for name, array in result.arrays().items():
        np.testing.assert_array_equal(array, other.arrays()[name], err_msg=name)


def test_a_video_is_what_map_says_of_its_frames_in_their_order(client, clip):
    with client.video(clip, tasks=("depth", "people"), concurrency=3) as video:
        frames = list(video)
    assert [frame.index for frame in frames] == list(range(NUM_FRAMES))
    assert [number_of(frame.image) for frame in frames] == list(range(NUM_FRAMES))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(NUM_FRAMES) / 25, atol=1e-6)
    images = [frame.image for frame in decoded(clip)]
    for frame, depth, people in zip(
        frames, client.map("depth", images), client.map("people", images), strict=True
    ):
        same(frame.results.depth, depth.result)
        same(frame.results.people, people.result)
        assert frame.track_ids.tolist() == list(range(1, 1 + len(people.result)))
    assert video.problem is None


def test_event_loops_get_the_same(client, url, clip):
    async def watched():
        async with AsyncSapiensClient(url) as other, other.video(clip, tasks="people", every=2) as video:
            assert (await video.open()).num_frames == NUM_FRAMES
            return [frame async for frame in video]

    frames = asyncio.run(watched())
    expected = list(client.video(clip, tasks="people", every=2))
    assert [frame.index for frame in frames] == [frame.index for frame in expected] == list(range(0, 12, 2))
    for frame, other in zip(frames, expected, strict=True):
        same(frame.results.people, other.results.people)
        np.testing.assert_array_equal(frame.track_ids, other.track_ids)


def test_frames_are_taken_as_they_are_wanted(client, clip):
    with client.video(clip, tasks="detect", concurrency=2) as video:
        next(video)
        assert video._reader.num_decoded <= 5
    assert next(video, None) is None


@pytest.mark.parametrize(
    "options",
    [{}, {"smooth": True, "smooth_maps": 0.5}, {"det_frequency": 4}],
    ids="-".join,
)
def test_frames_that_were_handed_back_are_let_go(fake_client, clip, options):
    pixels = []
    with fake_client.video(clip, tasks=("people", "depth"), concurrency=2, **options) as video:
        for frame in video:
            pixels.append(weakref.ref(frame.image))
            assert [each() is None for each in pixels] == [True] * (len(pixels) - 1) + [False]
            # Those under way or ready: twice the concurrency, and where persons are looked for apart as many
            # again and those that wait for the next frame of which they are known.
            under_way = video._reader.num_decoded - len(pixels)
            assert under_way <= (8 + 4 if "det_frequency" in options else 4)
    assert len(pixels) == NUM_FRAMES


def test_an_async_video_ends_early(url, clip):
    async def first():
        async with AsyncSapiensClient(url) as client, client.video(clip, tasks="detect") as video:
            async for frame in video:
                return frame.index

    assert asyncio.run(first()) == 0


def test_times_are_those_of_the_frames_where_the_rate_varies(tmp_path):
    times_ms = [0, 40, 240, 250, 1000, 1040]
    clip = write_clip(tmp_path / "clip.mp4", numbered(6), times_ms=times_ms)
    frames = decoded(clip)
    np.testing.assert_allclose([frame.time_s for frame in frames], np.array(times_ms) / 1000, atol=1e-3)
    assert frames[1].duration_s == pytest.approx(0.2, abs=1e-3)


def test_frames_of_one_video_may_differ_in_size(tmp_path):
    sizes = [(64, 96), (48, 80), (64, 96)]
    pieces = [
        write_clip(tmp_path / f"{index}.ts", numbered(5, size)).read_bytes()
        for index, size in enumerate(sizes)
    ]
    (tmp_path / "clip.ts").write_bytes(b"".join(pieces))
    frames = decoded(tmp_path / "clip.ts")
    assert [frame.image.shape[:2] for frame in frames] == [size for size in sizes for _ in range(5)]
    assert [number_of(frame.image) for frame in frames] == [*range(5)] * 3


def test_frames_without_times_follow_each_other(tmp_path):
    frames = decoded(write_clip(tmp_path / "clip.h264", numbered(5)))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(5) / 25)


def test_the_end_of_what_is_live_is_told(clip, monkeypatch):
    monkeypatch.setattr(
        "sapiens_client.video.decoding.opening", lambda source: replace(opening(source), is_live=True)
    )
    with Reader(clip) as reader:
        assert (reader.info.num_frames, reader.info.duration_s) == (None, None)
        assert len(list(reader.frames())) == NUM_FRAMES
        assert reader.problem == "it ended after 0.48 s"


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (180, 2), (-90, 3)], ids=str)
def test_frames_are_upright(tmp_path, rotation, turns):
    lying = decoded(write_clip(tmp_path / "lying.mp4", numbered(2)))[0].image
    path = write_clip(tmp_path / "clip.mp4", numbered(2), rotation=rotation)
    np.testing.assert_array_equal(decoded(path)[0].image, np.rot90(lying, turns))
    with Reader(path) as reader:
        assert (reader.info.height, reader.info.width) == np.rot90(lying, turns).shape[:2]


def test_some_of_the_frames_may_be_wanted(clip):
    frames = decoded(clip, start=1, every=4)
    assert [(frame.index, number_of(frame.image)) for frame in frames] == [(1, 1), (5, 5), (9, 9)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_file_that_breaks_off_gives_its_frames_and_says_so(tmp_path, caplog, suffix):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (96, 128, 3), np.uint8) for _ in range(40)]
    path = write_clip(tmp_path / f"whole.{suffix}", pictures, movflags="faststart")
    whole = decoded(path)
    broken = tmp_path / f"broken.{suffix}"
    broken.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with Reader(broken) as reader:
        frames = list(reader.frames())
        assert reader.problem
    assert 10 < len(frames) < 40
    assert reader.problem in caplog.text or "ends after" in caplog.text
    for frame, expected in zip(frames[:-1], whole, strict=False):
        assert (frame.index, frame.time_s) == (expected.index, expected.time_s)
    np.testing.assert_array_equal(frames[9].image, whole[9].image)


def test_damage_within_a_file_is_left_out_and_counted(tmp_path):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (96, 128, 3), np.uint8) for _ in range(20)]
    content = bytearray(write_clip(tmp_path / "clip.mp4", pictures).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20_000] = bytes(20_000)
    (tmp_path / "damaged.mp4").write_bytes(content)
    with Reader(tmp_path / "damaged.mp4") as reader:
        frames = list(reader.frames())
        assert "damaged" in reader.problem
    times_s = [frame.time_s for frame in frames]
    assert 10 <= len(times_s) < 20
    assert times_s == sorted(times_s)


@pytest.mark.parametrize(
    ("platform", "source", "file", "form"),
    [
        ("linux", 1, "/dev/video1", "v4l2"),
        ("linux", "/dev/video0", "/dev/video0", "v4l2"),
        ("darwin", 1, "1", "avfoundation"),
        ("linux", "rtsp://me:secret@camera/live", "rtsp://me:secret@camera/live", None),
    ],
)
def test_cameras_are_live_and_asked_by_what_the_system_has(monkeypatch, platform, source, file, form):
    monkeypatch.setattr("sys.platform", platform)
    how = opening(source)
    assert (how.file, how.format, how.is_live, how.timeout_s) == (file, form, True, 30)
    assert "secret" not in repr(how)


@pytest.mark.parametrize("source", [-1, True, 1.5, b"clip.mp4"])
def test_what_is_no_source_is_refused(source):
    with pytest.raises(InvalidInputError, match="camera"):
        opening(source)


def test_what_is_no_video_is_said(client, tmp_path, fake_client):
    (tmp_path / "notes.mp4").write_text("no video")
    with pytest.raises(ImageNotFoundError, match=r"missing\.mp4"):
        client.video(tmp_path / "missing.mp4")
    with pytest.raises(ImageReadError, match=r"notes\.mp4"):
        client.video(str(tmp_path / "notes.mp4"))
    with pytest.raises(ImageNotFoundError, match="concat:"):
        client.video("concat:a|b")
    with pytest.raises(ImageReadError, match=r"rtsp://127\.0\.0\.1:9/live'"):
        client.video("rtsp://user:secret@127.0.0.1:9/live")


def test_a_protocol_that_pyav_lacks_is_refused_with_those_that_there_are(client):
    words = r"got 'srt://127\.0\.0\.1:9', whose protocol its FFmpeg lacks; send it by rtsp://"
    with pytest.raises(InvalidInputError, match=words):
        client.video("srt://user:secret@127.0.0.1:9?passphrase=secret")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every": 0}, "every must be a whole number from 1, got 0"),
        ({"det_frequenzy": 2}, "perhaps 'det_frequency'"),
        ({"smooth": 3}, "smooth must be"),
        ({"smooth_maps": 1}, "smooth_maps must be from 0 and below 1"),
        ({"tasks": "pos"}, "pose"),
        ({"concurrency": 0}, "concurrency must be"),
    ],
    ids=str,
)
def test_wishes_that_cannot_be_are_refused(client, clip, options, words):
    with pytest.raises(InvalidInputError, match=words):
        client.video(clip, **options)


def test_a_playlist_has_no_other_files_read(client, clip, tmp_path):
    playlist = tmp_path / "list.ffconcat"
    playlist.write_text(f"ffconcat version 1.0\nfile http://127.0.0.1:9/{clip.name}\n")
    with pytest.raises(ImageReadError):
        client.video(playlist)


def test_persons_may_be_looked_for_in_some_frames_only(fake, fake_client, clip):
    seen = len(fake.requests)
    frames = list(fake_client.video(clip, tasks=("people", "seg"), det_frequency=5))
    asked = [each.model for each in fake.requests[seen:] if each.method == "ModelInfer"]
    assert (asked.count("detect"), asked.count("people_pose")) == (3, 0)
    assert [list(frame.results) for frame in frames] == [["people", "seg"]] * NUM_FRAMES
    everywhere = list(fake_client.video(clip, tasks="people"))
    for frame, other in zip(frames, everywhere, strict=True):
        np.testing.assert_array_equal(frame.results.people.bboxes, other.results.people.bboxes)
        np.testing.assert_array_equal(frame.results.people.bbox_scores, other.results.people.bbox_scores)
        np.testing.assert_array_equal(frame.track_ids, other.track_ids)


def test_event_loops_look_for_persons_in_some_frames_only(fake, clip):
    async def watched():
        async with AsyncSapiensClient(fake.url) as client:
            return [frame async for frame in client.video(clip, tasks="people", det_frequency=4)]

    assert [(frame.index, frame.track_ids.tolist()) for frame in asyncio.run(watched())] == [
        (index, [1, 2]) for index in range(NUM_FRAMES)
    ]


def test_after_a_cut_everybody_is_new(fake_client, tmp_path):
    pictures = numbered(3) + [np.full((64, 96, 3), (200, 40, 90), np.uint8)] * 3
    frames = list(fake_client.video(write_clip(tmp_path / "cut.mp4", pictures), tasks="detect"))
    assert [frame.track_ids.tolist() for frame in frames] == [[1, 2]] * 3 + [[3, 4]] * 3


def test_tracks_are_left_out_where_nobody_wants_them(fake_client, clip):
    assert {frame.track_ids for frame in fake_client.video(clip, tasks="detect", tracks=False)} == {None}
    assert {frame.track_ids for frame in fake_client.video(clip, tasks="seg")} == {None}


def test_an_error_stands_in_its_frame_or_ends_the_video(fake, fake_client, clip):
    fake_client.warm_up("detect")
    fake.fail(Fault.INTERNAL)
    frames = list(fake_client.video(clip, tasks="detect", on_error="yield"))
    failed = [frame for frame in frames if frame.error or frame.results.failed]
    assert len(failed) == 1
    error = failed[0].error or failed[0].results.failed["detect"]
    assert isinstance(error, InferenceError)
    assert [frame.index for frame in frames] == list(range(NUM_FRAMES))


def test_of_what_is_live_the_newest_frame_is_taken():
    has_begun, may_go_on, is_over = (threading.Event() for _ in range(3))

    def frames():
        yield 0
        has_begun.set()
        assert may_go_on.wait(10)
        yield from range(1, 10)
        is_over.set()

    live = newest(frames())
    assert next(live) == 0
    assert has_begun.wait(10)
    may_go_on.set()
    assert is_over.wait(10)
    assert list(live) == [9]


def test_an_error_of_what_is_live_reaches_whoever_iterates():
    def frames():
        yield 0
        raise ImageReadError("the camera was pulled out")

    with pytest.raises(ImageReadError, match="pulled out"):
        list(newest(frames()))
