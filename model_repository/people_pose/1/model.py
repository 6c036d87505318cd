from sapiens_core.contract.settings import PeopleSettings
from sapiens_core.images.codec import decode_bgr
from sapiens_core.people import people_pose
from sapiens_core.recipes.lookup import TASKS
from sapiens_core.recipes.recipe import Task
from sapiens_core.triton.respond import respond

INPUTS = ("image", "whole_image_if_nobody")
ENGINES = (TASKS[Task.DETECT].engine, TASKS[Task.POSE].engine)


class TritonPythonModel:
    """image (B,) uint8 encoded, whole_image_if_nobody (1,) bool or none -> everybody in it; N may be 0.

    keypoints (N, K, 2), scores (N, K), person_bboxes (N, 4), bbox_scores (N,) float32, image_hw (2,) int32.
    """

    def initialize(self, args):
        self.settings = PeopleSettings.from_args(args)

    def execute(self, requests):
        return respond(requests, INPUTS, self._people, engines=ENGINES)

    def _people(self, detect, pose, encoded, whole_image_if_nobody):
        use_whole_image = whole_image_if_nobody is not None and bool(whole_image_if_nobody[0])
        image = decode_bgr(encoded)
        return vars(people_pose(image, detect, pose, self.settings, whole_image_if_nobody=use_whole_image))
