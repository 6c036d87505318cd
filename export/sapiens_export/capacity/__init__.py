"""How much a rate of requests takes: what is counted, published, measured and assumed about it."""
