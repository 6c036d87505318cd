"""Inside Triton's Python backend."""
