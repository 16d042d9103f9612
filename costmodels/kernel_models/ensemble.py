"""Several kernel models as one: their mean order and the weighted geometric mean of their seconds.

Models of different kinds err on different kernels (Dietterich, "Ensemble Methods in Machine
Learning", MCS 2000); extracting features takes far longer than any of them. What few programs of a
device tell corrects the seconds there; the members learn on from many.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, Self

import numpy as np

from costmodels.checkpoint import Checkpoint, checkpoint_bytes, parse_checkpoint
from costmodels.errors import InputError
from costmodels.features.schema import PER_STORE, FeatureSchema
from costmodels.kernel import (
    FloatArray,
    KernelBatch,
    KernelDataset,
    KernelPrediction,
    Measured,
    Measurement,
    Unsupported,
)
from costmodels.learning.calibrated_seconds import CalibratedSeconds
from costmodels.learning.calibration import COVERAGE, spread_of
from costmodels.learning.device_correction import FEW
from costmodels.learning.familiarity import Familiarity
from costmodels.learning.holding_out import hold_out
from costmodels.model_state import Stored, model_of_state, state_of
from costmodels.protocol import Adaptable, Claims, FitProgress, KernelCostModel
from costmodels.registry import new_kernel_model

MEMBERS = ("gbt", "halide", "graphsage")
"""Registered names."""
STEPS = 100
"""Of a fit of all members, as progress counts them."""
SECONDS_WEIGHTS = (0.2, 0.4, 0.4)
"""Of the members' log seconds; chosen on left-out training networks and the validation network."""


class Ensemble(Stored):
    """The mean of boosted trees, of the Halide-style model and of GraphSAGE.

    Parameters
    ----------
    rng : numpy.random.Generator, optional
        Draws the seeds of the members.
    """

    name: ClassVar[str] = "ensemble"
    paper: ClassVar[str] = "Dietterich, Ensemble Methods in Machine Learning, MCS 2000"
    claims: ClassVar[Claims] = Claims(seconds=True, interval=True)
    schema: ClassVar[FeatureSchema] = PER_STORE
    graphs: ClassVar[bool] = True

    def __init__(self, *, rng: np.random.Generator | None = None) -> None:
        rng = rng or np.random.default_rng(0)
        self.members: tuple[KernelCostModel, ...] = tuple(
            new_kernel_model(name, rng=rng) for name in MEMBERS
        )
        self._seconds = CalibratedSeconds()

    @property
    def is_fitted(self) -> bool:
        """Whether any measured kernel has been learned."""
        return all(member.is_fitted for member in self.members)

    def fit(
        self,
        dataset: KernelDataset,
        *,
        rng: np.random.Generator,
        validation: KernelDataset | None = None,
        progress: FitProgress | None = None,
    ) -> Self:
        """Forget, then let every member learn from a data set.

        Parameters
        ----------
        dataset : KernelDataset
            To learn from.
        rng : numpy.random.Generator
            Draws all randomness.
        validation : KernelDataset, optional
            Kernels of other tasks, to stop and to calibrate by; a part of the tasks by default.
        progress : FitProgress, optional
            Told how far each member has come.
        """
        self.schema.require(dataset.batch.schema, owner=self.name)
        if validation is None:
            dataset, validation = hold_out(dataset, rng)
        new = tuple(new_kernel_model(name, rng=rng) for name in MEMBERS)
        for number, member in enumerate(new):
            member.fit(dataset, rng=rng, validation=validation, progress=_part(progress, number))
        self.members = new
        self._seconds = CalibratedSeconds()
        self._seconds.familiar = Familiarity.of(dataset.batch)
        if validation is not None:
            self._calibrate(validation)
        return self

    def adapt(
        self,
        dataset: KernelDataset,
        *,
        rng: np.random.Generator,
        progress: FitProgress | None = None,
    ) -> Self:
        """Learn of the devices of a data set: see `costmodels.protocol.Adaptable`.

        Of fewer than `FEW` programs that ran, the seconds on their devices are corrected, by what
        these programs tell; every member learns on from more of them, for all devices.
        """
        if not self.is_fitted:
            return self.fit(dataset, rng=rng, progress=progress)
        self.schema.require(dataset.batch.schema, owner=self.name)
        if not np.any(dataset.measured):
            raise InputError(f"{self.name} must be given kernels that ran to learn from, got none")
        if np.sum(dataset.measured) < FEW:
            found = [member.predict(dataset.batch) for member in self.members]
            self._seconds.correct_devices(dataset, *_log_seconds(found), rng)
            return self
        self._seconds.learn_on(dataset.batch)
        learned, held_out = hold_out(dataset, rng)
        for number, member in enumerate(self.members):
            assert isinstance(member, Adaptable)
            member.adapt(learned, rng=rng, progress=_part(progress, number))
        if held_out is not None:
            self._calibrate(held_out)
        return self

    def update(self, batch: KernelBatch, measurements: Sequence[Measurement]) -> None:
        """Let every member learn new measurements."""
        for member in self.members:
            member.update(batch, measurements)
        ran = [n for n, each in enumerate(measurements) if isinstance(each, Measured)]
        tasks = np.unique(batch.task_index[ran])
        self._seconds.measured |= {batch.tasks[task].key for task in tasks}

    def predict(self, batch: KernelBatch) -> KernelPrediction:
        """Predict each kernel on its own; one that a member does not support is unsupported."""
        found = [member.predict(batch) for member in self.members]
        log_latency, spread = _log_seconds(found)
        low_s, high_s = self._seconds.ends(batch, log_latency, spread)
        unsupported: dict[int, Unsupported] = {}
        for each in found:
            unsupported |= {problem.kernel: problem for problem in each.unsupported}
        return KernelPrediction(
            np.mean([each.utility for each in found], axis=0),
            np.exp(log_latency),
            low_s,
            high_s,
            COVERAGE,
            tuple(unsupported[kernel] for kernel in sorted(unsupported)),
        )

    def state(self) -> Checkpoint:
        """Return what a checkpoint holds: those of the members."""
        arrays = {
            name: np.frombuffer(checkpoint_bytes(state_of(member)), np.uint8)
            for name, member in zip(MEMBERS, self.members, strict=True)
        }
        settings = self._seconds.state()
        return Checkpoint.of(self.name, self.schema, arrays=arrays, settings=settings)

    @classmethod
    def from_state(cls, state: Checkpoint) -> Self:
        """Make the model of a state."""
        model = cls()
        model.members = tuple(
            model_of_state(parse_checkpoint(state.arrays[name].tobytes(), name), path=name)
            for name in MEMBERS
        )
        model._seconds = CalibratedSeconds.from_state(state.settings)
        return model

    def _calibrate(self, held_out: KernelDataset) -> None:
        found = [member.predict(held_out.batch) for member in self.members]
        self._seconds.calibrate(held_out, *_log_seconds(found))


def _log_seconds(found: Sequence[KernelPrediction]) -> tuple[FloatArray, FloatArray]:
    """What the members predict together, and how much they disagree: each [kernels]."""
    seconds = [each.latency_s for each in found if each.latency_s is not None]
    each = np.log(seconds)
    return np.average(each, axis=0, weights=SECONDS_WEIGHTS), spread_of(each)


def _part(progress: FitProgress | None, number: int) -> FitProgress | None:
    """What a member tells and keeps of a fit of all."""
    if progress is None:
        return None
    if progress.on_progress is not None:
        _tell(progress.on_progress, number, 0, 1, "begins")
    unfinished = progress.unfinished
    if unfinished is not None:
        unfinished = unfinished.with_name(f"{unfinished.name}.{MEMBERS[number]}")
    on_progress = progress.on_progress
    return FitProgress(
        None if on_progress is None else partial(_tell, on_progress, number), unfinished
    )


def _tell(
    on_progress: Callable[[int, int, str], None], number: int, done: int, most: int, text: str
) -> None:
    share = (number + done / most) / len(MEMBERS)  # members count their passes differently
    on_progress(round(STEPS * share), STEPS, f"{MEMBERS[number]}: {text}")
