"""Depth and points as surfaces in metres."""
