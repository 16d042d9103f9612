"""Latency of a network that does not run: fused, each kernel predicted, summed, calibrated."""
