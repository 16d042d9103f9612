"""Latency of whole networks, one module a model."""
