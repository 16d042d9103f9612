"""Sparse polynomial regression: a few of hundreds of features of a program, in a short formula.

Huang et al., "Predicting Execution Time of Computer Programs Using Sparse Polynomial Regression",
NIPS 2010 (SPORE): select features, then the terms of a polynomial of those, either by LASSO or by
forward and backward greedy steps (FoBa, Zhang, NIPS 2008). There inputs and time are as counted;
here both are logarithms, for kernels differ by eight orders of magnitude: a term of the first
degree is a power law.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations_with_replacement
from math import prod
from typing import ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from costmodels.checkpoint import Checkpoint
from costmodels.errors import InputError
from costmodels.features.program_features import FEATURES, program_features
from costmodels.features.roofline import log_bound
from costmodels.features.schema import PER_STORE, FeatureSchema
from costmodels.installed import require_package
from costmodels.json_text import from_values
from costmodels.kernel import (
    FloatArray,
    KernelBatch,
    KernelDataset,
    KernelPrediction,
    Measurement,
    Unsupported,
)
from costmodels.learning.calibration import COVERAGE, Interval, even_spread
from costmodels.learning.holding_out import hold_out
from costmodels.metrics import task_groups
from costmodels.model_state import Stored
from costmodels.protocol import Claims, FitProgress
from costmodels.replay import ReplayMemory

SELECTIONS = ("lasso", "foba")
FAILURE_GAP = 1.0
"""Log seconds by which a failure counts as slower than the slowest kernel of its task."""
BACKWARD_SHARE = 0.5
"""FoBa takes a term out again when that costs less than this share of the last step's gain."""

Term: TypeAlias = tuple[int, ...]
"""Positions of selected features that are multiplied; one may repeat."""


@dataclass(frozen=True, slots=True)
class PolynomialConfig:
    """How a formula is chosen.

    Parameters
    ----------
    selection : str
        ``"lasso"`` or ``"foba"``.
    features, terms : int
        How many are selected at most.
    degree : int
        Of the polynomial, 1 to 3.
    memory : int
        Kernels kept to learn again from in updates.
    """

    selection: str = "foba"
    features: int = 12
    terms: int = 40
    degree: int = 3
    memory: int = 4096

    def __post_init__(self) -> None:
        if self.selection not in SELECTIONS:
            raise InputError(
                f"selection must be one of {', '.join(SELECTIONS)}, got {self.selection!r}"
            )
        if not (1 <= self.degree <= 3 and self.features >= 1 and self.terms >= 1):
            raise InputError(
                "degree must be 1 to 3, features and terms at least 1, got "
                f"{self.degree}, {self.features} and {self.terms}"
            )


@dataclass(frozen=True)
class Formula:
    """A polynomial of a few features.

    Parameters
    ----------
    features : tuple of int
        Columns of `costmodels.features.program_features`.
    terms : tuple of Term
        What is multiplied.
    coefficients : numpy.ndarray
        float64 [terms].
    intercept : float
        Log seconds above the roofline.
    means, scales, lows, highs : numpy.ndarray
        float64 [features]; how each is standardised, and the range it was seen in: beyond it a
        polynomial says anything, so it ends there.
    """

    features: tuple[int, ...]
    terms: tuple[Term, ...]
    coefficients: FloatArray
    intercept: float
    means: FloatArray
    scales: FloatArray
    lows: FloatArray
    highs: FloatArray

    def __call__(self, features: FloatArray) -> FloatArray:
        """Log seconds above the roofline: [kernels], from all program features."""
        found: FloatArray = self.expanded(features) @ self.coefficients + self.intercept
        return found

    def expanded(self, features: FloatArray) -> FloatArray:
        """The value of each term: [kernels, terms]."""
        chosen = np.clip(features[:, list(self.features)], self.lows, self.highs)
        return _expand((chosen - self.means) / self.scales, self.terms)

    def as_text(self, names: Sequence[str]) -> str:
        """The formula, its largest terms first, in standardised features."""
        lines = [f"log(seconds / roofline) = {self.intercept:+.3f}"]
        for place in np.argsort(-np.abs(self.coefficients)):
            factors = [names[self.features[position]] for position in self.terms[place]]
            lines.append(f"  {self.coefficients[place]:+.4f} * {' * '.join(factors)}")
        lines.append("each of these standardised as (log2(x + 1) - mean) / deviation:")
        for position, feature in enumerate(self.features):
            mean, scale = self.means[position], self.scales[position]
            lines.append(f"  {names[feature]}: mean {mean:.2f}, deviation {scale:.2f}")
        return "\n".join(lines)


class SparsePolynomial(Stored):
    """A short polynomial that predicts seconds relative to the roofline.

    Parameters
    ----------
    config : PolynomialConfig, optional
        How the formula is chosen.
    rng : numpy.random.Generator, optional
        Draws the seed of what is held out and forgotten; without it the seed is 0.
    """

    name: ClassVar[str] = "sparse_polynomial"
    paper: ClassVar[str] = "Huang et al., Sparse Polynomial Regression (SPORE), NIPS 2010"
    claims: ClassVar[Claims] = Claims(seconds=True, interval=True)
    schema: ClassVar[FeatureSchema] = PER_STORE
    graphs: ClassVar[bool] = False

    def __init__(
        self, config: PolynomialConfig | None = None, *, rng: np.random.Generator | None = None
    ) -> None:
        self.config = config or PolynomialConfig()
        self._seed = 0 if rng is None else int(rng.integers(2**31))
        self._forget()

    def _forget(self) -> None:
        self._memory = ReplayMemory(self.config.memory)
        self._formula: Formula | None = None
        self._interval = Interval()
        self._updates = 0

    @property
    def is_fitted(self) -> bool:
        """Whether there is a formula."""
        return self._formula is not None

    @property
    def formula(self) -> str:
        """The chosen formula, for people; an error when there is none yet."""
        if self._formula is None:
            raise InputError(f"{self.name} must be fitted before its formula is asked for")
        return self._formula.as_text(FEATURES)

    def fit(
        self,
        dataset: KernelDataset,
        *,
        rng: np.random.Generator,
        validation: KernelDataset | None = None,
        progress: FitProgress | None = None,
    ) -> Self:
        """Forget, then choose a formula.

        Parameters
        ----------
        dataset : KernelDataset
            Kernels of any number of tasks.
        rng : numpy.random.Generator
            Equal states give equal models.
        validation : KernelDataset, optional
            Kernels of other tasks, which calibrate the interval; a part of the tasks by default.
        progress : FitProgress, optional
            Ignored: it takes seconds.

        Raises
        ------
        InputError
            When no kernel ran.
        """
        del progress
        self.schema.require(dataset.batch.schema, owner=self.name)
        self._seed = int(rng.integers(2**31))
        self._forget()
        rng = np.random.default_rng(self._seed)
        if validation is None:
            dataset, validation = hold_out(dataset, rng)
        log_latency = _with_failures(dataset.batch.task_index, dataset.log_latency)
        if not np.any(np.isfinite(log_latency)):
            raise InputError(f"{self.name} must be given kernels that ran to learn from, got none")
        self._formula = self._choose(dataset.batch, log_latency)
        self._memory.add(dataset, rng=rng)
        judging = dataset if validation is None else validation
        error = judging.log_latency - self._log_seconds(judging.batch)
        self._interval = Interval.learn(error, even_spread(len(error)), judging.batch.task_index)
        return self

    def update(self, batch: KernelBatch, measurements: Sequence[Measurement]) -> None:
        """Choose the formula anew from what is remembered; the newest task counts most."""
        self.schema.require(batch.schema, owner=self.name)
        dataset = KernelDataset(batch, tuple(measurements))
        dataset = dataset.take(np.flatnonzero(batch.row_counts > 0))
        if not len(dataset):
            return
        self._updates += 1
        rng = np.random.default_rng([self._seed, self._updates])
        if len(self._memory):
            known, log_latency = self._memory.with_dataset(dataset)
        else:
            known, log_latency = dataset.batch, dataset.log_latency
        log_latency = _with_failures(known.task_index, log_latency)
        if np.any(np.isfinite(log_latency)):
            self._formula = self._choose(known, log_latency)
        self._memory.add(dataset, rng=rng)

    def predict(self, batch: KernelBatch) -> KernelPrediction:
        """Predict each kernel on its own; one without rows is unsupported."""
        self.schema.require(batch.schema, owner=self.name)
        missing = np.flatnonzero(batch.row_counts == 0)
        log_latency = np.full(len(batch), np.nan)
        utility = np.zeros(len(batch))
        if self._formula is not None:
            excess = self._formula(program_features(batch))
            log_latency = excess + log_bound(batch)
            log_latency[missing] = np.nan
            utility = np.nan_to_num(-log_latency)
        low_s, high_s = self._interval.around(log_latency, even_spread(len(batch)))
        reason = "it has no stage that writes data"
        return KernelPrediction(
            utility,
            np.exp(log_latency),
            low_s,
            high_s,
            COVERAGE,
            tuple(Unsupported(int(kernel), reason) for kernel in missing),
        )

    def state(self) -> Checkpoint:
        """Return what a checkpoint holds: formula, what is remembered, counters."""
        arrays, memory = self._memory.state()
        settings: dict[str, object] = {
            "config": asdict(self.config),
            "seed": self._seed,
            "updates": self._updates,
            "interval": asdict(self._interval),
            "memory": memory,
            "formula": None,
        }
        if self._formula is not None:
            for name in _ARRAYS:
                arrays[f"formula.{name}"] = getattr(self._formula, name)
            settings["formula"] = {
                "features": self._formula.features,
                "terms": self._formula.terms,
                "intercept": self._formula.intercept,
            }
        return Checkpoint.of(self.name, self.schema, arrays=arrays, settings=settings)

    @classmethod
    def from_state(cls, state: Checkpoint) -> Self:
        """Make the model of a state."""
        settings = state.settings
        model = cls(from_values(PolynomialConfig, settings["config"], "config"))
        model._seed, model._updates = int(settings["seed"]), int(settings["updates"])
        model._interval = Interval.from_dict(settings["interval"])
        model._memory = ReplayMemory.from_state(
            model.config.memory, cls.schema, state.arrays, settings["memory"]
        )
        found = settings["formula"]
        if found is not None:
            arrays = {name: state.arrays[f"formula.{name}"] for name in _ARRAYS}
            terms = tuple(tuple(term) for term in found["terms"])
            model._formula = Formula(
                features=tuple(found["features"]),
                terms=terms,
                intercept=found["intercept"],
                **arrays,
            )
        return model

    def _log_seconds(self, batch: KernelBatch) -> FloatArray:
        assert self._formula is not None
        return self._formula(program_features(batch)) + log_bound(batch)

    def _choose(self, batch: KernelBatch, log_latency: FloatArray) -> Formula:
        """Select features, then terms, then fit what is left by least squares."""
        known = np.flatnonzero(np.isfinite(log_latency) & (batch.row_counts > 0))
        everything = program_features(batch.take(known))
        wanted = log_latency[known] - log_bound(batch)[known]
        means, scales = everything.mean(axis=0), everything.std(axis=0)
        varying = np.flatnonzero(scales > 1e-6)
        if not len(varying):
            none: FloatArray = np.zeros(0)
            return Formula((), (), none, float(wanted.mean()), none, none, none, none)
        standard = (everything[:, varying] - means[varying]) / scales[varying]
        select = _lasso if self.config.selection == "lasso" else _foba
        places = select(standard, wanted, self.config.features)
        features = varying[places]
        terms = [
            term
            for degree in range(1, self.config.degree + 1)
            for term in combinations_with_replacement(range(len(places)), degree)
        ]
        expanded = _expand(standard[:, places], terms)
        kept = select(_standardised(expanded), wanted, self.config.terms)
        coefficients, intercept = _least_squares(expanded[:, kept], wanted)
        return Formula(
            features=tuple(int(feature) for feature in features),
            terms=tuple(terms[place] for place in kept),
            coefficients=coefficients,
            intercept=intercept,
            means=means[features],
            scales=scales[features],
            lows=everything[:, features].min(axis=0),
            highs=everything[:, features].max(axis=0),
        )


_ARRAYS = ("coefficients", "means", "scales", "lows", "highs")


def _with_failures(task_index: NDArray[np.int64], log_latency: FloatArray) -> FloatArray:
    """Let failures be slower than all that ran of their task; unknown where nothing did."""
    found = log_latency.copy()
    for group in task_groups(task_index):
        own = log_latency[group]
        if np.any(np.isfinite(own)):
            found[group] = np.where(np.isfinite(own), own, np.nanmax(own) + FAILURE_GAP)
    return found


def _expand(features: FloatArray, terms: Sequence[Term]) -> FloatArray:
    columns = [prod(features[:, place] for place in term) for term in terms]
    return np.column_stack(columns) if columns else np.zeros((len(features), 0))


def _standardised(columns: FloatArray) -> FloatArray:
    scales = columns.std(axis=0)
    found: FloatArray = (columns - columns.mean(axis=0)) / np.where(scales > 1e-9, scales, np.inf)
    return found


def _least_squares(columns: FloatArray, wanted: FloatArray) -> tuple[FloatArray, float]:
    """Coefficients and intercept; a little ridge keeps terms nearly alike from exploding."""
    centred, mean = columns - columns.mean(axis=0), float(wanted.mean())
    gram = centred.T @ centred + 1e-3 * len(columns) * np.eye(columns.shape[1])
    coefficients: FloatArray = np.linalg.solve(gram, centred.T @ (wanted - mean))
    return coefficients, mean - float(columns.mean(axis=0) @ coefficients)


def _lasso(columns: FloatArray, wanted: FloatArray, most: int) -> NDArray[np.int64]:
    """The columns that LASSO takes up first as its penalty falls (SPORE-LASSO)."""
    require_package("sklearn", "sparse", "sparse_polynomial")
    from sklearn.linear_model import lars_path_gram

    centred = wanted - wanted.mean()
    _, active, _ = lars_path_gram(
        columns.T @ centred,
        columns.T @ columns,
        n_samples=len(columns),
        method="lasso",
        max_iter=4 * most,
    )
    return np.sort(np.array(active[:most], np.int64))


def _foba(columns: FloatArray, wanted: FloatArray, most: int) -> NDArray[np.int64]:
    """Take up the column that helps most, and drop those that later became useless (FoBa)."""
    gram, linear = columns.T @ columns, columns.T @ (wanted - wanted.mean())
    total = float(np.sum((wanted - wanted.mean()) ** 2))
    chosen: list[int] = []
    loss = total
    for _ in range(4 * most):
        if len(chosen) >= most:
            break
        losses = _losses_with(gram, linear, total, chosen)
        best = int(np.argmin(losses))
        gain = loss - losses[best]
        if not gain > 1e-4 * total:
            break
        chosen.append(best)
        loss = losses[best]
        while len(chosen) > 2:
            without = [
                _loss(gram, linear, total, [c for c in chosen if c != column]) for column in chosen
            ]
            least = int(np.argmin(without))
            if chosen[least] == best or without[least] - loss > BACKWARD_SHARE * gain:
                break
            loss = without[least]
            chosen.pop(least)
    return np.sort(np.array(chosen or [int(np.argmax(np.abs(linear)))], np.int64))


def _loss(gram: FloatArray, linear: FloatArray, total: float, chosen: Sequence[int]) -> float:
    """Sum of squared errors of the best fit by some columns."""
    own = gram[np.ix_(chosen, chosen)] + 1e-6 * np.trace(gram) / len(gram) * np.eye(len(chosen))
    return total - float(linear[list(chosen)] @ np.linalg.solve(own, linear[list(chosen)]))


def _losses_with(
    gram: FloatArray, linear: FloatArray, total: float, chosen: Sequence[int]
) -> FloatArray:
    """Sum of squared errors with each further column; infinite for those chosen already.

    Of a column what the chosen ones do not explain counts (the Schur complement).
    """
    size = np.diag(gram).copy()
    reach = linear.copy()
    loss = total
    if chosen:
        own = gram[np.ix_(chosen, chosen)] + 1e-6 * np.trace(gram) / len(gram) * np.eye(len(chosen))
        explained = np.linalg.solve(own, np.column_stack([gram[chosen], linear[list(chosen)]]))
        size = size - np.einsum("cf,cf->f", gram[chosen], explained[:, :-1])
        reach = reach - gram[chosen].T @ explained[:, -1]
        loss = total - float(linear[list(chosen)] @ explained[:, -1])
    usable = size > 1e-6 * np.maximum(np.diag(gram), 1e-12)
    usable[list(chosen)] = False
    found: FloatArray = np.where(usable, loss - reach**2 / np.where(usable, size, 1.0), np.inf)
    return found
