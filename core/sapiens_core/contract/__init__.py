"""What passes between client, steps and engines."""
