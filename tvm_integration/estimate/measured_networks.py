"""Networks of a data set as the network models learn from them and are judged by."""

from collections.abc import Collection, Sequence

from costmodels.dataset.featurized import FeaturizedRecords
from costmodels.dataset.folder import StoredDataset
from costmodels.dataset.network_rows import MeasuredKernel, NetworkRow
from costmodels.kernel import Measured
from costmodels.network_models.kernel_sums import MeasuredNetwork
from costmodels.networks.kernel_latency import (
    KernelLatency,
    measured_latency,
    predicted_latencies,
)
from costmodels.progress import OnProgress, no_progress
from costmodels.protocol import KernelCostModel
from tvm_integration.collect.featurize import featurize


def measured_networks(
    dataset: StoredDataset,
    model: KernelCostModel | None = None,
    rows: Sequence[NetworkRow] | None = None,
    *,
    on_progress: OnProgress = no_progress,
) -> list[MeasuredNetwork]:
    """Networks with the measured and, given a model, the predicted latencies of their kernels.

    Parameters
    ----------
    dataset : StoredDataset
        With networks.
    model : KernelCostModel, optional
        One that has learned and gives seconds.
    rows : sequence of NetworkRow, optional
        Some of its networks; all by default.
    on_progress : callable
        Told how many programs have their features, and how many there are.

    Returns
    -------
    list of MeasuredNetwork
        In the order of `rows`.
    """
    rows = dataset.networks if rows is None else rows
    predicted: dict[tuple[str, int], KernelLatency] = {}
    if model is not None:
        records = featurize(dataset, on_progress=on_progress)
        wanted = {(k.task, k.program) for row in rows for k in row.kernels}
        predicted = predicted_programs(model, records, wanted)
    return [
        MeasuredNetwork(
            row.graph,
            row.device,
            row.latency_s,
            {each.task: measured_latency(Measured(each.run_s)) for each in row.kernels},
            {
                each.task: predicted[_identity(each)]
                for each in row.kernels
                if _identity(each) in predicted
            },
        )
        for row in rows
    ]


def places_of_tasks(records: FeaturizedRecords) -> dict[str, int]:
    """Key of a task -> place of its first program."""
    places: dict[str, int] = {}
    for place, record in enumerate(records.records):
        places.setdefault(record.task, place)
    return places


def predicted_programs(
    model: KernelCostModel, records: FeaturizedRecords, wanted: Collection[tuple[str, int]]
) -> dict[tuple[str, int], KernelLatency]:
    """What a model says of some programs of a data set, by task and program."""
    chosen = [i for i, record in enumerate(records.records) if record.identity in wanted]
    batch = records.kernels.batch.take(chosen)
    found = predicted_latencies(model.predict(batch if model.graphs else batch.without_graphs()))
    return {
        records.records[i].identity: latency
        for i, latency in zip(chosen, found, strict=True)
        if latency is not None
    }


def _identity(kernel: MeasuredKernel) -> tuple[str, int]:
    return kernel.task, kernel.program
