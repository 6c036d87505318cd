"""A request and an answer of 60 MB each, in one call."""

from __future__ import annotations

import asyncio

from figures import Figure, at_least, exactly, told
from load import Sizes
from servers import Fleet, answering_server, new_image

from sapiens_client import AsyncSapiensClient, ClientOptions, DepthResult, SapiensClient

_NUM_BYTES = 60_000_000
_ANSWER_HW = (3_750, 4_000)  # in float32: as many bytes
_SENT = ClientOptions(shared_memory=False)


def large(_: Sizes) -> list[Figure]:
    """Ask once with either client."""
    image = new_image(number=1, num_bytes=_NUM_BYTES, answer_hw=_ANSWER_HW)
    with Fleet() as fleet:
        server = fleet.start()
        with SapiensClient(server.grpc_url, options=_SENT) as client:
            results = {"SapiensClient": client.depth(image)}
        results["AsyncSapiensClient"] = asyncio.run(_asked(server.grpc_url, image))
        return [
            figure
            for name, result in results.items()
            for figure in _figures(name, result, is_right=answering_server(image, result) == server.pid)
        ]


async def _asked(url: str, image: bytes) -> DepthResult:
    async with AsyncSapiensClient(url, options=_SENT) as client:
        return await client.depth(image)


def _figures(name: str, result: DepthResult, *, is_right: bool) -> list[Figure]:
    timing = result.timing
    return [
        at_least(f"{name}: request", timing.request_bytes / 1e6, _NUM_BYTES / 1e6, "MB"),
        at_least(f"{name}: answer", timing.response_bytes / 1e6, _NUM_BYTES / 1e6, "MB"),
        exactly(
            f"{name}: it is about the image, and complete", (is_right, result.depth.shape), (True, _ANSWER_HW)
        ),
        told(f"{name}: the call took", timing.total_s, "s"),
    ]
