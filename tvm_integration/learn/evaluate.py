"""Judging kernel models on a data set, beside random picks and TVM's own model."""

from collections.abc import Callable, Sequence
from functools import partial

from costmodels.dataset.folder import StoredDataset
from costmodels.evaluation import Evaluation, evaluate
from costmodels.progress import OnProgress, no_progress
from tvm_integration.collect.featurize import featurize
from tvm_integration.learn.stock_model import StockModel

STOCK = "stock"


def evaluate_models(
    dataset: StoredDataset,
    models: Sequence[str],
    *,
    split: str | None = None,
    seed: int = 0,
    on_stage: Callable[[str], None] = lambda _: None,
    on_progress: OnProgress = no_progress,
) -> Evaluation:
    """Judge models as `costmodels.evaluate` does; features are extracted where they are missing.

    Parameters
    ----------
    dataset : StoredDataset
        To learn from and to be judged on.
    models : sequence of str
        Registered names, which are trained, and trained models, which are taken as they are.
    split : str, optional
        Of the data set.
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
    return evaluate(
        models,
        dataset,
        split=split,
        seed=seed,
        features=partial(featurize, on_progress=on_progress),
        baselines={STOCK: StockModel},
        on_stage=on_stage,
    )
