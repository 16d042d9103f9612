"""Relax modules -> fused kernels, the graph of their launches, an executable that runs."""
