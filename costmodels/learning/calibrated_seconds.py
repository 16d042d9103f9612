"""What a model keeps beside its predictions of seconds: intervals, and what devices were like."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Self

import numpy as np

from costmodels.kernel import FloatArray, KernelBatch, KernelDataset
from costmodels.learning.calibration import MondrianInterval, kind_of
from costmodels.learning.device_correction import DeviceCorrections
from costmodels.learning.familiarity import Familiarity
from costmodels.task_keys import canonical_key


class CalibratedSeconds:
    """Turns predicted log seconds and their spread into seconds with an interval.

    Attributes
    ----------
    familiar : Familiarity
        What was learned from: elsewhere intervals are wider.
    measured : set of str
        Keys of tasks that the model has learned since from measurements of its own: there nothing
        is unfamiliar and no device is corrected.
    """

    def __init__(self) -> None:
        self.familiar = Familiarity()
        self.measured: set[str] = set()
        self._interval = MondrianInterval()
        self._corrected = DeviceCorrections()

    def calibrate(
        self, held_out: KernelDataset, log_latency: FloatArray, spread: FloatArray
    ) -> None:
        """Fit the width of intervals on kernels that were not learned.

        Parameters
        ----------
        held_out : KernelDataset
            With what was measured.
        log_latency, spread : numpy.ndarray
            [kernels]; predicted log seconds, and how much the model's parts disagree.
        """
        error = held_out.log_latency - log_latency
        kinds = kind_of(held_out.batch, log_latency)
        self._interval = MondrianInterval.learn(kinds, error, spread, held_out.batch.task_index)

    def correct_devices(
        self,
        few: KernelDataset,
        log_latency: FloatArray,
        spread: FloatArray,
        rng: np.random.Generator,
    ) -> None:
        """Learn of devices from few programs: see `DeviceCorrections.learn`."""
        self._corrected.learn(few, log_latency, spread, rng)

    def learn_on(self, batch: KernelBatch) -> None:
        """The model learns on from these kernels: their devices need no correction any more."""
        self._corrected.forget(batch)
        self.familiar = self.familiar.and_of(batch)

    def ends(
        self, batch: KernelBatch, log_latency: FloatArray, spread: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Correct log seconds in place, and give the ends of their intervals.

        Parameters
        ----------
        batch : KernelBatch
            The kernels.
        log_latency : numpy.ndarray
            [kernels]; predicted log seconds, which change; NaN where nothing is known.
        spread : numpy.ndarray
            [kernels]; how much the model's parts disagree.

        Returns
        -------
        tuple of numpy.ndarray
            Seconds [kernels]: the lower ends, the upper ends.
        """
        wide = spread * self.familiar.spread_factor(batch, self.measured)
        found = self._interval.around(kind_of(batch, log_latency), log_latency, wide)
        self._corrected.apply(batch, log_latency, spread, found, measured=self.measured)
        return found

    def state(self) -> dict[str, Any]:
        """JSON values, for the settings of a checkpoint."""
        return {
            "interval": asdict(self._interval),
            "measured": sorted(self.measured),
            "corrected": self._corrected.state(),
            "familiar": self.familiar.as_dict(),
        }

    @classmethod
    def from_state(cls, settings: Mapping[str, Any]) -> Self:
        """Undo `state`; older checkpoints have only some of it."""
        found = cls()
        found._interval = MondrianInterval.from_dict(settings.get("interval", settings))
        found.measured = {canonical_key(key) for key in settings.get("measured", ())}
        found._corrected = DeviceCorrections.from_state(settings.get("corrected", ()))
        found.familiar = Familiarity.from_dict(settings.get("familiar", {}))
        return found
