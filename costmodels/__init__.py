"""Learned cost models for the Apache TVM compiler."""
