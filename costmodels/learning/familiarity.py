"""Which devices and sizes of kernels a model has learned from: elsewhere it is farther off."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from costmodels.device import Device
from costmodels.kernel import FloatArray, KernelBatch

UNSEEN_DEVICE = 1.3
"""Times the spread, on a processor that was not learned from. From two experiments of one seed, in
which a processor was left out of training and kernels were known nowhere: without it intervals
held 80 and 84 %. With it they hold 94.5 to 95.7 % of kernels that are known elsewhere, on a Zen 4
left out (`scripts/few_shot.py`, three seeds)."""
PER_DOUBLING = 0.5
"""Of the spread more, for each doubling beyond the largest that was learned from; assumed."""
SIZES = ("total.operations", "total.unique_bytes")
"""Columns that tell the size of a kernel, of its largest stage; logarithms to base 2."""
LARGE = 0.99
"""Share of the kernels learned from that are no larger than what counts as learned: the largest of
all is no measure, for a few kernels are said to touch a thousand times what all others do."""

DeviceKey = tuple[float, ...]


def device_key(device: Device) -> DeviceKey:
    """What tells devices apart: not their names, nor rates that two readings tell otherwise."""
    caches = (device.l1_bytes, device.l2_bytes, device.l3_bytes)
    clock_hz = float(f"{device.clock_hz:.2g}")
    return (float(device.kind == "gpu"), device.cores, device.vector_bits, *caches, clock_hz)


@dataclass(frozen=True)
class Familiarity:
    """What a model has learned from.

    Parameters
    ----------
    devices : frozenset of tuple
        Keys of devices; none when that is not known, and then nothing is unfamiliar.
    largest : tuple of float
        The value of each of `SIZES` that the share `LARGE` of the kernels does not exceed.
    """

    devices: frozenset[DeviceKey] = frozenset()
    largest: tuple[float, ...] = (np.inf,) * len(SIZES)

    @classmethod
    def of(cls, batch: KernelBatch) -> Self:
        """Of kernels that are learned from."""
        used = np.unique(batch.task_index)
        devices = frozenset(device_key(batch.tasks[task].device) for task in used)
        return cls(devices, tuple(map(_large, _sizes(batch))))

    def and_of(self, batch: KernelBatch) -> "Familiarity":
        """Together with more kernels."""
        if not self.devices:
            return self
        more = Familiarity.of(batch)
        return Familiarity(
            self.devices | more.devices,
            tuple(max(pair) for pair in zip(self.largest, more.largest, strict=True)),
        )

    def spread_factor(self, batch: KernelBatch, measured: Container[str] = ()) -> FloatArray:
        """Times what intervals would be, for each kernel.

        Parameters
        ----------
        batch : KernelBatch
            The kernels.
        measured : container of str
            Keys of tasks that the model knows from measurements made since: familiar, too.

        Returns
        -------
        numpy.ndarray
            float64 [kernels]; 1 for what is like that which was learned.
        """
        factor: FloatArray = np.ones(len(batch))
        if not self.devices or not len(batch):
            return factor
        known = np.array([task.key in measured for task in batch.tasks], bool)[batch.task_index]
        unseen = [device_key(task.device) not in self.devices for task in batch.tasks]
        factor[np.array(unseen, bool)[batch.task_index]] = UNSEEN_DEVICE
        beyond = np.zeros(len(batch))
        for size, most in zip(_sizes(batch), self.largest, strict=True):
            np.maximum(beyond, size - most, out=beyond)
        return np.where(known, 1.0, factor * (1.0 + PER_DOUBLING * beyond))

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"devices": sorted(map(list, self.devices)), "largest": list(self.largest)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Undo `as_dict`; of a checkpoint that does not say, nothing is unfamiliar."""
        if not values.get("devices"):
            return cls()
        return cls(frozenset(map(tuple, values["devices"])), tuple(map(float, values["largest"])))


def _large(size: FloatArray) -> float:
    """The `LARGE` quantile; of few kernels the largest."""
    return float(np.quantile(size, LARGE, method="higher")) if len(size) else 0.0


def _sizes(batch: KernelBatch) -> list[FloatArray]:
    """Each of `SIZES` of the largest stage of each kernel; of a gather what it really touches."""
    found = []
    for name in SIZES:
        column = batch.column(name).astype(np.float64)
        if name == "total.unique_bytes":
            np.minimum(column, batch.column("total.bytes"), out=column)
        size = np.zeros(len(batch))
        np.maximum.at(size, batch.row_kernel, np.nan_to_num(column, posinf=0.0))
        found.append(size)
    return found
