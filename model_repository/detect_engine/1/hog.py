from sapiens_core.hog import hog_candidates
from sapiens_core.triton_backend import respond


class TritonPythonModel:
    """pixels (B, H', W', 3) uint8 RGB -> boxes that may be persons, by OpenCV's built-in people detector.

    candidate_bboxes (B, C, 4) float32 xyxy in network pixels, candidate_scores (B, C) float32.
    """

    def execute(self, requests):
        return respond(requests, ("pixels",), _candidates)


def _candidates(pixels):
    candidate_bboxes, candidate_scores = hog_candidates(pixels)
    return {"candidate_bboxes": candidate_bboxes, "candidate_scores": candidate_scores}
