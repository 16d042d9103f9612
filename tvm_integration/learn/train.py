"""Data set -> trained kernel model, with a checkpoint that says what it was made from."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from costmodels.checkpoint import Checkpoint, add_provenance, load_checkpoint
from costmodels.dataset.folder import StoredDataset
from costmodels.dataset.splits import read_split
from costmodels.errors import CheckpointError, InputError
from costmodels.files import check_can_be_written, path_beside
from costmodels.kernel import KernelDataset
from costmodels.learned_tasks import learned_array
from costmodels.models import checkpoint_path, load_kernel_model
from costmodels.progress import OnProgress, no_progress
from costmodels.protocol import Adaptable, FitProgress, KernelCostModel
from tvm_integration.collect.featurize import featurise

UNFINISHED = ".unfinished"
"""Behind the name of a checkpoint: what a killed training goes on from."""


def train_model(
    dataset: StoredDataset,
    name: str,
    out: Path,
    *,
    split: str | None = None,
    seed: int = 0,
    on_features: OnProgress = no_progress,
    on_step: Callable[[int, int, str], None] | None = None,
) -> KernelCostModel:
    """Train a model and write its checkpoint.

    Parameters
    ----------
    dataset : StoredDataset
        To learn from.
    name : str
        A registered name, which is trained from nothing, or a trained model, which learns on:
        ``pretrained:NAME`` or a checkpoint.
    out : Path
        The checkpoint; written when training has ended. A killed training goes on from the file
        beside it.
    split : str, optional
        Learn from its training tasks, stop and calibrate by its validation tasks, and never look at
        its test tasks. Everything is learned by default.
    seed : int
        Of all randomness.
    on_features : callable
        Told how many programs have their features, and how many there are.
    on_step : callable, optional
        Told how far training has come.

    Raises
    ------
    InputError
        When the model or the split is unknown, or there is nothing to learn.
    """
    check_can_be_written(out)
    if out.exists():
        _require_checkpoint(out)
    model = load_kernel_model(name, seed=seed)
    if model.is_fitted and not isinstance(model, Adaptable):
        raise InputError(
            f"{name} must be a model that can learn on, got a {model.name}: give its registered "
            "name to train a new one"
        )
    known = None if split is None else read_split(dataset, split)
    everything = featurise(dataset, on_progress=on_features)
    training, validation = everything.kernels, None
    if known is not None:
        training, validation = everything.training_parts(known)
    elif not np.any(training.measured):
        raise InputError(f"{dataset.path} must have programs that ran to learn from, got none")
    progress = FitProgress(on_step, out.with_name(f".{out.name}{UNFINISHED}"))
    if on_step is not None:
        on_step(0, 1, "begins")  # a model may tell nothing until it has learned
    rng = np.random.default_rng(seed)
    start: str | None = None
    began_with: Checkpoint | None = None
    if model.is_fitted and isinstance(model, Adaptable):
        start = name
        path = checkpoint_path(name)
        began_with = None if path is None else load_checkpoint(path)
        model.adapt(training, rng=rng, progress=progress)
    else:
        model.fit(training, rng=rng, validation=validation, progress=progress)
    beside = path_beside(out)
    try:
        model.save(beside)
        learned = dataset.tasks if known is None else known.train | known.validation
        devices = {dataset.tasks[key].device.name for key in learned if key in dataset.tasks}
        if began_with is not None:
            devices |= set(began_with.provenance.get("devices", ()))
        add_provenance(
            beside,
            _provenance(dataset, split, seed, training, start, devices),
            schema=model.schema,
            arrays=learned_array(learned, began_with),
        )
        beside.replace(out)
    finally:
        beside.unlink(missing_ok=True)
    return model


def _require_checkpoint(out: Path) -> None:
    try:
        load_checkpoint(out)
    except CheckpointError as error:
        raise InputError(
            f"{out} must be a new file or a checkpoint to replace ({error}): give another name"
        ) from None


def _provenance(
    dataset: StoredDataset,
    split: str | None,
    seed: int,
    training: KernelDataset,
    start: str | None,
    devices: Iterable[str],
) -> dict[str, Any]:
    ran = training.measured
    return {
        "dataset": dataset.name,
        "dataset_digest": dataset.digest(),
        "devices": sorted(devices),
        "split": split,
        "start": start,
        "seed": seed,
        "programs": int(np.sum(ran)),
        "kernels": len(np.unique(training.batch.task_index[ran])),
        "trained": datetime.now(UTC).isoformat(timespec="seconds"),
        "costmodels": version("costmodels"),
        "tvm": version("apache-tvm"),
    }
