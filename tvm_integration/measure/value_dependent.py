"""Kernels whose time depends on the values they meet, measured as in a network.

The erf of a GELU is a function of the C library that branches on its argument. Called over and
over with the same values a processor learns their branches by heart, and the kernel takes up to
half the time that it takes in a network, where launches with other values come in between.
"""

import os
import statistics
from collections.abc import Sequence
from typing import Any

from tvm_integration.compat import EvaluatorConfig, default_run_evaluator, tvm

BRANCHING_SYMBOLS = (b"\0erff\0", b"\0erf\0")
"""Functions of the C library, as symbol tables of objects and libraries hold them."""
ARGUMENT_SETS = 8
"""As a network has such launches: two in each of four layers of a small transformer."""
MAX_BYTES = 1 << 28
"""Of all sets of arguments."""
SLOWEST_S = 2e-3
"""A kernel that takes longer meets more values than can be learned: one set does."""
_FEWEST_SAMPLES, _MAX_SAMPLES = 9, 300
_OTHERS = "costmodels.call_with_other_values"


def branches_on_values(path: str) -> bool:
    """Whether the kernel in an artifact calls a function that branches on its values."""
    linked = f"{path}.so"
    with open(linked if os.path.exists(linked) else path, "rb") as file:
        held = file.read()
    return any(symbol in held for symbol in BRANCHING_SYMBOLS)


def set_count(arguments: Sequence[Any], wanted: int) -> int:
    """How many sets of arguments there may be: as many as wanted, if they are not too large."""
    size_bytes = 0
    for _, dtype, shape in arguments:
        elements = 1
        for extent in shape:
            elements *= int(extent)
        size_bytes += elements * max(1, tvm.DataType(str(dtype)).bits // 8)
    return max(1, min(wanted, MAX_BYTES // max(size_bytes, 1)))


def evaluate_in_turn(
    module: Any, device: Any, config: EvaluatorConfig, sets: Sequence[Sequence[Any]]
) -> list[float]:
    """Time a kernel with one set of arguments, each time after calls with all others.

    Parameters
    ----------
    module : tvm.runtime.Module
        With the kernel.
    device : tvm.runtime.Device
        Where it runs.
    config : EvaluatorConfig
        So many times are given, and calls go on for about as long as it says.
    sets : sequence of sequence of Tensor
        Sets of arguments.

    Returns
    -------
    list of float
        Seconds, each the median of a part of the calls.
    """
    kernel = module[module.entry_name]
    first, others = sets[0], sets[1:]

    def call_others(*_: Any) -> None:
        for arguments in others:
            kernel(*arguments)

    once = module.time_evaluator(module.entry_name, device, number=1, repeat=1, min_repeat_ms=0)
    if once(*first).mean > SLOWEST_S:
        return [float(s) for s in default_run_evaluator(module, device, config, [list(first)])]
    tvm.register_global_func(_OTHERS, call_others, override=True)

    def samples(count: int) -> list[float]:
        evaluate = module.time_evaluator(
            module.entry_name, device, number=1, repeat=count, min_repeat_ms=0, f_preproc=_OTHERS
        )
        return [float(seconds) for seconds in evaluate(*first).results]

    once_s = max(min(samples(3)), 1e-9)
    wanted_s = config.repeat * config.min_repeat_ms * 1e-3
    count = round(wanted_s / (once_s * len(sets)))
    count = min(max(count, _FEWEST_SAMPLES), _MAX_SAMPLES)
    found = samples(count)
    return [statistics.median(found[part :: config.repeat]) for part in range(config.repeat)]
