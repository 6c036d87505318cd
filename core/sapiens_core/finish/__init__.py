"""What an engine returns to results at image size, one module per task."""
