"""A call's images to requests, and its replies to results."""
