"""Ctrl-C while TVM runs: what is under way ends first."""

import os
import signal

import pytest

from tvm_integration.interrupt import interrupted_after


def test_an_interrupt_comes_when_all_is_done():
    ended = []

    def work():
        with interrupted_after():
            os.kill(os.getpid(), signal.SIGINT)
            ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert ended
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handlers_of_the_caller_stay():
    came = []
    before = signal.signal(signal.SIGINT, lambda *_: came.append(1))
    try:
        with interrupted_after():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert came == [1]
