"""Large tensors through this machine's shared memory."""
