"""The least time a kernel can take, from its rows and its device: what seconds are relative to.

Williams et al., "Roofline", CACM 2009.
"""

import numpy as np

from costmodels.kernel import FloatArray, KernelBatch, RowArray

SHORTEST_S = 1e-9
"""Bound of a kernel that neither computes nor moves anything."""


def log_bound(batch: KernelBatch) -> FloatArray:
    """Logarithm of each kernel's roofline.

    Operations are summed over the stages. Of bytes the stage that touches most counts: what one
    stage writes and the next reads may stay in a cache.

    Parameters
    ----------
    batch : KernelBatch
        Of the schema `costmodels.features.schema.PER_STORE`.

    Returns
    -------
    numpy.ndarray
        float64 [kernels]; natural logarithm of seconds.
    """
    operations = batch.sum_rows(_unscaled(batch.column("total.operations")))
    size_bytes = np.zeros(len(batch))
    # Of a gather TVM takes the whole range of the index type for touched.
    touched = np.minimum(batch.column("total.unique_bytes"), batch.column("total.bytes"))
    with np.errstate(invalid="ignore"):  # rows that are no numbers give a bound that is none
        np.maximum.at(size_bytes, batch.row_kernel, _unscaled(touched))
    peak = np.array([task.device.peak_flop_per_s for task in batch.tasks])[batch.task_index]
    rate = np.array([task.device.bandwidth_byte_per_s for task in batch.tasks])[batch.task_index]
    bound_s: FloatArray = np.maximum(operations / peak, size_bytes / rate)
    return np.log(np.maximum(bound_s, SHORTEST_S))


def _unscaled(column: RowArray) -> FloatArray:
    """Undo the logarithm of a column; what is larger than any real count is cut off."""
    return np.exp2(np.minimum(column.astype(np.float64), 70.0)) - 1.0
