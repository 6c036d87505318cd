"""Requests and replies as bytes of Triton's protocol, by threads and by event loops."""
