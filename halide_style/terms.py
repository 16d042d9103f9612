"""Hand-made terms that scale with the run time of a stage, after Halide's autoscheduler.

Adams et al., "Learning to Optimize Halide with Tree Search and Random Programs", SIGGRAPH 2019.
Each term is the seconds that one cause would take if every event of it cost what is written beside
it; the network of `halide_style.network` finds how much each really counts. A term is computed for
all stages of a batch at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from costmodels.features.schema import CONFLICT_PERIODS
from costmodels.kernel import FloatArray
from halide_style.stages import Stages

LINE_BYTES = 64
PAGE_BYTES = 4096
PAGE_FAULT_S = 2.5e-7
"""Of mapping one page; about what Linux takes on current processors."""
ALLOCATION_S = 1e-7
"""Of one call of the allocator."""
LAUNCH_S = 5e-6
"""Of starting and joining the threads of a parallel loop."""
TASK_S = 2e-7
"""Of handing one piece of a parallel loop to a thread."""
STAGE_S = 2e-7
"""Of entering a stage: set-up of loops and addresses."""


@dataclass(frozen=True, slots=True)
class Term:
    """One cause of run time.

    Parameters
    ----------
    name : str
        For people and tables.
    formula : str
        In words; every term is in seconds.
    source : str
        Which coefficients of Halide's model it stands for, or where else it comes from.
    seconds : callable
        Stages -> float64 [rows].
    """

    name: str
    formula: str
    source: str
    seconds: Callable[[Stages], FloatArray]


def vector_compute(stages: Stages) -> FloatArray:
    """Operations of vectorised code over lanes, in cycles of the busiest core."""
    operations = stages.count("total.operations") / stages.lanes
    return np.where(stages.is_vector, operations * stages.cycle_s, 0.0)


def scalar_compute(stages: Stages) -> FloatArray:
    """Operations of code that is not vectorised, in cycles of the busiest core."""
    operations = stages.count("total.operations")
    return np.where(stages.is_vector, 0.0, operations * stages.cycle_s)


def long_operations(stages: Stages) -> FloatArray:
    """Divisions and calls of mathematical functions, which take many cycles each."""
    names = ("float_math_func", "float_div_mod", "int_div_mod", "float_other_func")
    operations = sum((stages.count(f"compute.{name}") for name in names), np.zeros(1))
    return 10.0 * operations / stages.lanes * stages.cycle_s


def choices(stages: Stages) -> FloatArray:
    """Comparisons and selections, such as those that padding leaves in the innermost loop."""
    names = ("bool_op", "select_op", "float_cmp", "int_cmp")
    operations = sum((stages.count(f"compute.{name}") for name in names), np.zeros(1))
    return operations / stages.lanes * stages.cycle_s


def loop_overhead(stages: Stages) -> FloatArray:
    """Iterations that are neither vectorised nor unrolled."""
    unrolled = np.maximum(stages.count("unroll.extent_product"), 1.0)
    vector = np.maximum(stages.count("vectorize.extent_product"), 1.0)
    return np.maximum(stages.points / unrolled / vector, 1.0) * stages.cycle_s


def waiting_sums(stages: Stages) -> FloatArray:
    """Additions that wait for the one before to the same sum, four cycles each."""
    length, apart = stages.count("sum.length"), np.maximum(stages.count("sum.apart"), 1.0)
    lanes = np.maximum(stages.count("sum.lanes"), 1.0)
    steps = stages.points / np.minimum(lanes, np.maximum(stages.lanes, 1.0)) / apart
    return np.where(length > 1, 4.0 * steps * stages.cycle_s, 0.0)


def scalar_loads(stages: Stages) -> FloatArray:
    """Elements loaded by code that is not vectorised."""
    loads = stages.points * stages.read.sum(axis=1)
    return np.where(stages.is_vector, 0.0, loads * stages.cycle_s)


def vector_loads(stages: Stages) -> FloatArray:
    """Vectors loaded from buffers that the innermost loop goes through one by one."""
    dense = stages.read & (stages.buffers("stride") <= 1)
    loads = stages.points / stages.lanes * dense.sum(axis=1)
    return np.where(stages.is_vector, loads * stages.cycle_s, 0.0)


def gathered_loads(stages: Stages) -> FloatArray:
    """Elements loaded by vectorised code from buffers that it goes through in strides."""
    strided = stages.read & (stages.buffers("stride") > 1)
    loads = stages.points * strided.sum(axis=1)
    return np.where(stages.is_vector, loads * stages.cycle_s, 0.0)


def lines_touched(stages: Stages) -> FloatArray:
    """Cache lines that loads fetch into registers, one cycle each."""
    return stages.loaded_lines(np.zeros(len(stages.batch.rows))) * stages.cycle_s


def lines_beyond_l1(stages: Stages) -> FloatArray:
    """Cache lines fetched from beyond the first-level cache, four cycles each."""
    return 4.0 * stages.loaded_lines(stages.device("l1_bytes")) * stages.cycle_s


def lines_beyond_l2(stages: Stages) -> FloatArray:
    """Cache lines fetched from beyond the second-level cache, ten cycles each."""
    return 10.0 * stages.loaded_lines(stages.device("l2_bytes")) * stages.cycle_s


def lines_beyond_l3(stages: Stages) -> FloatArray:
    """Cache lines fetched from memory, at its bandwidth."""
    own_bytes = stages.device("l3_bytes") / stages.device("cores")
    size_bytes = stages.loaded_lines(own_bytes) * LINE_BYTES
    return size_bytes / stages.device("bandwidth_byte_per_s")


def crowded_lines(stages: Stages) -> FloatArray:
    """Lines that few sets of the first-level cache take, eight cycles over the number of sets."""
    period = CONFLICT_PERIODS[0]
    sets = stages.count(f"conflict.sets_{period}")
    is_crowded = (sets > 0) & (sets < period // LINE_BYTES)
    lines = stages.loaded_lines(stages.device("l1_bytes"))
    return np.where(is_crowded, 8.0 * lines / np.maximum(sets, 1.0) * stages.cycle_s, 0.0)


def unique_bytes_read(stages: Stages) -> FloatArray:
    """Different bytes that are read, at the bandwidth of memory."""
    size_bytes = np.where(stages.read, stages.buffers("unique_bytes"), 0.0).sum(axis=1)
    return np.asarray(size_bytes / stages.device("bandwidth_byte_per_s"))


def unique_bytes_per_task(stages: Stages) -> FloatArray:
    """Different bytes that are read, once by each piece of a parallel loop that shares none."""
    size_bytes = np.where(stages.read, stages.buffers("unique_bytes"), 0.0).sum(axis=1)
    return np.asarray(size_bytes * stages.tasks**0.5 / stages.device("bandwidth_byte_per_s"))


def store_lines(stages: Stages) -> FloatArray:
    """Cache lines touched by stores, one cycle each."""
    lines = np.where(stages.written, stages.buffers("lines"), 0.0).sum(axis=1)
    return np.asarray(lines * stages.cycle_s)


def unique_bytes_written(stages: Stages) -> FloatArray:
    """Different bytes that are written, at the bandwidth of memory."""
    size_bytes = np.where(stages.written, stages.buffers("unique_bytes"), 0.0).sum(axis=1)
    return np.asarray(size_bytes / stages.device("bandwidth_byte_per_s"))


def strided_stores(stages: Stages) -> FloatArray:
    """Elements that vectorised code stores in strides, which takes it apart."""
    strided = stages.written & (stages.buffers("stride") > 1)
    stores = stages.points * strided.any(axis=1)
    return np.where(stages.is_vector, stores * stages.cycle_s, 0.0)


def false_sharing(stages: Stages) -> FloatArray:
    """Stores of cores that write into the same line: points over bytes that a piece writes."""
    size_bytes = np.where(stages.written, stages.buffers("unique_bytes"), 0.0).sum(axis=1)
    own = np.maximum(size_bytes / stages.tasks, 1.0)
    shared = (stages.tasks > 1) & (own < LINE_BYTES)
    return np.where(shared, stages.points * LINE_BYTES / own * stages.cycle_s, 0.0)


def page_faults(stages: Stages) -> FloatArray:
    """Pages that are written for the first time."""
    size_bytes = np.where(stages.written, stages.buffers("unique_bytes"), 0.0).sum(axis=1)
    return np.asarray(size_bytes / PAGE_BYTES * PAGE_FAULT_S)


def allocation(stages: Stages) -> FloatArray:
    """Calls of the allocator for the buffer that is written."""
    return stages.count("allocation.times") * ALLOCATION_S * stages.serial_share


def parallel_launch(stages: Stages) -> FloatArray:
    """Starting and joining the threads of a parallel loop."""
    return np.where(stages.tasks > 1, LAUNCH_S, 0.0)


def per_task(stages: Stages) -> FloatArray:
    """Handing the pieces of a parallel loop to threads."""
    return np.where(stages.tasks > 1, stages.tasks * TASK_S, 0.0)


def idle_cores(stages: Stages) -> FloatArray:
    """Time that cores wait for the busiest one."""
    operations = stages.count("total.operations") / stages.lanes
    waste = stages.serial_share - 1.0 / stages.device("cores")
    return operations * np.maximum(waste, 0.0) / stages.device("clock_hz")


def working_set(stages: Stages) -> FloatArray:
    """Bytes that a piece touches beyond its second-level cache, at the bandwidth of memory."""
    own: FloatArray = stages.buffers("unique_bytes").sum(axis=1) / stages.tasks
    beyond = np.maximum(own - stages.device("l2_bytes"), 0.0) * stages.tasks
    return np.asarray(beyond / stages.device("bandwidth_byte_per_s"))


def per_stage(stages: Stages) -> FloatArray:
    """Entering a stage."""
    return np.full(len(stages.batch.rows), STAGE_S)


def _term(seconds: Callable[[Stages], FloatArray], source: str) -> Term:
    formula = (seconds.__doc__ or "").strip().split("\n")[0].rstrip(".")
    return Term(seconds.__name__, formula, source, seconds)


TERMS: tuple[Term, ...] = (
    _term(vector_compute, "c0, c2: vectors, inlined or not, with idle-core waste"),
    _term(scalar_compute, "c1, c3: scalars, inlined or not, with idle-core waste"),
    _term(long_operations, "own: Halide tells costly operations by its histogram alone"),
    _term(choices, "own: padding of convolutions"),
    _term(loop_overhead, "own: Halide unrolls before it counts"),
    _term(waiting_sums, "own: latency of dependent additions"),
    _term(scalar_loads, "c5: scalar loads per scalar"),
    _term(vector_loads, "c6: vector loads per vector"),
    _term(gathered_loads, "c7: scalar loads per vector"),
    _term(lines_touched, "c8: unique lines read per vector"),
    _term(lines_beyond_l1, "c9: unique lines read per realization; at each level of the loops"),
    _term(lines_beyond_l2, "c10: unique lines read per task"),
    _term(lines_beyond_l3, "c11: lines of allocations read"),
    _term(crowded_lines, "own: conflict misses"),
    _term(unique_bytes_read, "c12: unique bytes read per realization"),
    _term(unique_bytes_per_task, "c13-c15: unique bytes read per vector, per scalar, per task"),
    _term(store_lines, "c16-c18: lines stored"),
    _term(unique_bytes_written, "c19-c21: bytes stored"),
    _term(strided_stores, "own: scattered stores"),
    _term(false_sharing, "c22: points over innermost bytes at task"),
    _term(page_faults, "c23"),
    _term(allocation, "c24: malloc"),
    _term(parallel_launch, "c25"),
    _term(per_task, "c26"),
    _term(idle_cores, "own: the waste that multiplies compute in Halide, also as a sum"),
    _term(working_set, "c27"),
    _term(per_stage, "own"),
)
"""All terms; their order is part of checkpoints."""


def term_seconds(stages: Stages) -> FloatArray:
    """All terms of all stages.

    Returns
    -------
    numpy.ndarray
        float64 [rows, terms], seconds, finite and at least 0.
    """
    found = np.column_stack([term.seconds(stages) for term in TERMS])
    return np.nan_to_num(found.reshape(len(stages.batch.rows), len(TERMS)), posinf=1e9)
