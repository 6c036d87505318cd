"""Where servers are, and who asks them."""
