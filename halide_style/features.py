"""What the coefficients of the terms may depend on: operator histograms and schedule features.

Halide's model reads 40 x 7 histogram entries of a pipeline stage and 39 features of its schedule.
Here both come from the rows of TVM's feature extractor; `HALIDE_SCHEDULE_FEATURES` says for each of
the 39 from which columns, or why it is missing.
"""

from collections.abc import Mapping

import numpy as np

from costmodels.features.roofline import log_bound
from costmodels.features.schema import PER_STORE
from costmodels.kernel import FloatArray, KernelBatch, RowArray
from halide_style.stages import Stages
from halide_style.terms import TERMS, term_seconds

OPERATIONS = tuple(name for name in PER_STORE.names if name.startswith("compute."))
"""Columns of the histogram: operations of a stage by kind and type."""
MAX_RATIO = 1e12
"""A term is at most so many times the roofline of its kernel."""

_INNERMOST = "loop*.extent and loop*.stride_0: bytes of the store that the inner loops follow"
_NO_LEVELS = "missing: TVM has no level of storage beside that of computing"
HALIDE_SCHEDULE_FEATURES: Mapping[str, str] = {
    "num_realizations": "allocation.times",
    "num_productions": _NO_LEVELS,
    "points_computed_per_realization": "loops.extent_product over allocation.times",
    "points_computed_per_production": _NO_LEVELS,
    "points_computed_total": "loops.extent_product",
    "points_computed_minimum": "missing: the unscheduled program is not part of a row",
    "innermost_loop_extent": "loop0.extent",
    "innermost_pure_loop_extent": "loop*.extent of the first without is_reduction",
    "unrolled_loop_extent": "unroll.extent_product, loops.auto_unroll_max_step",
    "inner_parallelism": "parallel.innermost_extent",
    "outer_parallelism": "parallel.extent_product",
    "bytes_at_realization": "allocation.bytes",
    "bytes_at_production": _NO_LEVELS,
    "bytes_at_root": "unique_bytes of the buffer that is written",
    "innermost_bytes_at_realization": _INNERMOST,
    "innermost_bytes_at_production": _INNERMOST,
    "innermost_bytes_at_root": _INNERMOST,
    "inlined_calls": "compute.* of what was inlined is counted in the stage itself",
    "unique_bytes_read_per_realization": "unique_bytes of the buffers that are read",
    "unique_lines_read_per_realization": "unique_lines of the buffers that are read",
    "allocation_bytes_read_per_realization": _NO_LEVELS,
    "working_set": "total.unique_bytes",
    "vector_size": "vectorize.innermost_extent",
    "native_vector_size": "device.vector_bits",
    "num_vectors": "loops.extent_product over vectorize.extent_product",
    "num_scalars": "loops.extent_product where vectorize.loops is 0",
    "scalar_loads_per_vector": "stride of the buffers that are read, above 1",
    "vector_loads_per_vector": "stride of the buffers that are read, at most 1",
    "scalar_loads_per_scalar": "is_read of the buffers",
    "bytes_at_task": "unique_bytes of the buffer that is written over parallel.extent_product",
    "innermost_bytes_at_task": _INNERMOST,
    "unique_bytes_read_per_vector": "unique_bytes over loops.extent_product and lanes",
    "unique_lines_read_per_vector": "unique_lines over loops.extent_product and lanes",
    "unique_bytes_read_per_task": "unique_bytes over parallel.extent_product",
    "unique_lines_read_per_task": "unique_lines over parallel.extent_product",
    "working_set_at_task": "total.unique_bytes over parallel.extent_product",
    "working_set_at_production": "traffic.loaded_*, traffic.stored_*; bytes_per_reuse",
    "working_set_at_realization": "reuse_distance_bytes of the buffers",
    "working_set_at_root": "total.unique_bytes",
}
"""Feature of Halide's schedule -> columns of `PER_STORE` or `DEVICE`, or ``missing: why``."""


def operator_histogram(stages: Stages) -> FloatArray:
    """float64 [rows, kinds]; share of each kind of operation in a stage; zeros for one without."""
    counts = np.column_stack([stages.count(name) for name in OPERATIONS])
    total = counts.sum(axis=1, keepdims=True)
    found: FloatArray = counts / np.maximum(total, 1.0)
    return found


def halide_inputs(batch: KernelBatch) -> RowArray:
    """What `halide_style.network.HalideNetwork` is told of each stage.

    Parameters
    ----------
    batch : KernelBatch
        Of the schema `costmodels.features.schema.PER_STORE`.

    Returns
    -------
    numpy.ndarray
        float32 [rows, terms + kinds + columns + 9]: the terms relative to the roofline of their
        kernel, the operator histogram, the row and its device.
    """
    stages = Stages(batch)
    bound_s = np.exp(log_bound(batch))[batch.row_kernel]
    relative = np.minimum(term_seconds(stages) / bound_s[:, None], MAX_RATIO)
    return np.hstack([relative, operator_histogram(stages), batch.rows_with_device]).astype(
        np.float32
    )


PARTS = (len(TERMS), len(OPERATIONS), len(PER_STORE.columns) + 9)
"""Columns of `halide_inputs` that are terms, histogram, and schedule."""
