"""Videos, cameras and streams."""
