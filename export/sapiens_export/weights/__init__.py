"""Weight files: what is published, where, under which licence, and how they are read."""
