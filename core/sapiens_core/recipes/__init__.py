"""What is served: tasks, families, and how exact an engine must be."""
