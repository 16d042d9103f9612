"""As many threads as a target has cores, in every process that runs kernels.

Left alone TVM's pool takes half of the logical processors of an x86 host, whatever the target
says, and binds the calling thread to the first processors of the machine, whatever the process may
use. A pool is made once for each thread that runs kernels, from the environment of that moment, and
cannot grow later.
"""

import os
import platform
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

from costmodels.cores import core_count, cpu_quota
from costmodels.errors import InputError

if TYPE_CHECKING:
    from tvm_integration.compat import Target

THREADS = "TVM_NUM_THREADS"
BINDING = "TVM_BIND_THREADS"

_Result = TypeVar("_Result")


def thread_count(target: "Target | None" = None) -> int:
    """How many threads kernels of a target run on.

    Parameters
    ----------
    target : Target, optional
        Of this host.

    Returns
    -------
    int
        Its ``num-cores``; without one ``TVM_NUM_THREADS`` of the environment, or else all cores
        that this process can keep busy.

    Raises
    ------
    InputError
        When there are not so many cores, or the environment asks for another number.
    """
    wanted = None
    if target is not None and target.kind.name == "llvm":
        wanted = target.attrs.get("num-cores")
    asked = os.environ.get(THREADS)
    if asked is not None and (not asked.isdigit() or int(asked) < 1):
        raise InputError(f"{THREADS} must be a number of at least 1, got {asked!r}: unset it")
    if wanted is None:
        return core_count() if asked is None else int(asked)
    if asked is not None and int(asked) != int(wanted):
        raise InputError(
            f"{THREADS} must be {wanted}, the num-cores of the target, or not set, got {asked}: "
            f"unset it, or give -num-cores={asked}"
        )
    return int(wanted)


def stock_thread_count() -> int:
    """How many threads TVM takes when it is left alone, in the environment of this process."""
    for name in (THREADS, "OMP_NUM_THREADS"):
        if (text := os.environ.get(name)) is not None:
            return max(1, int(text)) if text.isdigit() else 1
    logical = os.cpu_count() or 1
    return max(1, logical // 2 if platform.machine() in ("x86_64", "AMD64") else logical)


def require_whole_core() -> None:
    """Refuse to measure where a control group stops the process again and again.

    Raises
    ------
    InputError
        When the quota is below one core.
    """
    quota = cpu_quota()
    if quota is not None and quota < 1:
        raise InputError(
            f"the CPU quota must be at least one core to measure latencies, got {quota:.2f} of "
            "one: run it where the control group grants more (docker run --cpus=1)"
        )


def require_cores(count: int) -> None:
    """Check that this process can keep so many cores busy, now.

    Raises
    ------
    InputError
        When it cannot: its affinity or its control group may have changed on the way.
    """
    there = core_count()
    if count > there:
        raise InputError(
            f"kernels must run on at most the {there} cores that this process can keep busy now, "
            f"got {count} threads: give -num-cores={there}, or give it more cores (taskset, "
            "docker run --cpus)"
        )


def thread_environment(count: int) -> dict[str, str]:
    """Variables with which a process runs kernels on so many threads, on the cores it may use."""
    return {THREADS: str(count), BINDING: "0"}


def check_threads(count: int, number_of_threads: Callable[[], int] | None = None) -> None:
    """Check TVM's pool, which is made if it is not there yet.

    Parameters
    ----------
    count : int
        Wanted.
    number_of_threads : callable, optional
        Asks the pool: that of this thread by default.

    Raises
    ------
    InputError
        When it has another number.
    """
    if number_of_threads is None:
        from tvm_integration.compat import tvm

        number_of_threads = tvm.runtime.num_threads
    found = int(number_of_threads())
    if found != count:
        raise InputError(
            f"TVM's thread pool must have {count} threads, the cores of the target, got {found}: "
            f"start the process that runs kernels with {THREADS}={count} set"
        )


def set_threads(count: int) -> None:
    """Let the kernels of this process run on so many threads; for processes of our own.

    Raises
    ------
    InputError
        When a kernel ran before, on another number of them.
    """
    os.environ.update(thread_environment(count))
    check_threads(count)


@contextmanager
def unbound() -> Iterator[None]:
    """Let kernels that run meanwhile, constants being folded, bind no thread to a processor."""
    with _environment({BINDING: "0"}):
        yield


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class KernelThread:
    """A thread whose kernels run on so many threads, whatever this process ran before.

    A thread of its own gets a pool of its own: the caller keeps its pool and the processors it may
    use. A context manager.

    Parameters
    ----------
    count : int
        Threads.

    Raises
    ------
    InputError
        When TVM gives another number of threads.
    """

    def __init__(self, count: int) -> None:
        self._executor = ThreadPoolExecutor(1, "costmodels-kernels")
        self._count = count
        try:
            self.call(check_threads, count)
        except BaseException:
            self.close()
            raise

    def call(self, function: Callable[..., _Result], *arguments: Any, **named: Any) -> _Result:
        """Call a function in that thread and give what it returns, or raise what it raises."""

        def work() -> _Result:
            # TVM asks the environment again at each launch: with 1 there a kernel runs on one
            # thread, however many the pool has.
            with _environment(thread_environment(self._count)):
                return function(*arguments, **named)

        return self._executor.submit(work).result()

    def close(self) -> None:
        """End the thread. Closing twice is allowed."""
        self._executor.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
