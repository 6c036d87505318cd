"""Encoded image files to pixels."""
