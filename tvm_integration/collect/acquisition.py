"""Which programs of a task to measure next, so that a data set has a stated mixture of them."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from costmodels.errors import InputError
from costmodels.kernel import FloatArray, KernelBatch, Measurement, Task, concatenate
from costmodels.kernel_models.gbt.model import GradientBoostedTrees
from tvm_integration.collect.candidates import CandidateSource
from tvm_integration.compat import MeasureCandidate, Trace
from tvm_integration.tir.features import FeatureExtractor

MIXTURE: Mapping[str, float] = {
    "random": 0.5,
    "mutation": 0.2,
    "model": 0.2,
    "disagreement": 0.1,
}
"""Shares of a task's programs beside the unscheduled one."""
COMMITTEE = 3
"""Models whose disagreement is looked for."""
LEARNED_AT_ONCE = 32
"""Programs that the models learn together: an update takes as long for a few as for many."""
POOL_PER_CHOICE = 6
"""Programs that a model chooses from, for each that it shall choose."""
MUTATED_SHARE = 0.5
"""Share of such a pool that are mutations of the best so far; the rest is random."""
PARENTS = 8
"""The best programs of a task that are mutated."""


def parse_mixture(text: str) -> dict[str, float]:
    """Read ``random=0.5,mutation=0.5``.

    Raises
    ------
    InputError
        When a part is unknown, a share cannot be, or they do not add up to 1.
    """
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if name not in MIXTURE or not 0 <= share <= 1:
            raise InputError(
                f"mixture must be shares of {', '.join(MIXTURE)}, got {part.strip()!r}: "
                "write random=0.5,mutation=0.5, for example"
            )
        shares[name] = share
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise InputError(f"the shares of mixture must add up to 1, got {sum(shares.values()):g}")
    return shares


def wanted(per_task: int, mixture: Mapping[str, float]) -> dict[str, int]:
    """How many programs of each origin a task shall have, in the order they are measured."""
    rest = per_task - 1
    counts = {name: int(rest * mixture.get(name, 0.0)) for name in MIXTURE}
    first = max(MIXTURE, key=lambda name: mixture.get(name, 0.0))
    counts[first] += rest - sum(counts.values())
    return {"default": 1, **counts}


class QueryByCommittee:
    """Models that learn from what is measured: one to choose by, several to disagree.

    They learn just before they choose, so that a batch that needs no choice costs nothing.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._models = [GradientBoostedTrees(rng=each) for each in rng.spawn(COMMITTEE)]
        self._waiting: list[KernelBatch] = []
        self._measurements: list[Measurement] = []

    def learn(self, batch: KernelBatch, measurements: Sequence[Measurement]) -> None:
        """Take in a batch."""
        self._waiting.append(batch)
        self._measurements += measurements

    def catch_up(self) -> bool:
        """Learn what is waiting, if it is enough; tell whether anything has been learned."""
        if len(self._measurements) >= (LEARNED_AT_ONCE if self._models[0].is_fitted else 1):
            learned = concatenate(self._waiting)
            for model in self._models:
                model.update(learned, self._measurements)
            self._waiting, self._measurements = [], []
        return self._models[0].is_fitted

    def utilities(self, batch: KernelBatch) -> FloatArray:
        """float64 [models, kernels]."""
        return np.stack([model.predict(batch).utility for model in self._models])


class Acquisition:
    """Chooses the next programs of one task.

    Parameters
    ----------
    source : CandidateSource
        Draws programs.
    extractor : FeatureExtractor
        For the models.
    task : Task
        As the models know it.
    committee : QueryByCommittee
        Shared by all tasks.
    """

    def __init__(
        self,
        source: CandidateSource,
        extractor: FeatureExtractor,
        task: Task,
        committee: QueryByCommittee,
    ) -> None:
        self._source = source
        self._extractor = extractor
        self._task = task
        self._committee = committee

    def choose(
        self, deficits: Mapping[str, int], count: int, best: Sequence[Trace]
    ) -> list[tuple[str, MeasureCandidate]]:
        """Choose a batch.

        Parameters
        ----------
        deficits : mapping
            Origin -> how many are still wanted, in the order they are measured.
        count : int
            Most programs.
        best : sequence of Trace
            Of the fastest programs so far, the fastest first.

        Returns
        -------
        list of (str, MeasureCandidate)
            Each with its origin. Where an origin has no more programs, random ones take their
            place; empty when the space has no more at all.
        """
        chosen: list[tuple[str, MeasureCandidate]] = []
        for origin, missing in deficits.items():
            number = min(missing, count - len(chosen))
            if number > 0:
                chosen += [(origin, each) for each in self._draw(origin, number, best)]
        missing = min(count, sum(deficits.values())) - len(chosen)
        if missing > 0:
            chosen += [("random", each) for each in self._source.random(missing)]
        return chosen

    def extract(self, candidates: Sequence[MeasureCandidate]) -> KernelBatch:
        """Features of some of the task's programs."""
        return self._extractor.extract(self._source.context, candidates, self._task)

    def _draw(self, origin: str, count: int, best: Sequence[Trace]) -> list[MeasureCandidate]:
        if origin == "default":
            return self._source.default()
        if origin == "random":
            return self._source.random(count)
        if origin == "mutation":
            return self._source.mutations(best[:PARENTS], count)
        if not self._committee.catch_up():
            return []
        pool = self._source.mutations(best[:PARENTS], int(POOL_PER_CHOICE * count * MUTATED_SHARE))
        pool += self._source.random(POOL_PER_CHOICE * count - len(pool))
        if not pool:
            return []
        utilities = self._committee.utilities(self.extract(pool))
        rank = utilities[0] if origin == "model" else utilities.std(axis=0)
        order = np.argsort(-rank)
        self._source.give_back([pool[i] for i in order[count:]])
        return [pool[i] for i in order[:count]]


def deficits(counts: Counter[str], per_task: int, mixture: Mapping[str, float]) -> dict[str, int]:
    """Origin -> programs still wanted.

    Parameters
    ----------
    counts : Counter
        Origin -> programs measured, failures included. Random ones beyond their share stand in
        for origins that had no more.
    per_task : int
        Programs a task shall have.
    mixture : mapping
        Shares of the origins.
    """
    missing = {name: number - counts[name] for name, number in wanted(per_task, mixture).items()}
    surplus = sum(-number for number in missing.values() if number < 0)
    found = {name: max(0, number) for name, number in missing.items()}
    for name in reversed(found):
        taken = min(surplus, found[name])
        found[name] -= taken
        surplus -= taken
    return found
