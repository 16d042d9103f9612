"""Kernels measured as a network runs them: with their data where a network leaves it.

Called over and over a kernel finds all its data in the cache of the core that used it last. In a
network its first argument was just written, by all threads, each its part; what follows, weights
mostly, was last read a whole network ago; and its outputs go where other kernels have written
since. TVM's own ``enable_cpu_cache_flush`` flushes all but the first argument, as far as to memory,
and leaves that one where the kernel itself would have it.
"""

import functools
import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tvm_integration.compat import EvaluatorConfig, byte_view, te, tvm

__all__ = ["evaluate_as_in_network"]

_MAX_CACHE_BYTES = 4 << 20
"""Half of it read and half written by each thread between two calls: second-level caches hold less.
In a network of less it is the half of what others touch, for caches do not forget in order."""
_MAX_COLD_BYTES = 32 << 20
"""More than a core's part of the last cache, mostly."""
_MAX_SETS = 64


def evaluate_as_in_network(
    module: "tvm.runtime.Module",
    device: "tvm.runtime.Device",
    config: EvaluatorConfig,
    repeated: Sequence[Sequence[Any]],
    *,
    threads: int,
    network_bytes: int,
) -> list[float]:
    """Time a kernel, each time with its data as a network leaves it.

    Parameters
    ----------
    module : tvm.runtime.Module
        With the kernel.
    device : tvm.runtime.Device
        This machine's processor.
    config : EvaluatorConfig
        So many times are given for each set of arguments, and calls go on for about as long as it
        says.
    repeated : sequence of sequence of Tensor
        Sets of arguments.
    threads : int
        That kernels run on.
    network_bytes : int
        What one run of the network touches: a small one leaves more in the caches.

    Returns
    -------
    list of float
        Seconds, each the median of a part of the calls.
    """
    found = []
    for arguments in repeated:
        sample = _sampler(module[module.entry_name], device, arguments, threads, network_bytes)
        found += _readings(sample, config)
    return found


def _sampler(
    kernel: Any, device: Any, arguments: Sequence[Any], threads: int, network_bytes: int
) -> Callable[[int], float]:
    """Make the function that times the n-th call."""
    others = max(network_bytes - sum(map(_byte_count, arguments)), 0)
    between = min(others // 2, threads * _MAX_CACHE_BYTES)
    copy = _copier(threads)
    source, target = (
        byte_view(each, (threads, between // (2 * threads))) for each in _room(threads)
    )
    sets = _rotated(arguments, min(network_bytes, _MAX_COLD_BYTES) - between, device)
    parts = (threads, min(_byte_count(arguments[0]), _MAX_COLD_BYTES) // threads)
    fresh, kept = byte_view(arguments[0], parts), tvm.runtime.empty(parts, "uint8", device)
    copy(fresh, kept)

    def sample(number: int) -> float:
        copy(source, target)
        copy(kept, fresh)
        start = time.perf_counter()
        kernel(*sets[number % len(sets)])
        return time.perf_counter() - start

    return sample


def _readings(sample: Callable[[int], float], config: EvaluatorConfig) -> list[float]:
    collects = gc.isenabled()
    gc.disable()
    try:
        sample(0)
        end = time.perf_counter() + config.repeat * config.min_repeat_ms * 1e-3
        found: list[float] = []
        while len(found) < config.repeat or time.perf_counter() < end:
            found.append(sample(len(found) + 1))
    finally:
        if collects:
            gc.enable()
    return [statistics.median(found[part :: config.repeat]) for part in range(config.repeat)]


def _rotated(arguments: Sequence[Any], cold_bytes: int, device: Any) -> list[list[Any]]:
    """Sets of arguments with copies of all between first and last, which take so much in all."""
    between = arguments[1:-1]
    size_bytes = sum(map(_byte_count, between))
    wanted = cold_bytes // size_bytes if size_bytes else 1
    sets = [list(arguments)]
    for _ in range(min(wanted, _MAX_SETS) - 1):
        copies = [each.copyto(device) for each in between]
        sets.append([arguments[0], *copies, arguments[-1]])
    return sets


@functools.cache
def _room(threads: int) -> tuple[Any, Any]:
    """What is copied to fill caches; written once, for what never was is one page of zeros."""
    zeros = np.zeros((threads, _MAX_CACHE_BYTES // 2), np.uint8)
    return tvm.runtime.tensor(zeros), tvm.runtime.tensor(zeros)


@functools.cache
def _copier(threads: int) -> Any:
    """A kernel that copies bytes, each thread its part."""
    count = te.var("count", "int64")
    given = te.placeholder((threads, count), "uint8")
    copied = te.compute((threads, count), lambda thread, byte: given[thread, byte])
    schedule = tvm.s_tir.Schedule(te.create_prim_func([given, copied]))
    (block,) = schedule.get_child_blocks(schedule.get_sblock("root"))
    schedule.parallel(schedule.get_loops(block)[0])
    return tvm.compile(schedule.mod, target="llvm")["main"]


def _byte_count(tensor: Any) -> int:
    kind = tvm.DataType(str(tensor.dtype))
    return math.prod(map(int, tensor.shape)) * int(kind.bits) * int(kind.lanes) // 8
