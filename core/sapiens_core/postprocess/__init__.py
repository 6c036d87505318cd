"""Engine outputs to results at image size, one module per task."""
