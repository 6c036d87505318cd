from sapiens_core.contract.settings import StepSettings
from sapiens_core.finish.pose import image_keypoints
from sapiens_core.recipes.lookup import TASKS
from sapiens_core.recipes.recipe import Task
from sapiens_core.triton.respond import respond

INPUTS = tuple(tensor.name for tensor in TASKS[Task.POSE].postprocess.inputs)


class TritonPythonModel:
    """What `pose_engine` returns for N persons, crops (N, 4) -> keypoints (N, K, 2) float32, image pixels.

    It hands on the scores (N, K) float32.
    """

    def initialize(self, args):
        height, width = StepSettings.from_args(args).network_hw
        stride = TASKS[Task.POSE].output_stride
        self.heatmap_hw = (height // stride, width // stride)

    def execute(self, requests):
        return respond(requests, INPUTS, self._keypoints)

    def _keypoints(self, peaks, scores, *arrays):
        return {"keypoints": image_keypoints(peaks, scores, *arrays, self.heatmap_hw), "scores": scores}
