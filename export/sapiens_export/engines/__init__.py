"""Networks to engines, one module per runtime."""
