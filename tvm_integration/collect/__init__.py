"""Measuring kernels and networks for data sets: which ones, which schedules, and by whom."""
