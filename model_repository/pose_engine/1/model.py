from sapiens_core.triton.engine import TorchScriptEngine


class TritonPythonModel:
    """pixels (B, H', W', 3) uint8 RGB -> what the decode needs of K heatmaps, by the TorchScript file beside.

    peaks (B, K, 2) int32 column and row, scores (B, K), patches (B, K, 13, 13), blurred_max (B, K) float32.
    """

    def initialize(self, args):
        self.engine = TorchScriptEngine(args)

    def execute(self, requests):
        return self.engine.respond(requests)
