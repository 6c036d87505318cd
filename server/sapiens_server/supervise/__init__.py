"""Keep one server running: watch it, restart it, tell others how it is, end it without failing anybody."""
