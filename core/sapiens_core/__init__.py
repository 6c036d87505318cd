"""What every part of Sapiens on Triton shares: recipes and pure functions on arrays."""
