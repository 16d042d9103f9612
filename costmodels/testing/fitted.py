"""What the checks share: a fitted model, example data, and what is asserted of them."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np

from costmodels.features.kernel_graph import StagedGraph
from costmodels.kernel import (
    FloatArray,
    KernelBatch,
    KernelDataset,
    KernelPrediction,
    Measured,
)
from costmodels.metrics import kendall_tau, per_task
from costmodels.protocol import KernelCostModel
from costmodels.testing.example_data import example_dataset

ModelFactory: TypeAlias = Callable[[], KernelCostModel]
"""Makes a new model that has learned nothing; a model class will do."""
Check: TypeAlias = Callable[[ModelFactory, Path], None]
"""(factory, empty folder to write in) -> nothing, or AssertionError."""
ROUNDING = 1e-5
"""Largest relative difference that counts as rounding."""
MIN_TAU = 0.3
"""Kendall's tau that a model must reach on the very kernels that it learned."""


def new_rng(seed: int = 0) -> np.random.Generator:
    """The generator of a check, the same in each run."""
    return np.random.default_rng(seed)


def fitted_model(factory: ModelFactory) -> KernelCostModel:
    """A copy of the model that was fitted first: fitting takes most of the time of the checks."""
    return copy.deepcopy(_fitted_once(factory))


@cache
def _fitted_once(factory: ModelFactory) -> KernelCostModel:
    return factory().fit(learned_dataset(factory()), rng=new_rng())


def learned_dataset(model: KernelCostModel) -> KernelDataset:
    """What `fitted_model` learned from."""
    return example_dataset(new_rng(), schema=model.schema)


def small_dataset(model: KernelCostModel) -> KernelDataset:
    """Fitted in a fraction of the time, for checks that do not look at what was learned."""
    return example_dataset(new_rng(9), tasks=2, schema=model.schema, first_task=300)


def unseen_dataset(model: KernelCostModel) -> KernelDataset:
    """Kernels of tasks that `fitted_model` did not learn."""
    return example_dataset(new_rng(1), schema=model.schema, first_task=100)


def prediction_values(prediction: KernelPrediction) -> list[FloatArray]:
    """What a prediction says: utilities, and where they are claimed seconds and their interval."""
    fields = (prediction.utility, prediction.latency_s, prediction.low_s, prediction.high_s)
    return [values for values in fields if values is not None]


def assert_same(
    first: KernelPrediction, second: KernelPrediction, why: str, *, exact: bool
) -> None:
    """Fail with a reason where two predictions differ, unless exact beyond rounding."""
    for one, other in zip(prediction_values(first), prediction_values(second), strict=True):
        if exact:
            np.testing.assert_array_equal(one, other, err_msg=why)
        else:
            np.testing.assert_allclose(one, other, rtol=ROUNDING, atol=ROUNDING, err_msg=why)


def without_rows(batch: KernelBatch, kernel: int) -> KernelBatch:
    """A batch in which one kernel has no rows, and no stages in its graph."""
    start, stop = batch.row_offsets[kernel : kernel + 2]
    offsets = batch.row_offsets.copy()
    offsets[kernel + 1 :] -= stop - start
    graphs, index = batch.graphs, batch.graph_index
    if index is not None:
        graphs = (*graphs, StagedGraph(graphs[index[kernel]].graph, (), 0))
        index = index.copy()
        index[kernel] = len(graphs) - 1
    return replace(
        batch,
        rows=np.delete(batch.rows, slice(start, stop), 0),
        row_offsets=offsets,
        graphs=graphs,
        graph_index=index,
    )


def assert_ranks(model: KernelCostModel, dataset: KernelDataset) -> None:
    """Fail where a model that claims to rank does not rank the kernels that it learned."""
    if not model.claims.ranks:
        return
    ran = [i for i, each in enumerate(dataset.measurements) if isinstance(each, Measured)]
    taken = dataset.take(np.array(ran))
    measured = [each.latency_s for each in taken.measurements if isinstance(each, Measured)]
    prediction = model.predict(taken.batch)
    orders = {"utility must rise with speed": prediction.utility}
    if prediction.latency_s is not None:
        orders["latency_s must fall with speed"] = -prediction.latency_s
    for what, order in orders.items():
        taus = per_task(kendall_tau, order, np.array(measured), taken.batch.task_index)
        tau = float(np.mean(taus))
        assert tau > MIN_TAU, f"{what}: tau above {MIN_TAU} on learned kernels, got {tau:.2f}"


def assert_raises(error: type[Exception], call: Callable[[], object], what: str) -> None:
    """Fail where a call raises no error of that class."""
    try:
        call()
    except error:
        return
    raise AssertionError(f"{what}: {error.__name__} must be raised")
