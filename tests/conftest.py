"""Fixtures for all tests."""

import logging
import os
import signal

import pytest

from costmodels.files import cache_folder

# A shell that starts a command in the background lets it ignore Ctrl-C, and so its children.
signal.signal(signal.SIGINT, signal.default_int_handler)
# A kernel that a test runs itself would bind this process, and all that it starts, to one core.
os.environ.setdefault("TVM_BIND_THREADS", "0")


@pytest.fixture(scope="session", autouse=True)
def _library_of_the_tests(tmp_path_factory):
    """Keep tests from the schedules of whoever runs them; what takes minutes is shared."""
    own, real = tmp_path_factory.mktemp("cache"), cache_folder("")
    (own / "costmodels").mkdir()
    for kind in ("features", "networks"):
        (real / kind).mkdir(parents=True, exist_ok=True)
        (own / "costmodels" / kind).symlink_to(real / kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(own))
        yield


@pytest.fixture(autouse=True)
def _tvm_logger_propagates():
    """Keep pytest's handlers off TVM's logger.

    MetaSchedule makes it non-propagating; pytest then adds its own handlers to it at the next
    test's call, and the next set-up of MetaSchedule's loggers fails on handlers without a name.
    """
    logger = logging.getLogger("tvm.s_tir.meta_schedule")
    logger.propagate = True
    for handler in [handler for handler in logger.handlers if handler.get_name() is None]:
        logger.removeHandler(handler)
