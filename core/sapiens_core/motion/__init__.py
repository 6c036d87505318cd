"""People and maps over time: who is who from frame to frame, and what is noise."""
