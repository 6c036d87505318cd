"""Whether an engine is what its network is."""
