"""Processes that stay warm for jobs that may crash, hang or be killed. Nothing of TVM is in it."""
