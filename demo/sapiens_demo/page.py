"""The page: what stands where, and what happens when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr

from sapiens_client.client import SapiensClient
from sapiens_client.errors import SapiensError
from sapiens_client.tasks.table import AnalysisTask
from sapiens_core.contract.limits import LIMITS
from sapiens_demo.answers import Answers, Shown, asked, served_tasks
from sapiens_demo.clips import MAX_FRAMES, followed
from sapiens_demo.figures import sentence

_FORGET_EVERY_S, _KEEP_S = 60, 1800
_FROM_THE_SIDE = (65, 80, None)  # degrees around and from above; as far away as shows all
_AT_A_TIME = 4  # callers of each kind
_USUAL = ("depth", "seg", "people")
_CSS = Path(__file__).with_name("page.css")
_ABOUT = """# Sapiens
Parts, joints, surface and depth of people in pictures and videos. Everything stays on this machine and the
server below; what is uploaded is forgotten after half an hour, and when the page ends."""
# There, but not seen: gradio's viewer of surfaces stays empty where it appears together with its first.
_HIDDEN = "hidden"
_Updates = dict[Any, Any]


@dataclass(frozen=True)
class _Place:
    """Where the page shows a task's result."""

    tab: gr.Tab
    pair: gr.ImageSlider
    figure: gr.HTML
    surface: gr.Model3D

    def filled(self, shown: Shown) -> _Updates:
        """Show a result."""
        return {
            self.tab: gr.update(visible=True),
            self.pair: shown.pair,
            self.figure: gr.update(value=shown.figure, visible=bool(shown.figure)),
            self.surface: _visible(_kept(self.surface, shown.surface)),
        }

    def emptied(self) -> _Updates:
        """Show nothing."""
        return {
            self.tab: gr.update(visible=_HIDDEN),
            self.pair: None,
            self.figure: gr.update(value="", visible=False),
            self.surface: _visible(None),
        }


def page(client: SapiensClient) -> gr.Blocks:
    """Lay out the page.

    Args:
        client: Of the server that it asks.
    """
    with gr.Blocks(title="Sapiens", analytics_enabled=False, delete_cache=(_FORGET_EVERY_S, _KEEP_S)) as made:
        gr.Markdown(_ABOUT)
        served = gr.HTML()
        with gr.Tab("Picture"):
            choices = _picture_tab(client)
        with gr.Tab("Video"):
            choice = _video_tab(client)
        made.load(partial(_served, client), outputs=[served, choices, choice], api_visibility="private")
    return made


@contextmanager
def opened(made: gr.Blocks, host: str, port: int | None) -> Iterator[str]:
    """Serve a page until the end of the `with` block.

    Args:
        made: The page.
        host: Address to listen on.
        port: None: the first from 7860 that is free.

    Yields:
        Its address.

    Raises:
        OSError: The port is taken.
    """
    system = ["system-ui", "sans-serif"]
    theme = gr.themes.Default(font=system, font_mono=["ui-monospace", "monospace"])  # of no other machine
    options = {"quiet": True, "footer_links": [], "max_file_size": LIMITS.max_image_bytes}
    refused = ("share", "ssr_mode", "run_history", "enable_monitoring", "mcp_server")
    made.queue(default_concurrency_limit=_AT_A_TIME)
    try:
        _, address, _ = made.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            theme=theme,
            css_paths=_CSS,
            **options,
            **dict.fromkeys(refused, False),
        )
    except OSError as error:  # whose words are for programmers
        raise OSError(
            f"{host} must have a free port for the page, got none at {port or '7860 and above'}; "
            "choose one with --port"
        ) from error
    try:
        yield address
    finally:
        made.close(verbose=False)


def _served(client: SapiensClient) -> tuple[Any, Any, Any]:
    """Tell what the server has, and offer it."""
    try:
        cards = client.models(timeout_s=10)
    except SapiensError as error:
        return sentence(error, is_error=True), gr.update(), gr.update()
    tasks = served_tasks(cards.values())
    networks = dict.fromkeys(
        f"{card.info.family} {card.info.size}, {card.info.licence}" for card in cards.values()
    )
    usual = [task for task in tasks if task in _USUAL] or tasks[:1]
    return (
        sentence(f"Networks: {'; '.join(networks)}"),
        gr.update(choices=tasks, value=usual),
        gr.update(
            choices=[task for task in tasks if task != AnalysisTask.FEATURES], value=usual[-1:] and usual[-1]
        ),
    )


def _visible(file: str | None) -> Any:
    """Show a file, or nothing."""
    return gr.update(value=file, visible=_HIDDEN if file is None else True)


def _kept(component: gr.blocks.Block, file: Path | None) -> str | None:
    """Copy a file to where gradio keeps those of a component, and deletes them in time."""
    return None if file is None else component.move_resource_to_block_cache(file)


def _path_of(payload: Any) -> str | None:
    """Leave it to the server to look into files: gradio would refuse what it cannot read in its own words."""
    path: str | None = None if payload is None else payload.path
    return path


def _picture_tab(client: SapiensClient) -> gr.CheckboxGroup:
    with gr.Row():
        with gr.Column():
            picture = gr.Image(label="Picture", type="filepath", sources=["upload", "webcam", "clipboard"])
            picture.preprocess = _path_of
            tasks = gr.CheckboxGroup(label="Tasks", choices=[])
            run = gr.Button("Ask", variant="primary")
        with gr.Column():
            told = gr.HTML(sentence("Choose a picture and what to ask about it."))
            with gr.Tabs() as tabs:
                places = {task.value: _place(task.value) for task in AnalysisTask}
            download = gr.DownloadButton("Download results", visible=False)

    def ask(path: str | None, chosen: list[str]) -> _Updates:
        cleared = {download: gr.update(visible=False)}
        for place in places.values():
            cleared |= place.emptied()
        if path is None or not chosen:
            return {**cleared, told: sentence("A picture and a task are needed.", is_error=True)}
        try:
            with TemporaryDirectory() as folder:
                return cleared | filled(asked(client, Path(path), chosen, Path(folder)))
        except SapiensError as error:
            return {**cleared, told: sentence(error, is_error=True)}

    def filled(answers: Answers) -> _Updates:
        updates: _Updates = {told: answers.facts}
        for task, shown in answers.shown.items():
            updates |= places[task].filled(shown)
        if answers.shown:
            updates[tabs] = gr.update(selected=next(iter(answers.shown)))
            updates[download] = gr.update(value=_kept(download, answers.download), visible=True)
        return updates

    outputs = [told, tabs, download, *(each for place in places.values() for each in vars(place).values())]
    run.click(ask, [picture, tasks], outputs, api_visibility="private")
    return tasks


def _place(task: str) -> _Place:
    with gr.Tab(task, id=task, visible=_HIDDEN) as tab:
        pair = gr.ImageSlider(label=f"{task}, and the picture", format="jpeg", interactive=False)
        figure = gr.HTML(visible=False)
        surface = gr.Model3D(
            label="relief: drag to turn it",
            height=400,
            camera_position=_FROM_THE_SIDE,
            visible=_HIDDEN,
            interactive=False,
        )
    return _Place(tab, pair, figure, surface)


def _video_tab(client: SapiensClient) -> gr.Radio:
    with gr.Row():
        with gr.Column():
            video = gr.Video(label=f"Video of at most {MAX_FRAMES} frames", sources=["upload", "webcam"])
            task = gr.Radio(label="Task", choices=[])
            every = gr.Slider(1, 30, value=1, step=1, label="Take every n-th frame")
            run = gr.Button("Follow", variant="primary")
            stop = gr.Button("Stop", visible=False)
        with gr.Column():
            told = gr.HTML(sentence("Choose a video and what to ask about its frames."))
            movie = gr.Video(label="Results", visible=False, interactive=False)
            download = gr.DownloadButton("Download results", visible=False)

    def follow(path: str | None, chosen: str | None, each: int) -> Iterator[_Updates]:
        if path is None or not chosen:
            yield {told: sentence("A video and a task are needed.", is_error=True)}
            return
        yield {
            stop: gr.update(visible=True),
            movie: gr.update(visible=False),
            download: gr.update(visible=False),
        }
        ended = {stop: gr.update(visible=False)}
        with TemporaryDirectory() as folder:
            try:
                for clip in followed(client, Path(path), chosen, each, Path(folder)):
                    of = "" if clip.total is None else f" of {clip.total}"
                    yield {told: sentence(f"{clip.num_frames}{of} frames")}
            except SapiensError as error:
                yield {**ended, told: sentence(error, is_error=True)}
                return
            yield {
                **ended,
                told: clip.facts,
                movie: gr.update(value=_kept(movie, clip.movie), visible=True),
                download: gr.update(value=_kept(download, clip.download), visible=True),
            }

    def stopped() -> _Updates:
        return {stop: gr.update(visible=False), told: sentence("Stopped.")}

    running = run.click(follow, [video, task, every], [told, stop, movie, download], api_visibility="private")
    # Gradio answers a click before it cancels: words of frames that came between would be the last.
    cancelled = stop.click(None, cancels=running, api_visibility="private")
    cancelled.then(stopped, outputs=[stop, told], api_visibility="private")
    return task
