"""Ctrl-C while TVM runs: what is under way ends first, or the program at once."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
"""Exit code after Ctrl-C, as of shells."""
_SHOW_CURSOR = b"\x1b[?25h"


def end_at_once() -> NoReturn:
    """End this process without unwinding.

    A KeyboardInterrupt inside a callback of TVM or xgboost would cross C++ code that ends in
    `std::terminate`, or is reported as an error of its own. What was measured is on the disk, and
    the workers end with this process.
    """
    os.write(2, b"\ninterrupted\n")
    if sys.stderr.isatty():
        os.write(2, _SHOW_CURSOR)
    os._exit(INTERRUPTED)


@contextmanager
def interrupted_after() -> Iterator[None]:
    """Raise the KeyboardInterrupt of a Ctrl-C inside when all is done; a second one ends at once.

    Constant folding, for one, calls Python and takes an exception for a constant that cannot be
    folded: the network would be another one. Handlers of the caller's own stay.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    came = False

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal came
        if came:
            end_at_once()
        came = True

    signal.signal(signal.SIGINT, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if came:
            raise KeyboardInterrupt
