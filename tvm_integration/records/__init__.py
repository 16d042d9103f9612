"""Tuning databases and data sets: their records, checked, by content, and from one to the other."""
