from sapiens_core.triton.engine import TorchScriptEngine


class TritonPythonModel:
    """pixels (B, H', W', 3) uint8 RGB -> boxes that may be persons, by the TorchScript file beside.

    candidate_bboxes (B, C, 4) float32 xyxy in network pixels, candidate_scores (B, C) float32.
    """

    def initialize(self, args):
        self.engine = TorchScriptEngine(args)

    def execute(self, requests):
        return self.engine.respond(requests)
