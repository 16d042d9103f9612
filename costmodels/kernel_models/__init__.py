"""Kernel cost models, one file each; load them through `costmodels.registry`."""
