"""Judge kernel models on a data set, always beside random picks and TVM's own model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from costmodels.checkpoint import load_checkpoint
from costmodels.dataset.folder import StoredDataset
from costmodels.dataset.kernel_rows import RecordRow, TaskRow
from costmodels.dataset.splits import Split, read_split
from costmodels.errors import CheckpointError, InputError
from costmodels.evaluation import Scores, TestSet, evaluate
from costmodels.kernel import KernelDataset, KernelPrediction, Measured
from costmodels.learned_tasks import count_learned
from costmodels.models import checkpoint_path, load_kernel_model
from costmodels.progress import OnProgress, no_progress
from costmodels.registry import kernel_model_names
from tvm_integration.collect.featurize import featurise
from tvm_integration.learn.stock_model import StockModel

RANDOM, STOCK = "random", "stock"
BASELINES = (RANDOM, STOCK)


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
    dataset: StoredDataset, split: str | None, *, on_progress: OnProgress = no_progress
) -> SplitParts:
    """Cut a data set by a split; without one all of it is to judge by.

    Raises
    ------
    InputError
        When the split is unknown, or nothing measured is there to judge by.
    """
    known = None if split is None else read_split(dataset, split)
    everything = featurise(dataset, on_progress=on_progress)
    tested = _test_records(dataset, known)
    judging = everything.select(lambda record: record.identity in tested)
    test = TestSet(judging, calls_by_network(dataset.tasks.values()))
    if known is None:
        return SplitParts(None, None, test)
    return SplitParts(*everything.training_parts(known), test)


def evaluate_models(
    dataset: StoredDataset,
    models: Sequence[str],
    *,
    split: str | None = None,
    seed: int = 0,
    on_stage: Callable[[str], None] = lambda _: None,
    on_progress: OnProgress = no_progress,
) -> Evaluation:
    """Train models on a split's training tasks and judge them on its test tasks.

    Parameters
    ----------
    dataset : StoredDataset
        To learn from and to be judged on.
    models : sequence of str
        Registered names, which are trained, and checkpoints, which are taken as they are.
    split : str, optional
        Of the data set. Without it every task judges, and only checkpoints are accepted.
    seed : int
        Of training and of the bootstrap.
    on_stage : callable
        Told what is going on.
    on_progress : callable
        Told how many programs have their features, and how many there are.

    Raises
    ------
    InputError
        When a model is unknown or would have to be trained without a split, or nothing measured
        is there to judge by.
    """
    for name in models:
        if split is None and name in kernel_model_names() and name != RANDOM:
            raise InputError(
                f"{name} must be a trained model's file when there is no split to train on, got a "
                "registered name: give --split, or a file such as the cost_model.ckpt that "
                "`costmodels tune` leaves in its work directory"
            )
    for name in models:
        if name not in BASELINES:
            load_kernel_model(name, seed=seed)
    on_stage("extracting the features")
    parts = split_parts(dataset, split, on_progress=on_progress)
    test = parts.test
    scores: dict[str, Scores] = {}
    for name in dict.fromkeys((*BASELINES, *models)):
        if name == STOCK and parts.train is None:
            continue  # it keeps nothing that could be loaded
        on_stage(f"{name}: training and predicting")
        if name == RANDOM:
            prediction = KernelPrediction(np.zeros(len(test.kernels)))
        elif name != STOCK:
            model = load_kernel_model(name, seed=seed)
            if parts.train is not None and not model.is_fitted:
                rng = np.random.default_rng(seed)
                model.fit(parts.train, rng=rng, validation=parts.validation)
            prediction = model.predict(test.kernels.batch)
        else:
            assert parts.train is not None
            stock = StockModel().fit(parts.train, rng=np.random.default_rng(seed))
            prediction = stock.predict(test.kernels.batch)
        scores[name] = evaluate(prediction, test, rng=np.random.default_rng(seed))
    batch = test.kernels.batch
    judging = {batch.tasks[place].key for place in np.unique(batch.task_index)}
    learned = {
        name: _count_learned(path, judging)
        for name in dict.fromkeys(models)
        if name not in BASELINES and (path := checkpoint_path(name)) is not None
    }
    return Evaluation(len(judging), len(test.kernels), split, scores, learned)


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
