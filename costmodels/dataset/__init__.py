"""Kernel data sets on disk: what was measured of which scheduled program of which task."""
