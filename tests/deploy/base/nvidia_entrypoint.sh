#!/bin/sh
echo "stand-in for the entry point of NVIDIA's Triton image"
exec "$@"
