"""Official checkpoints to verified engines in a Triton model repository."""
