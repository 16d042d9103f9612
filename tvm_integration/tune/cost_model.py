"""`MetaScheduleCostModel`: any kernel model of this project as a cost model of MetaSchedule."""

import logging
import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from costmodels.checkpoint import Checkpoint, load_checkpoint, write_checkpoint
from costmodels.device import Device
from costmodels.errors import CheckpointError, CostModelError, InputError, SchemaError
from costmodels.kernel import FloatArray
from costmodels.learned_tasks import learned_array
from costmodels.load_model import checkpoint_path, load_kernel_model
from costmodels.model_state import model_of_state, state_of
from costmodels.protocol import KernelCostModel
from tvm_integration.compat import (
    MeasureCandidate,
    PyCostModel,
    RunnerResult,
    derived_object,
    meta_schedule,
)
from tvm_integration.identity import record_hash, task_key
from tvm_integration.records.database import CHECKPOINT, has_database, open_database, replay
from tvm_integration.tune.candidate_scores import CandidateScores, RoundReport

logger = logging.getLogger(__name__)

LEARNED = "tuning.learned_records"
"""Array of a tuning run's checkpoint: one hash for each record that the model has learned."""
ORIGIN = "tuning_began_with"
"""In a tuning run's provenance: digest of the checkpoint that it began with, if any."""
REPLAY_BATCH = 64


def _origin(model: str | os.PathLike[str] | KernelCostModel) -> str | None:
    """What tells one given model from another; None for a new one."""
    if isinstance(model, KernelCostModel):
        return f"object {id(model)}" if model.is_fitted else None
    path = checkpoint_path(model)
    return None if path is None else blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _resolved(
    model: str | os.PathLike[str] | KernelCostModel, seed: int
) -> tuple[KernelCostModel, Checkpoint | None]:
    """The model that a user names, and what it was read from."""
    if isinstance(model, str | os.PathLike):
        path = checkpoint_path(model)
        if path is not None and path.suffix == ".ckpt" and path.is_file():
            start = load_checkpoint(path)
            return model_of_state(start, path=path), start
    return load_kernel_model(model, seed=seed), None


class TuningModel:
    """What `MetaScheduleCostModel` does, as a plain class: scores, learning, saving, resuming.

    Parameters
    ----------
    model : KernelCostModel
        To score with.
    work_dir : path, optional
        Where the checkpoint and the database are.
    device : Device, optional
        What candidates run on.
    origin : str, optional
        What tells the model from others, if it has learned before.
    start : Checkpoint, optional
        What the model was read from: its provenance, and the tasks that it has learned, go on.
    """

    def __init__(
        self,
        model: KernelCostModel,
        work_dir: str | os.PathLike[str] | None = None,
        device: Device | None = None,
        origin: str | None = None,
        start: Checkpoint | None = None,
    ) -> None:
        self.scores = CandidateScores(model, device)
        self._origin = origin
        self._start = start
        self._tasks: set[str] = set()
        self._learned: set[int] = set()
        if not isinstance(work_dir, str | os.PathLike | None):
            raise InputError(f"work_dir must be a path, got {work_dir!r}")
        self._checkpoint = None if work_dir is None else Path(work_dir).absolute() / CHECKPOINT
        if self._checkpoint is None:
            return
        try:
            self._checkpoint.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"work_dir {work_dir} cannot be made: {error.strerror}") from None
        if self._checkpoint.exists():
            self._resume(self._checkpoint)
        if has_database(self._checkpoint.parent):
            self._replay_database()

    def update(
        self,
        context: meta_schedule.TuneContext,
        candidates: Sequence[MeasureCandidate],
        results: Sequence[RunnerResult],
    ) -> None:
        """Learn a batch and save."""
        if len(candidates) and self.scores.learn(context, candidates, results):
            if self._checkpoint is None and not self._learned:
                logger.warning("nothing is saved: give work_dir to keep what the cost model learns")
            self._learned.update(record_hash(context.mod, c.sch.trace) for c in candidates)
            self._tasks.add(task_key(context.mod, context.target))
            self._save()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint that also says which records and which tasks were learned."""
        learned = np.fromiter(sorted(self._learned), np.uint64, len(self._learned))
        state = state_of(self.scores.model)
        before = {} if self._start is None else self._start.provenance
        write_checkpoint(
            path,
            state.with_more(
                arrays={LEARNED: learned, **learned_array(self._tasks, self._start)},
                provenance={**before, **state.provenance, ORIGIN: self._origin},
            ),
        )

    def load(self, path: str | os.PathLike[str]) -> None:
        """Read a checkpoint of the same model, registered or not, or of any registered one."""
        self._take(load_checkpoint(path), path)

    def _take(self, checkpoint: Checkpoint, path: str | os.PathLike[str]) -> None:
        known = type(self.scores.model)
        self.scores.model = model_of_state(checkpoint, path=path, known=known)
        self._start, self._tasks = checkpoint, set()
        learned = checkpoint.arrays.get(LEARNED, np.empty(0, np.uint64))
        self._learned = {int(value) for value in learned}

    def _save(self) -> None:
        if self._checkpoint is None:
            return
        try:
            self.save(self._checkpoint)
        except CostModelError:  # a full disk must not end the run; the database has the records
            logger.exception("the cost model could not be saved")

    def _resume(self, path: Path) -> None:
        hint = "use another work directory, or delete that file to begin anew"
        try:
            checkpoint = load_checkpoint(path)
            wanted = self.scores.model.name
            if checkpoint.model != wanted:
                raise CheckpointError(
                    f"{path} must be of model {wanted!r}, got {checkpoint.model!r}"
                )
            began_with = checkpoint.provenance.get(ORIGIN)
            if self._origin not in (None, began_with):
                logger.warning(
                    "%s goes on, the model given is not used: to begin with that, %s", path, hint
                )
            self._take(checkpoint, path)
            self._origin = began_with
        except (CheckpointError, SchemaError) as error:
            raise type(error)(f"{error}: {hint}") from None
        logger.info("%s: resumed, %d records learned", path, len(self._learned))

    def _replay_database(self) -> None:
        """Learn the records of the database that this model has not learned."""
        assert self._checkpoint is not None
        records = open_database(self._checkpoint.parent).get_all_tuning_records()
        new = [r for r in records if record_hash(r.workload.mod, r.trace) not in self._learned]
        if not new:
            return
        groups: dict[str, list[tuple[Any, MeasureCandidate]]] = {}
        unusable = 0
        for record, candidate in replay(new):
            if candidate is None:
                unusable += 1
                continue
            key = task_key(record.workload.mod, record.target)
            groups.setdefault(key, []).append((record, candidate))
        for group in groups.values():
            self._learn_records(group)
        if unusable:
            logger.warning("%d records were left out: their traces no longer apply", unusable)
        logger.info("%d records of the database were learned", len(new) - unusable)
        self._save()

    def _learn_records(self, group: Sequence[tuple[Any, MeasureCandidate]]) -> None:
        first = group[0][0]
        context = meta_schedule.TuneContext(
            mod=first.workload.mod, target=first.target, task_name="replayed"
        )
        # The database is sorted by latency; a model that holds out the newest needs a mixture.
        order = np.random.default_rng(0).permutation(len(group))
        for start in range(0, len(group), REPLAY_BATCH * 8):
            part = [group[i] for i in order[start : start + REPLAY_BATCH * 8]]
            candidates = [candidate for _, candidate in part]
            results = [RunnerResult(list(record.run_secs), None) for record, _ in part]
            if self.scores.learn(context, candidates, results):
                self._learned.update(record_hash(first.workload.mod, r.trace) for r, _ in part)
                self._tasks.add(task_key(first.workload.mod, first.target))


@derived_object
class MetaScheduleCostModel(PyCostModel):
    """A cost model for ``tune_tir``, ``tune_tasks`` and ``tune_relax``.

    Parameters
    ----------
    model : str, path or KernelCostModel
        A registered name (``costmodels.registry``), ``pretrained:NAME``, a checkpoint file, or a
        model.
    work_dir : path, optional
        The work directory of the tuning run. The model is saved there after every update, and a
        later run with the same folder starts with it (a warning says so where `model` is another
        one that has learned), after learning the records of the database that it has not learned.
        Without it nothing is saved.
    device : Device, optional
        What the candidates run on. Without it this host, limited to what the target allows.
    seed : int
        For a new model.

    Raises
    ------
    InputError
        When the model is unknown or the folder cannot be used.
    CheckpointError, SchemaError
        When a checkpoint cannot be used.

    Notes
    -----
    Scores lie in (0, 1] and rise with the predicted speed; see
    `tvm_integration.tune.candidate_scores`. An error inside a model never ends a tuning run: it is
    logged, and the run goes on with the model as it last was.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | KernelCostModel = "gbt",
        work_dir: str | os.PathLike[str] | None = None,
        *,
        device: Device | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        resolved, start = _resolved(model, seed)
        self.tuning = TuningModel(resolved, work_dir, device, _origin(model), start)

    @property
    def kernel_model(self) -> KernelCostModel:
        """The model as it is now."""
        return self.tuning.scores.model

    @property
    def reports(self) -> list[RoundReport]:
        """One for each batch learned, oldest first."""
        return self.tuning.scores.reports

    def load(self, path: str) -> None:
        """Read a checkpoint of any registered model."""
        self.tuning.load(path)

    def save(self, path: str) -> None:
        """Write a checkpoint."""
        self.tuning.save(path)

    def update(
        self,
        context: meta_schedule.TuneContext,
        candidates: list[MeasureCandidate],
        results: list[RunnerResult],
    ) -> None:
        """Learn a batch of measurements; called by TVM."""
        self.tuning.update(context, candidates, results)

    def predict(
        self, context: meta_schedule.TuneContext, candidates: list[MeasureCandidate]
    ) -> FloatArray:
        """Scores of candidates; called by TVM.

        Returns
        -------
        numpy.ndarray
            float64 [candidates] in (0, 1].
        """
        return self.tuning.scores.score(context, candidates)
