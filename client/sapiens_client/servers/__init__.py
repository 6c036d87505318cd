"""Which server gets a request, when, and how often."""
