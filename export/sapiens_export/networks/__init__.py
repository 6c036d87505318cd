"""The architectures, with the official parameter names."""
