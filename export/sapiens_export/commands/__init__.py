"""`sapiens export`, `verify` and `zoo`."""
