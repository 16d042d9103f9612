"""Every registered kernel model passes every check; every check fails on a faulty model."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from costmodels.checkpoint import load_checkpoint, save_checkpoint
from costmodels.features.schema import PER_STORE
from costmodels.kernel import KernelPrediction, Measured, Unsupported, concatenate
from costmodels.protocol import Claims
from costmodels.registry import kernel_model_class, kernel_model_names
from costmodels.testing import KERNEL_MODEL_CHECKS


def check_id(check):
    return check.__name__.removeprefix("check_")


@pytest.mark.parametrize("check", KERNEL_MODEL_CHECKS, ids=check_id)
@pytest.mark.parametrize("name", kernel_model_names())
def test_registered_models_conform(name, check, tmp_path, monkeypatch):
    # For speed: no check looks at more, and those in the ensemble have checks of their own.
    networks = 1 if name == "ensemble" else 2
    for several in ("graphsage", "halide"):
        monkeypatch.setattr(kernel_model_class(several), "members", networks)
    check(kernel_model_class(name), tmp_path)


class Sound:
    """A small model without faults: ridge regression on mean rows; the faulty ones derive."""

    name: ClassVar[str] = "sound"
    paper: ClassVar[str] = "none"
    claims: ClassVar[Claims] = Claims(seconds=True, interval=True)
    schema: ClassVar = PER_STORE
    graphs: ClassVar = False

    def __init__(self):
        size = len(PER_STORE.columns)
        self.start = self.weights = np.zeros(size)
        self.products = np.eye(size)
        self.targets = np.zeros(size)
        self.level = np.zeros(1)
        self.seen = 0

    @property
    def is_fitted(self):
        return self.seen > 0

    def fit(self, dataset, *, rng, validation=None, progress=None):
        self.schema.require(dataset.batch.schema, owner=self.name)
        Sound.__init__(self)
        self.start = rng.normal(scale=1e-6, size=len(PER_STORE.columns))
        self.learn(dataset.batch, dataset.measurements)
        return self

    def update(self, batch, measurements):
        self.schema.require(batch.schema, owner=self.name)
        self.learn(batch, measurements)

    def learn(self, batch, measurements):
        ran = [k for k, m in enumerate(measurements) if isinstance(m, Measured)]
        if not ran:
            return
        features = self.mean_rows(batch)[ran]
        speed = -np.log([measurements[k].latency_s for k in ran])
        for task in np.unique(batch.task_index[ran]):
            of_task = batch.task_index[ran] == task
            features[of_task] -= features[of_task].mean(axis=0)
            speed[of_task] -= speed[of_task].mean()
        self.products = self.products + features.T @ features
        self.targets = self.targets + features.T @ speed
        self.weights = np.linalg.solve(self.products, self.targets) + self.start
        utility = (self.mean_rows(batch)[ran] * self.weights).sum(axis=1)
        log_latency = np.log([measurements[k].latency_s for k in ran])
        share = len(ran) / (self.seen + len(ran))
        self.level = self.level + share * (np.median(log_latency + utility) - self.level)
        self.seen += len(ran)

    @staticmethod
    def mean_rows(batch):
        sums = [batch.sum_rows(column) for column in batch.rows.astype(np.float64).T]
        return np.stack(sums, axis=1) / np.maximum(batch.row_counts, 1)[:, None]

    def predict(self, batch):
        self.schema.require(batch.schema, owner=self.name)
        utility = (self.mean_rows(batch) * self.weights).sum(axis=1)
        latency = np.exp(self.level - np.clip(utility, -50, 50))
        empty = np.flatnonzero(batch.row_counts == 0)
        latency[empty] = np.nan
        unsupported = tuple(Unsupported(int(k), "no rows") for k in empty)
        return KernelPrediction(utility, latency, latency / 2, latency * 2, 0.9, unsupported)

    def save(self, path):
        save_checkpoint(
            path,
            model=self.name,
            schema=self.schema,
            arrays={
                "start": self.start,
                "weights": self.weights,
                "products": self.products,
                "targets": self.targets,
                "level": self.level,
            },
            settings={"seen": self.seen},
        )

    @classmethod
    def load(cls, path):
        checkpoint = load_checkpoint(path)
        model = cls()
        for name, array in checkpoint.arrays.items():
            setattr(model, name, array)
        model.seen = checkpoint.settings["seen"]
        return model


@pytest.mark.parametrize("check", KERNEL_MODEL_CHECKS, ids=check_id)
def test_the_sound_model_conforms(check, tmp_path):
    check(Sound, tmp_path)


class FitReturnsNothing(Sound):
    def fit(self, dataset, *, rng, validation=None, progress=None):
        super().fit(dataset, rng=rng)


class ForgetsTheLastKernel(Sound):
    def predict(self, batch):
        whole = super().predict(batch)
        return KernelPrediction(whole.utility[:-1])


class NotANumber(Sound):
    def predict(self, batch):
        prediction = super().predict(batch)
        prediction.utility[:1] = np.nan
        return prediction


class Overflows(Sound):
    def predict(self, batch):
        with np.errstate(over="ignore"):
            return replace(
                super().predict(batch), utility=batch.sum_rows(np.exp2(batch.rows[:, 0]))
            )


class RanksByPosition(Sound):
    def predict(self, batch):
        return replace(super().predict(batch), utility=np.arange(len(batch), dtype=float))


class NormalizesByBatch(Sound):
    def predict(self, batch):
        prediction = super().predict(batch)
        top = np.abs(prediction.utility).max(initial=1e-9)
        return replace(prediction, utility=prediction.utility / top)


class Dithers(Sound):
    def predict(self, batch):
        prediction = super().predict(batch)
        noise = np.random.default_rng().normal(size=len(batch))
        return replace(prediction, utility=prediction.utility + noise)


class OwnSeed(Sound):
    def fit(self, dataset, *, rng, validation=None, progress=None):
        return super().fit(dataset, rng=np.random.default_rng())


class FitAddsUp(Sound):
    def fit(self, dataset, *, rng, validation=None, progress=None):
        before = self.weights
        super().fit(dataset, rng=rng)
        self.weights = self.weights + before
        return self


class NeverFitted(Sound):
    is_fitted = False


class PrefersTheSlowest(Sound):
    def predict(self, batch):
        prediction = super().predict(batch)
        return replace(prediction, utility=-prediction.utility)


class SecondsUpsideDown(Sound):
    def predict(self, batch):
        prediction = super().predict(batch)
        return replace(prediction, latency_s=1 / prediction.latency_s)


class AlwaysTheSame(Sound):
    def predict(self, batch):
        return replace(super().predict(batch), utility=np.zeros(len(batch)))


class LearnsNothingFromUpdates(Sound):
    def update(self, batch, measurements):
        self.schema.require(batch.schema, owner=self.name)


class LearnsNothingAfterFit(Sound):
    fitted = False

    def fit(self, dataset, *, rng, validation=None, progress=None):
        self.fitted = True
        return super().fit(dataset, rng=rng)

    def update(self, batch, measurements):
        if not self.fitted:
            super().update(batch, measurements)


class AdmiresFailures(Sound):
    def learn(self, batch, measurements):
        fast = Measured((1e-12,))
        super().learn(batch, [m if isinstance(m, Measured) else fast for m in measurements])


class BorrowsAName(Sound):
    name = "gbt"


class SavesInPlace(Sound):
    def save(self, path):
        beside = path.with_suffix(".beside")
        super().save(beside)
        path.write_bytes(beside.read_bytes())
        beside.unlink()


class KeepsGraphs(Sound):
    """Joins what it learned from a data set with what a search gives it."""

    def fit(self, dataset, *, rng, validation=None, progress=None):
        self.known = dataset.batch
        return super().fit(dataset, rng=rng)

    def update(self, batch, measurements):
        self.known = concatenate([self.known, batch])
        super().update(batch, measurements)


class CountsEmptyUpdates(Sound):
    def update(self, batch, measurements):
        super().update(batch, measurements)
        self.weights = self.weights + 1.0


class NeedsALatency(Sound):
    def update(self, batch, measurements):
        super().update(batch, measurements)
        self.best = min(m.latency_s for m in measurements if isinstance(m, Measured))


class GivesMilliseconds(Sound):
    factor = 1e3

    def predict(self, batch):
        found = super().predict(batch)
        seconds = [each * self.factor for each in (found.latency_s, found.low_s, found.high_s)]
        return KernelPrediction(found.utility, *seconds, 0.9, found.unsupported)


class GivesMicroseconds(GivesMilliseconds):
    factor = 1e6


class GivesNanoseconds(GivesMilliseconds):
    factor = 1e9


class GivesThousandsOfSeconds(GivesMilliseconds):
    factor = 1e-3


class WritesToRows(Sound):
    def predict(self, batch):
        batch.rows[:] -= 1.0
        return super().predict(batch)


class NoRowsNoAnswer(Sound):
    def predict(self, batch):
        prediction = super().predict(batch)
        prediction.utility[batch.row_counts == 0] = np.nan
        return prediction


class ShortWhenLastHasNoRows(Sound):
    def predict(self, batch):
        return KernelPrediction(np.bincount(batch.row_kernel, batch.rows[:, 0]))


class ZeroSecondsForUnknown(Sound):
    def predict(self, batch):
        prediction = super().predict(batch)
        return replace(prediction, latency_s=np.nan_to_num(prediction.latency_s), unsupported=())


class ClaimsTooMuch(Sound):
    def predict(self, batch):
        return KernelPrediction(super().predict(batch).utility)


class IntervalBesideTheValue(Sound):
    def predict(self, batch):
        prediction = super().predict(batch)
        return replace(prediction, low_s=prediction.high_s)


class SavesRounded(Sound):
    def save(self, path):
        self.weights, kept = self.weights.astype(np.float32), self.weights
        super().save(path)
        self.weights = kept


class CannotSaveUntrained(Sound):
    def save(self, path):
        assert self.is_fitted
        super().save(path)


class SavesTwoFiles(Sound):
    def save(self, path):
        super().save(path)
        path.with_suffix(".extra").write_text("more")


class LoadsAnything(Sound):
    @classmethod
    def load(cls, path):
        return cls()


class TakesAnySchema(Sound):
    def fit(self, dataset, *, rng, validation=None, progress=None):
        self.weights = rng.normal(size=dataset.batch.rows.shape[1])
        self.seen = len(dataset)
        return self

    def predict(self, batch):
        return super().predict(replace(batch, schema=self.schema))


FAULTS = {
    "protocol": [FitReturnsNothing, NeverFitted, BorrowsAName],
    "shapes": [ForgetsTheLastKernel],
    "finite": [NotANumber],
    "extreme_features": [Overflows],
    "order_independence": [RanksByPosition],
    "batch_independence": [NormalizesByBatch],
    "predict_repeats": [Dithers],
    "fit_repeats": [OwnSeed],
    "fit_forgets": [FitAddsUp],
    "fit_ranks": [PrefersTheSlowest, SecondsUpsideDown, AlwaysTheSame],
    "fit_gives_seconds": [
        GivesMilliseconds,
        GivesMicroseconds,
        GivesNanoseconds,
        GivesThousandsOfSeconds,
    ],
    "update_learns": [LearnsNothingFromUpdates, LearnsNothingAfterFit],
    "update_without_graphs": [KeepsGraphs],
    "update_with_nothing": [CountsEmptyUpdates],
    "update_with_failures": [NeedsALatency],
    "failures_are_not_preferred": [AdmiresFailures],
    "inputs_not_written": [WritesToRows],
    "no_rows": [NoRowsNoAnswer, ShortWhenLastHasNoRows],
    "unsupported_is_named": [ZeroSecondsForUnknown],
    "claims": [ClaimsTooMuch, IntervalBesideTheValue],
    "save_load": [SavesRounded],
    "save_is_atomic": [SavesInPlace],
    "save_load_untrained": [CannotSaveUntrained],
    "no_pickle": [SavesTwoFiles],
    "foreign_checkpoint": [LoadsAnything],
    "schema_mismatch": [TakesAnySchema],
}


def test_what_a_model_lacks_is_named(tmp_path):
    class Anonymous(Sound):
        @property
        def paper(self):
            raise AttributeError("paper")

    check = next(each for each in KERNEL_MODEL_CHECKS if check_id(each) == "protocol")
    with pytest.raises(AssertionError, match="are missing: paper"):
        check(Anonymous, tmp_path)


def test_every_check_has_a_faulty_model():
    assert set(FAULTS) == {check_id(check) for check in KERNEL_MODEL_CHECKS}


@pytest.mark.parametrize(
    ("check", "model"),
    [
        pytest.param(check, model, id=f"{check_id(check)}-{model.__name__}")
        for check in KERNEL_MODEL_CHECKS
        for model in FAULTS[check_id(check)]
    ],
)
def test_checks_fail_on_faulty_models(check, model, tmp_path):
    with pytest.raises((AssertionError, ValueError, AttributeError)):
        check(model, tmp_path)
