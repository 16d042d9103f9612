"""Judge kernel models on a data set, always beside random picks."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from costmodels.checkpoint import load_checkpoint
from costmodels.checks import check_seed, require_type
from costmodels.dataset.featurized import kept_features
from costmodels.dataset.folder import StoredDataset, read_dataset
from costmodels.dataset.kernel_rows import RecordRow, TaskRow
from costmodels.dataset.splits import Split, read_split
from costmodels.errors import CheckpointError, InputError
from costmodels.fitting import Features
from costmodels.kernel import KernelBatch, KernelDataset, KernelPrediction, Measured
from costmodels.learned_tasks import count_learned
from costmodels.load_model import checkpoint_path, load_kernel_model
from costmodels.model_scores import Scores, TestSet, score_prediction
from costmodels.registry import kernel_model_names

__all__ = ["RANDOM", "Baseline", "Evaluation", "SplitParts", "evaluate", "split_parts"]

RANDOM = "random"


class Baseline(Protocol):
    """What models are set beside: it is trained on a split, and keeps nothing."""

    def fit(self, dataset: KernelDataset, *, rng: np.random.Generator) -> Self:
        """Learn from measured kernels."""
        ...

    def predict(self, batch: KernelBatch) -> KernelPrediction:
        """Return utilities of kernels, higher for faster ones."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """What models achieve on the same test set.

    Parameters
    ----------
    tasks, records : int
        That judged.
    split : str or None
        Name of the split.
    models : mapping
        Name as it was given -> scores.
    learned : mapping
        Name of a trained model -> how many of the tasks that judged it has learned; None where
        it does not say. Scores of such a model tell how well it remembers.
    """

    tasks: int
    records: int
    split: str | None
    models: Mapping[str, Scores]
    learned: Mapping[str, int | None]

    def as_json(self) -> dict[str, Any]:
        """The document that ``costmodels evaluate --json`` prints."""
        return {
            "tasks": self.tasks,
            "records": self.records,
            "split": self.split,
            "models": {name: scores.values() for name, scores in self.models.items()},
            "learned_tasks": dict(self.learned),
        }


@dataclass(frozen=True)
class SplitParts:
    """A data set cut by a split.

    Parameters
    ----------
    train, validation : KernelDataset, optional
        To learn from and to stop by; None without a split, and where it has no validation tasks.
    test : TestSet
        To judge by: the randomly drawn programs of the test tasks.
    """

    train: KernelDataset | None
    validation: KernelDataset | None
    test: TestSet


def split_parts(
    dataset: StoredDataset, split: str | None, *, features: Features = kept_features
) -> SplitParts:
    """Cut a data set by a split; without one all of it is to judge by.

    Parameters
    ----------
    dataset : StoredDataset
        What is cut.
    split : str, optional
        Its name.
    features : callable
        Of its programs; by default those in the cache.

    Raises
    ------
    InputError
        When the split is unknown, or nothing measured is there to judge by.
    """
    known = None if split is None else read_split(dataset, split)
    everything = features(dataset)
    tested = _test_records(dataset, known)
    judging = everything.select(lambda record: record.identity in tested)
    test = TestSet(judging, calls_by_network(dataset.tasks.values()))
    if known is None:
        return SplitParts(None, None, test)
    return SplitParts(*everything.training_parts(known), test)


def evaluate(
    models: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    dataset: str | os.PathLike[str] | StoredDataset,
    *,
    split: str | None = None,
    seed: int = 0,
    features: Features = kept_features,
    baselines: Mapping[str, Callable[[], Baseline]] | None = None,
    on_stage: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Train models on a split's training tasks and judge them on its test tasks.

    Parameters
    ----------
    models : str, path, or sequence of them
        Registered names, which are trained, and trained models (``pretrained:NAME`` or a
        checkpoint), which are taken as they are.
    dataset : str, path or StoredDataset
        To learn from and to be judged on: a folder, or ``shipped:NAME``.
    split : str, optional
        Of the data set. Without it every task judges, and only trained models are accepted.
    seed : int
        Of training and of the bootstrap.
    features : callable
        By default those in the cache, which takes no TVM; `tvm_integration.featurize` extracts
        them where they are missing.
    baselines : mapping, optional
        Name -> what makes one. They are trained, and left out without a split; random picks are
        always there.
    on_stage : callable
        Told what is going on.

    Returns
    -------
    Evaluation
        Scores of every model, by the name that was given.

    Raises
    ------
    InputError
        When a model is unknown or would have to be trained without a split, features are missing,
        or nothing measured is there to judge by.

    Examples
    --------
    >>> found = evaluate(["gbt", "halide"], "shipped:cpu", split="networks")  # doctest: +SKIP
    """
    baselines = baselines or {}
    several = [models] if isinstance(models, str | os.PathLike) else models
    require_type("models", several, Sequence)
    for model in several:
        require_type("a model to judge", model, str | os.PathLike)
    if not several:
        raise InputError("models must name at least one, got none")
    require_type("dataset", dataset, str | os.PathLike | StoredDataset)
    check_seed(seed)
    given = [os.fspath(model) for model in several]
    names = [name for name in given if name not in {RANDOM, *baselines}]
    for name in names:
        if split is None and name in kernel_model_names():
            raise InputError(
                f"{name} must be a trained model's file when there is no split to train on, got a "
                "registered name: give a split, or a file such as the cost_model.ckpt that "
                "`costmodels tune` leaves in its work directory"
            )
    for name in names:
        load_kernel_model(name, seed=seed)
    stored = dataset if isinstance(dataset, StoredDataset) else read_dataset(dataset)
    on_stage("extracting the features")
    parts = split_parts(stored, split, features=features)
    batch = parts.test.kernels.batch
    predictions: dict[str, Callable[[], KernelPrediction]] = {
        RANDOM: lambda: KernelPrediction(np.zeros(len(batch)))
    }
    if parts.train is not None:
        for name, made in baselines.items():
            predictions[name] = partial(_trained_baseline, made, parts, seed)
    for name in names:
        predictions[name] = partial(_prediction, name, parts, seed)
    scores: dict[str, Scores] = {}
    for name, predict in predictions.items():
        on_stage(f"{name}: training and predicting")
        scores[name] = score_prediction(predict(), parts.test, rng=np.random.default_rng(seed))
    judging = {batch.tasks[place].key for place in np.unique(batch.task_index)}
    learned = {
        name: _count_learned(path, judging)
        for name in dict.fromkeys(names)
        if (path := checkpoint_path(name)) is not None
    }
    return Evaluation(len(judging), len(batch), split, scores, learned)


def _trained_baseline(
    made: Callable[[], Baseline], parts: SplitParts, seed: int
) -> KernelPrediction:
    assert parts.train is not None
    fitted = made().fit(parts.train, rng=np.random.default_rng(seed))
    return fitted.predict(parts.test.kernels.batch)


def _prediction(name: str, parts: SplitParts, seed: int) -> KernelPrediction:
    model = load_kernel_model(name, seed=seed)
    if parts.train is not None and not model.is_fitted:
        model.fit(parts.train, rng=np.random.default_rng(seed), validation=parts.validation)
    return model.predict(parts.test.kernels.batch)


def _count_learned(path: Path, keys: Iterable[str]) -> int | None:
    """How many of the tasks a trained model has learned, if it says so."""
    try:
        return count_learned(load_checkpoint(path), keys)
    except CheckpointError:  # the export of a lookup table
        return None


def _test_records(dataset: StoredDataset, split: Split | None) -> set[tuple[str, int]]:
    """Programs that judge: a task's randomly drawn ones, or all where none was drawn so."""
    by_task: dict[str, list[RecordRow]] = {}
    for record in dataset.records:
        if isinstance(record.measurement, Measured) and (
            split is None or record.task in split.test
        ):
            by_task.setdefault(record.task, []).append(record)
    judging: set[tuple[str, int]] = set()
    for records in by_task.values():
        drawn = [record for record in records if record.origin == "random"]
        judging |= {record.identity for record in drawn or records}
    if not judging:
        raise InputError(
            f"data set {dataset.path} must have programs that ran to judge by, got none"
            + ("" if split is None else f" in the test tasks of split {split.name}")
        )
    return judging


def calls_by_network(tasks: Iterable[TaskRow]) -> dict[str, dict[str, int]]:
    """Network on a target -> key of a task -> calls: latencies of two targets do not add up."""
    found: dict[str, dict[str, int]] = {}
    for task in tasks:
        for network, weight in task.networks.items():
            found.setdefault(f"{network} on {task.target}", {})[task.key] = weight
    return found
