"""Training a kernel model on a data set whose features are extracted where they are missing."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from costmodels.dataset.folder import StoredDataset
from costmodels.fitting import fit
from costmodels.progress import OnProgress, no_progress
from costmodels.protocol import KernelCostModel
from tvm_integration.collect.featurize import featurize


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
    """Train a model and write its checkpoint, as `costmodels.fit` does.

    Parameters
    ----------
    dataset : StoredDataset
        To learn from.
    name : str
        A registered name, ``pretrained:NAME`` or a checkpoint.
    out : Path
        The checkpoint.
    split : str, optional
        Of the data set.
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
    features = partial(featurize, on_progress=on_features)
    return fit(name, dataset, split=split, seed=seed, out=out, features=features, on_step=on_step)
