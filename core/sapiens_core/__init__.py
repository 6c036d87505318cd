"""What every part of Sapiens on Triton shares: the registry and pure functions on arrays."""
