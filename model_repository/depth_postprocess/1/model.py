from sapiens_core.finish.depth import image_depth
from sapiens_core.triton.respond import respond


class TritonPythonModel:
    """depth_map (1, 1, h, w) float32, finish_hw (2,) int32 -> depth (H, W) float32."""

    def execute(self, requests):
        return respond(requests, ("depth_map", "finish_hw"), _depth)


def _depth(depth_map, finish_hw):
    return {"depth": image_depth(depth_map[0, 0], tuple(finish_hw.tolist()))}
