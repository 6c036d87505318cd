from sapiens_core.triton.engine import TorchScriptEngine


class TritonPythonModel:
    """pixels (B, H', W', 3) uint8 RGB -> depth_map (B, 1, h, w) float32, by the TorchScript file beside."""

    def initialize(self, args):
        self.engine = TorchScriptEngine(args)

    def execute(self, requests):
        return self.engine.respond(requests)
