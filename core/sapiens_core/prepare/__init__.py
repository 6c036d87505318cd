"""Pixels of an image to the pixels that a network takes."""
