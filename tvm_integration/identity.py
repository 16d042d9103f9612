"""What makes two tasks, targets, programs or tuning records the same: everywhere, and for ever.

The task's key itself is made in `costmodels.task_keys`, which needs no TVM.
"""

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from costmodels import task_keys
from tvm_integration.compat import IRModule, Schedule, Target, Trace, structural_hash

_64_BITS = 2**64 - 1


def target_text(target: Target) -> str:
    """A target as one line of JSON, the same for equal targets.

    Parameters
    ----------
    target : Target
        Its tag does not count: it only names the rest.

    Returns
    -------
    str
        What `Target` reads once it is parsed.
    """
    values = {key: value for key, value in target.export().items() if key != "tag"}
    return json.dumps(plain(values), sort_keys=True)


def workload_hash(mod: IRModule) -> int:
    """Structural hash of a program before scheduling, 64 bits, the same in every process."""
    return int(structural_hash(mod)) & _64_BITS


def task_key(mod: IRModule, target: Target) -> str:
    """Key of a task, as `costmodels.task_keys.task_key` makes it."""
    return task_keys.task_key(workload_hash(mod), target_text(target))


def program_hash(schedule: Schedule) -> int:
    """Structural hash of a scheduled program, 64 bits, the same in every process."""
    return int(structural_hash(schedule.mod)) & _64_BITS


def record_hash(mod: IRModule, trace: Trace) -> int:
    """Identity of a scheduled program by its workload and the text of its trace; 64 bits.

    The same in every process, and the same for a candidate and for its record in a database. Two
    traces can lead to one program, which `program_hash` tells but only once a trace is applied.
    """
    text = f"{structural_hash(mod)} {trace}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


def trace_text(trace: Trace) -> str:
    """A trace as one line of JSON, the same for equal traces, read from a database or not."""
    values = _without_booleans(plain(trace.as_json()))
    return json.dumps(values, separators=(",", ":"))


def _without_booleans(value: Any) -> Any:
    """As TVM's databases write what is true or false: 1 or 0."""
    if isinstance(value, list):
        return [_without_booleans(each) for each in value]
    return int(value) if isinstance(value, bool) else value


def plain(value: Any) -> Any:
    """Values of TVM as those of JSON."""
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if isinstance(value, Mapping) or hasattr(value, "items"):
        return {str(key): plain(each) for key, each in value.items()}
    if hasattr(value, "value"):  # a number
        return value.value
    if hasattr(value, "__iter__"):
        return [plain(each) for each in value]
    return str(value)
