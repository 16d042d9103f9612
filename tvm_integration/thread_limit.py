"""As many threads as a target has cores: left alone, TVM's thread pool takes all that it finds."""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from costmodels.device import usable_cores
from tvm_integration.compat import Target, tvm

_FASTEST_CORES = 1
"""TVM's own choice of cores, of those that are unequal."""


def fewer_cores(target: Target) -> int | None:
    """Cores of a target of this host's kind, when they are fewer than this process may use."""
    cores = target.attrs.get("num-cores")
    if target.kind.name != "llvm" or cores is None:
        return None
    return int(cores) if int(cores) < len(usable_cores()) else None


def limit_threads(count: int, find: Callable[[str], Any] = tvm.get_global_func) -> None:
    """Let kernels run on so many threads.

    Parameters
    ----------
    count : int
        0 for all cores.
    find : callable
        Finds TVM's functions by name: in this process, or on a device elsewhere.
    """
    find("runtime.config_threadpool")(_FASTEST_CORES, count)


def worker_initializer(target: Target) -> Callable[[], None] | None:
    """What limits the threads of a worker that measures for a target; None if nothing must."""
    cores = fewer_cores(target)
    return None if cores is None else functools.partial(limit_threads, cores)


@contextmanager
def threads_of(target: Target) -> Iterator[None]:
    """Run kernels on a target's cores for a while.

    TVM binds the calling thread to cores as well; afterwards it may use those it could before.
    """
    cores = fewer_cores(target)
    allowed = os.sched_getaffinity(0)
    if cores is not None:
        limit_threads(cores)
    try:
        yield
    finally:
        if cores is not None:
            limit_threads(0)
            os.sched_setaffinity(0, allowed)
