"""What latency kernels and networks will have once they are tuned, without a search."""
