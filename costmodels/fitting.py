"""Data set -> trained kernel model, with a checkpoint that says what it was made from."""

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from costmodels.checkpoint import load_checkpoint, write_checkpoint
from costmodels.checks import check_seed, require_type
from costmodels.dataset.featurized import FeaturizedRecords, kept_features
from costmodels.dataset.folder import StoredDataset, read_dataset
from costmodels.dataset.splits import read_split
from costmodels.errors import CheckpointError, InputError
from costmodels.files import check_can_be_written
from costmodels.installed import release, release_of
from costmodels.kernel import KernelDataset
from costmodels.learned_tasks import learned_array
from costmodels.load_model import checkpoint_path, load_kernel_model
from costmodels.model_state import state_of
from costmodels.protocol import Adaptable, FitProgress, KernelCostModel

__all__ = ["Features", "fit"]

UNFINISHED = ".unfinished"
"""Behind the name of a checkpoint: what a killed training goes on from."""
Features: TypeAlias = Callable[[StoredDataset], FeaturizedRecords]
"""Gives a data set's records with the features of their programs."""


def fit(
    model: str | os.PathLike[str] | KernelCostModel,
    dataset: str | os.PathLike[str] | StoredDataset,
    *,
    split: str | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    features: Features = kept_features,
    on_step: Callable[[int, int, str], None] | None = None,
) -> KernelCostModel:
    """Train a kernel model on a data set.

    Parameters
    ----------
    model : str, path or KernelCostModel
        What has learned nothing, as a registered name, is trained; what has, as ``pretrained:NAME``
        or a checkpoint, learns on.
    dataset : str, path or StoredDataset
        To learn from: a folder, or ``shipped:NAME``.
    split : str, optional
        Learn from its training tasks, stop and calibrate by its validation tasks, and never look at
        its test tasks. Everything is learned by default.
    seed : int
        Of all randomness.
    out : path, optional
        Write a checkpoint here when training has ended. A killed training goes on from the file
        beside it.
    features : callable
        By default those in the cache, which takes no TVM; `tvm_integration.featurize` extracts
        them where they are missing.
    on_step : callable, optional
        Told how far training has come: steps done, steps in all, and a text.

    Returns
    -------
    KernelCostModel
        The model, which has learned.

    Raises
    ------
    InputError
        When the model, the data set or the split is unknown, features are missing, or there is
        nothing to learn.

    Examples
    --------
    >>> model = fit("gbt", "shipped:cpu", split="networks")  # doctest: +SKIP
    """
    require_type("model", model, str | os.PathLike | KernelCostModel)
    require_type("dataset", dataset, str | os.PathLike | StoredDataset)
    require_type("out", out, str | os.PathLike | None)
    check_seed(seed)
    path = None if out is None else Path(out)
    if path is not None:
        check_can_be_written(path)
        if path.exists():
            _require_checkpoint(path)
    name = model.name if isinstance(model, KernelCostModel) else os.fspath(model)
    learning = load_kernel_model(model, seed=seed)
    if learning.is_fitted and not isinstance(learning, Adaptable):
        raise InputError(
            f"{name} must be a model that can learn on, got a {learning.name}: give its registered "
            "name to train a new one"
        )
    stored = dataset if isinstance(dataset, StoredDataset) else read_dataset(dataset)
    known = None if split is None else read_split(stored, split)
    everything = features(stored)
    training, validation = everything.kernels, None
    if known is not None:
        training, validation = everything.training_parts(known)
    elif not np.any(training.measured):
        raise InputError(f"{stored.path} must have programs that ran to learn from, got none")
    unfinished = None if path is None else path.with_name(f".{path.name}{UNFINISHED}")
    progress = FitProgress(on_step, unfinished)
    if on_step is not None:
        on_step(0, 1, "begins")  # a model may tell nothing until it has learned
    rng = np.random.default_rng(seed)
    start: str | None = None
    if learning.is_fitted and isinstance(learning, Adaptable):
        start = name
        learning.adapt(training, rng=rng, progress=progress)
    else:
        learning.fit(training, rng=rng, validation=validation, progress=progress)
    if path is not None:
        learned = stored.tasks if known is None else known.train | known.validation
        provenance = {"split": split, "start": start, "seed": seed}
        began_with = None if start is None or isinstance(model, KernelCostModel) else model
        _save(learning, path, stored, learned, training, began_with, provenance)
    return learning


def _require_checkpoint(out: Path) -> None:
    try:
        load_checkpoint(out)
    except CheckpointError as error:
        raise InputError(
            f"{out} must be a new file or a checkpoint to replace ({error}): give another name"
        ) from None


def _save(
    model: KernelCostModel,
    out: Path,
    dataset: StoredDataset,
    learned: Iterable[str],
    training: KernelDataset,
    began_with: str | os.PathLike[str] | None,
    provenance: Mapping[str, Any],
) -> None:
    """Write a checkpoint with what the model learned now and before."""
    start = None if began_with is None else checkpoint_path(began_with)
    before = None if start is None else load_checkpoint(start)
    devices = {dataset.tasks[key].device.name for key in learned if key in dataset.tasks}
    if before is not None:
        devices |= set(before.provenance.get("devices", ()))
    facts = {**_facts(dataset, training), **provenance, "devices": sorted(devices)}
    write_checkpoint(
        out,
        state_of(model).with_more(arrays=learned_array(learned, before), provenance=facts),
    )


def _facts(dataset: StoredDataset, training: KernelDataset) -> dict[str, Any]:
    ran = training.measured
    return {
        "dataset": dataset.name,
        "dataset_digest": dataset.digest(),
        "programs": int(np.sum(ran)),
        "kernels": len(np.unique(training.batch.task_index[ran])),
        "trained": datetime.now(UTC).isoformat(timespec="seconds"),
        "costmodels": release(),
        "tvm": release_of("apache-tvm"),
    }
