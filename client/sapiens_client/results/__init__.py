"""What callers get, look at and keep."""
