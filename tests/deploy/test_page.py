"""`sapiens demo` in a browser, with a server of its own: what people see, click and type there.

Screenshots are left in out/page; those in docs/images are two of them.
"""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import zipfile
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from clips import write_clip
from PIL import Image
from playwright.sync_api import expect, sync_playwright
from real_servers import LONG_S, becomes_true, statuses

from sapiens_client import SapiensClient
from sapiens_demo.page import opened, page

ROOT = Path(__file__).parents[2]
PORTRAIT = ROOT / "assets" / "eileen_collins.jpg"
SHOTS = ROOT / "out" / "page"
SAPIENS = Path(sys.executable).parent / "sapiens"
# Nothing but this machine has a name; the camera shows a pattern.
CHROMIUM = (
    "--no-sandbox",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--enable-unsafe-swiftshader",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
expect.set_options(timeout=LONG_S * 1000)


@pytest.fixture(scope="module")
def temporary(tmp_path_factory):
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def demo(temporary, tmp_path_factory):
    """The command, and the page's address."""
    kept = {name: value for name, value in os.environ.items() if name != "SAPIENS_URL"}
    cache = tmp_path_factory.mktemp("cache")
    environment = {**kept, "TMPDIR": str(temporary), "SAPIENS_CACHE": str(cache)}
    with subprocess.Popen([SAPIENS, "demo"], env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            found = re.fullmatch(r"the page is at (http://127\.0\.0\.1:\d+/)\n", process.stdout.readline())
            assert found, process.wait()
            yield process, found[1]
        finally:
            process.send_signal(signal.SIGTERM)


@pytest.fixture(scope="module")
def browser():
    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
        yield one
        one.close()


@pytest.fixture(scope="module")
def window(browser, demo):
    """A function (width, height) -> the page in a new window of that size; it reaches this machine alone."""
    addresses, opened = set(), []

    def made(width, height):
        view = browser.new_page(viewport={"width": width, "height": height})
        opened.append(view)
        view.set_default_timeout(LONG_S * 1000)
        view.on("request", lambda request: addresses.add(urlsplit(request.url)))
        view.goto(demo[1])
        expect(view.get_by_label("seg", exact=True).first).to_be_visible()
        return view

    yield made
    for view in opened:
        view.close()
    assert {each.netloc for each in addresses if each.scheme not in ("data", "blob")} == {
        urlsplit(demo[1]).netloc
    }


@pytest.fixture(scope="module")
def answered(window):
    """The portrait, asked about with the keyboard alone once it is chosen."""
    view = window(1280, 900)
    view.locator("input[type=file]").first.set_input_files(PORTRAIT)
    expect(view.get_by_test_id("image").locator("img")).to_be_visible()
    normal = view.get_by_label("normal", exact=True).first
    normal.focus()
    view.keyboard.press("Space")
    expect(normal).to_be_checked()
    while view.evaluate("document.activeElement.innerText") != "Ask":
        view.keyboard.press("Tab")
    view.keyboard.press("Enter")
    expect(view.get_by_role("button", name="Download results")).to_be_visible()
    return view


def figure_of(view, task):
    view.get_by_role("tab", name=task, exact=True).click()
    figure = view.locator("svg.sapiens-figure:visible")
    expect(figure).to_be_visible()
    figure.scroll_into_view_if_needed()
    return figure


def point_at(view, figure, name):
    """Move the pointer to where a name stands."""
    place = figure.locator(f"g[aria-label^={name}] text").first
    box, (x, y) = figure.bounding_box(), (float(place.get_attribute(each)) for each in "xy")
    scale = box["width"] / float(figure.get_attribute("viewBox").split()[2])
    view.mouse.move(box["x"] + x * scale, box["y"] + y * scale)


def test_results_stand_beside_the_picture_with_networks_licence_and_time(answered):
    expect(told(answered, "sapiens demo (licence")).to_have_text(
        re.compile(r"Apache-2\.0.*: depth \d+ ms, seg \d+ ms, people \d+ ms, normal \d+ ms")
    )
    tabs = [name for name in ("depth", "seg", "normal", "people", "pose") if tab_is_there(answered, name)]
    assert tabs == ["depth", "seg", "normal", "people"]
    for task in tabs:
        answered.get_by_role("tab", name=task, exact=True).click()
        pair = answered.locator("[data-testid=imageslider] img:visible, .slider-wrap img:visible")
        expect(pair).to_have_count(2)
        sizes = pair.evaluate_all("all => all.map(each => [each.naturalWidth, each.naturalHeight])")
        assert sizes == [[512, 512]] * 2


def tab_is_there(view, name):
    return view.get_by_role("tab", name=name, exact=True).is_visible()


def test_depth_is_a_relief(answered):
    answered.get_by_role("tab", name="depth", exact=True).click()
    canvas = answered.locator("canvas:visible")
    expect(canvas).to_be_visible()

    def num_colours():
        shot = Image.open(io.BytesIO(canvas.screenshot())).convert("RGB")
        return len(shot.resize((100, 100)).getcolors(10_000))

    assert becomes_true(lambda: num_colours() > 1000)
    answered.screenshot(path=SHOTS / "page.jpg", full_page=True, type="jpeg", quality=65)


@pytest.mark.parametrize(("task", "name"), [("seg", "Hair"), ("people", "left_shoulder")])
def test_names_appear_under_the_pointer_and_the_keyboard(task, name, answered):
    figure = figure_of(answered, task)
    shown = figure.locator("text:visible")
    answered.mouse.move(0, 0)
    expect(shown).to_have_count(0)
    point_at(answered, figure, name)
    expect(shown).to_have_text(re.compile(rf"{name} [\d.]+%?"))
    figure.screenshot(path=SHOTS / f"{task}.jpg", type="jpeg", quality=75)
    answered.mouse.move(0, 0)
    figure.locator("g").first.focus()
    answered.keyboard.press("Tab")
    expect(shown).to_have_text(figure.locator("g title").nth(1).text_content())
    answered.evaluate("document.activeElement.blur()")


def test_results_are_downloaded(answered):
    with answered.expect_download() as started:
        answered.get_by_role("button", name="Download results").click()
    with zipfile.ZipFile(started.value.path()) as archive:
        assert {"depth.npz", "depth.glb", "seg.json", "people.json", "normal.png"} <= {*archive.namelist()}
        assert np.load(io.BytesIO(archive.read("depth.npz")))["depth"].shape == (512, 512)


def test_what_is_no_picture_gets_a_sentence(answered, tmp_path):
    (tmp_path / "note.jpg").write_text("no picture")
    view = answered
    view.get_by_role("button", name="Remove Image").click()
    view.locator("input[type=file]").first.set_input_files(tmp_path / "note.jpg")
    expect(view.get_by_test_id("image").locator("img")).to_be_attached()
    view.get_by_role("button", name="Ask").click()
    expect(view.get_by_role("alert").filter(has_text="image must be a JPEG")).to_be_visible()
    assert not tab_is_there(view, "depth")


def test_a_photograph_is_taken(window):
    view = window(1280, 900)
    view.get_by_role("button", name="Capture from camera").first.click()
    view.get_by_role("button", name="Click to Access Webcam").click()
    camera = view.locator("video:visible")
    assert becomes_true(lambda: camera.evaluate("each => each.videoWidth"))
    view.get_by_role("button", name="capture photo").click()
    expect(view.get_by_test_id("image").locator("img")).to_be_visible()
    view.get_by_role("button", name="Ask").click()
    expect(view.get_by_role("tab", name="seg", exact=True)).to_be_visible()


def test_a_narrow_window_needs_no_scrolling_to_the_side(window):
    view = window(375, 700)

    def widths():
        return view.evaluate("[document.documentElement.scrollWidth, innerWidth]")

    assert widths() == [375, 375]
    view.locator("input[type=file]").first.set_input_files(PORTRAIT)
    expect(view.get_by_test_id("image").locator("img")).to_be_visible()
    view.get_by_role("button", name="Ask").click()
    expect(view.get_by_role("button", name="Download results")).to_be_visible()
    assert widths() == [375, 375]
    view.screenshot(path=SHOTS / "narrow.jpg", full_page=True, type="jpeg", quality=75)
    view.get_by_role("tab", name="Video").click()
    expect(view.get_by_role("button", name="Follow")).to_be_visible()
    assert widths() == [375, 375]


def choose_video(view, clip, task):
    view.get_by_role("tab", name="Video").click()
    view.locator("input[type=file]:visible, .tabitem:visible input[type=file]").last.set_input_files(clip)
    expect(view.locator("video:visible")).to_have_count(1)
    view.get_by_role("radio", name=task, exact=True).check()


def told(view, words):
    return view.locator("[role=status]:visible", has_text=words)


def test_a_video_becomes_one_with_results(window, portrait, tmp_path):
    frames = [np.roll(portrait, 4 * number, axis=1) for number in range(3)]
    clip = write_clip(tmp_path / "clip.mp4", frames, has_sound=True)
    view = window(1280, 900)
    view.get_by_role("tab", name="Video").click()
    view.get_by_role("button", name="Follow").click()
    expect(view.get_by_role("alert").filter(has_text="A video and a task are needed.")).to_be_visible()
    choose_video(view, clip, "seg")
    view.get_by_role("button", name="Follow").click()
    with view.expect_download() as started:
        view.get_by_role("button", name="Download results").click()
    with zipfile.ZipFile(started.value.path()) as archive:
        assert {*archive.namelist()} == {"clip.mp4_seg.mp4", "clip.mp4_seg.jsonl"}
    movie = view.locator("video:visible").last
    assert becomes_true(lambda: movie.evaluate("each => each.duration") > 0.1)
    view.screenshot(path=SHOTS / "video.jpg", full_page=True, type="jpeg", quality=75)


@pytest.fixture
def clock(monkeypatch):
    """What gradio tells the age of files by: `ahead_s` seconds ahead; it was looked at `num_looks` times."""

    class Clock(datetime):
        ahead_s = num_looks = 0

        @classmethod
        def now(cls, tz=None):
            cls.num_looks += 1
            return datetime.now(tz) + timedelta(seconds=cls.ahead_s)

    monkeypatch.setattr("gradio.route_utils.datetime", Clock)
    return Clock


@pytest.mark.filterwarnings("ignore")  # gradio's threads are in this process
def test_files_are_forgotten_after_half_an_hour(clock, browser, served, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with SapiensClient(served.grpc_url) as client:
        made = page(client)
        _, keep_s = made.delete_cache
        made.delete_cache = 1, keep_s  # looks every second
        with opened(made, "127.0.0.1", None) as address:
            view = browser.new_page()
            view.goto(address)
            view.locator("input[type=file]").first.set_input_files(PORTRAIT)
            expect(view.get_by_test_id("image").locator("img")).to_be_visible()
            view.get_by_role("button", name="Ask").click()
            expect(view.get_by_role("button", name="Download results")).to_be_visible()
            kept = files_in(tmp_path)
            assert {path.suffix for path in kept} >= {".jpg", ".glb", ".zip"}
            clock.ahead_s = 29 * 60
            clock.num_looks = 0
            assert becomes_true(lambda: clock.num_looks > 2 * len(kept))
            assert files_in(tmp_path) == kept
            clock.ahead_s = 31 * 60
            assert becomes_true(lambda: not files_in(tmp_path))
            view.close()


def files_in(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def followed(window, portrait, tmp_path):
    """A window in which a long video is followed, whose frames are shown to be counted."""
    frames = [np.roll(portrait, 4 * number, axis=1) for number in range(10)]
    view = window(1280, 900)
    choose_video(view, write_clip(tmp_path / "long.mp4", frames * 100), "seg")
    view.get_by_role("button", name="Follow").click()
    expect(told(view, re.compile("[1-9] of 1000 frames"))).to_be_visible()
    return view


def under_way(temporary):
    return [*temporary.rglob("*.part.*")]


def test_stop_ends_a_video_and_leaves_nothing_of_it(followed, temporary):
    assert under_way(temporary)
    followed.get_by_role("button", name="Stop").click()
    assert becomes_true(lambda: not under_way(temporary))
    expect(told(followed, "Stopped.")).to_be_visible()
    expect(followed.get_by_role("button", name="Stop")).to_be_hidden()
    expect(followed.get_by_role("button", name="Download results")).to_be_hidden()
    expect(followed.locator("video:visible")).to_have_count(1)
    assert not [*temporary.rglob("long.mp4_*")]


def test_ctrl_c_ends_the_page_and_its_server_and_nothing_is_left(followed, demo, temporary):
    assert under_way(temporary)
    process, _ = demo
    (server,) = [pid for pid, status in statuses() if status.parent == process.pid]
    assert [*temporary.glob("sapiens_demo_*/*/*")]  # what was uploaded
    process.send_signal(signal.SIGINT)
    assert process.wait() == 0
    assert server not in dict(statuses())
    assert [*temporary.iterdir()] == []
