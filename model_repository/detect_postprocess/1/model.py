from sapiens_core.contract.settings import StepSettings
from sapiens_core.finish.detect import detected_persons
from sapiens_core.triton.respond import respond

INPUTS = ("candidate_bboxes", "candidate_scores", "finish_hw")


class TritonPythonModel:
    """candidate_bboxes (1, C, 4), candidate_scores (1, C), finish_hw (2,) -> bboxes (N, 4), scores (N,)."""

    def initialize(self, args):
        self.settings = StepSettings.from_args(args)

    def execute(self, requests):
        return respond(requests, INPUTS, self._persons)

    def _persons(self, candidate_bboxes, candidate_scores, finish_hw):
        bboxes, scores = detected_persons(
            candidate_bboxes[0], candidate_scores[0], tuple(finish_hw.tolist()), self.settings
        )
        return {"bboxes": bboxes, "scores": scores}
