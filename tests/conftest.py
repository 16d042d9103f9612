"""Fixtures for all tests."""

import logging
import os
import signal

import pytest

# A shell that starts a command in the background lets it ignore Ctrl-C, and so its children.
signal.signal(signal.SIGINT, signal.default_int_handler)
# A kernel that a test runs itself would bind this process, and all that it starts, to one core.
os.environ.setdefault("TVM_BIND_THREADS", "0")


@pytest.fixture(autouse=True)
def _loggers_as_tvm_wants_them():
    """TVM copies the handlers of its logger by name; pytest adds some that have none."""
    logger = logging.getLogger("tvm.s_tir.meta_schedule")
    for handler in [handler for handler in logger.handlers if handler.get_name() is None]:
        logger.removeHandler(handler)
