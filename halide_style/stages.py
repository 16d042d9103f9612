"""The stages of scheduled programs in plain units: counts, bytes, and what the device can do."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from costmodels.features.schema import BUFFERS_PER_STORE, CACHE_BYTES, LOG2
from costmodels.kernel import FloatArray, KernelBatch

ROUNDING = 2e-6
"""Relative distance from a whole number that is none."""
MAX_LOG2 = 60.0
"""Logarithms beyond that of any real count are cut off."""


@dataclass(frozen=True)
class Stages:
    """All stages of a batch, one entry a row.

    Parameters
    ----------
    batch : KernelBatch
        Of the schema `costmodels.features.schema.PER_STORE`.
    """

    batch: KernelBatch

    def count(self, name: str) -> FloatArray:
        """float64 [rows]; a column of the rows, its logarithm undone."""
        position = self.batch.schema.index[name]
        values = self.batch.rows[:, position].astype(np.float64)
        if self.batch.schema.columns[position].scale != LOG2:
            return values
        values = np.exp2(np.clip(values, 0.0, MAX_LOG2)) - 1.0
        whole = np.rint(values)  # float32 keeps seven digits of a count's logarithm
        return np.where(np.abs(values - whole) <= ROUNDING * whole, whole, values)

    def buffers(self, name: str) -> FloatArray:
        """float64 [rows, 5]; a quantity of the buffers that a stage touches most; 0 for none."""
        columns = [self.count(f"buffer{number}.{name}") for number in range(BUFFERS_PER_STORE)]
        found = np.column_stack(columns)
        if name.startswith("unique_"):  # of a gather TVM takes all that an index can reach
            return np.minimum(found, self.buffers(name.removeprefix("unique_")))
        return found

    def device(self, name: str) -> FloatArray:
        """float64 [rows]; a figure of the device that each stage runs on."""
        by_task = [float(getattr(task.device, name)) for task in self.batch.tasks]
        of_kernel = np.array(by_task)[self.batch.task_index]
        found: FloatArray = of_kernel[self.batch.row_kernel]
        return found

    @cached_property
    def read(self) -> NDArray[np.bool_]:
        """bool [rows, 5]; buffers that are read, those also written among them."""
        found: NDArray[np.bool_] = (self.buffers("is_read") + self.buffers("is_read_write")) > 0
        return found

    @cached_property
    def written(self) -> NDArray[np.bool_]:
        """bool [rows, 5]; buffers that are written."""
        found: NDArray[np.bool_] = (self.buffers("is_write") + self.buffers("is_read_write")) > 0
        return found

    def loaded_lines(self, cache_bytes: FloatArray) -> FloatArray:
        """float64 [rows]; cache lines that loads fetch into a cache of so many bytes.

        Between the sizes that a row tells of it is interpolated. Where the loops of a stage are
        not known every touch counts.
        """
        told = np.column_stack([self.batch.column(f"traffic.loaded_{n}") for n in CACHE_BYTES])
        sizes = np.log2(CACHE_BYTES)
        size = np.log2(np.clip(cache_bytes, CACHE_BYTES[0], CACHE_BYTES[-1]))
        upper = np.clip(np.searchsorted(sizes, size), 1, len(sizes) - 1)
        share = (size - sizes[upper - 1]) / (sizes[upper] - sizes[upper - 1])
        rows = np.arange(len(told))
        log_lines = told[rows, upper - 1] * (1.0 - share) + told[rows, upper] * share
        lines = np.exp2(np.clip(log_lines.astype(np.float64), 0.0, MAX_LOG2)) - 1.0
        touched = np.where(self.read, self.buffers("lines"), 0.0).sum(axis=1)
        return np.asarray(np.where(self.count("traffic.touched") > 0, lines, touched))

    @cached_property
    def points(self) -> FloatArray:
        """float64 [rows]; iterations of the innermost statement."""
        return np.maximum(self.count("loops.extent_product"), 1.0)

    @cached_property
    def tasks(self) -> FloatArray:
        """float64 [rows]; pieces that run in parallel; 1 without a parallel loop."""
        return np.maximum(self.count("parallel.extent_product"), 1.0)

    @cached_property
    def serial_share(self) -> FloatArray:
        """float64 [rows]; share of the work that the busiest core does.

        ``ceil(tasks / cores) / tasks``: 1 / cores at best, more when some cores idle at the end.
        """
        found: FloatArray = np.ceil(self.tasks / self.device("cores")) / self.tasks
        return found

    @cached_property
    def is_vector(self) -> NDArray[np.bool_]:
        """bool [rows]; whether a loop is vectorised."""
        found: NDArray[np.bool_] = self.count("vectorize.loops") > 0
        return found

    @cached_property
    def lanes(self) -> FloatArray:
        """float64 [rows]; elements of 32 bits that one instruction handles, 1 for scalar code."""
        native = np.maximum(self.device("vector_bits") / 32, 1.0)
        length = np.maximum(self.count("vectorize.innermost_extent"), 1.0)
        # A loop shorter than a vector uses a part of it; a longer one takes several.
        full = length / np.ceil(length / native)
        return np.where(self.is_vector, full, 1.0)

    @cached_property
    def cycle_s(self) -> FloatArray:
        """float64 [rows]; seconds of a cycle, times the share of the busiest core."""
        return self.serial_share / self.device("clock_hz")
