"""Fit what a sum of kernels leaves out, on networks measured on the user's own machine."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from costmodels.dataset.folder import read_dataset
from costmodels.dataset.network_rows import NetworkRow, drift_of
from costmodels.dataset.writer import DatasetWriter
from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.network_models.overheads import DEFAULT_OVERHEADS, Overheads
from costmodels.network_models.overheads_fit import corrected_by_others, fit_overheads
from costmodels.protocol import KernelCostModel
from tvm_integration.collect.featurize import featurize
from tvm_integration.collect.networks import NetworkCollector, NetworkProgress
from tvm_integration.compat import Target
from tvm_integration.estimate.measured_networks import measured_networks, places_of_tasks

NETWORKS = tuple(
    f"zoo:{family},number={number}"
    for number in (101, 102)
    for family in (
        "residual",
        "encoder",
        "once_for_all",
        "mixer",
        "plain",
        "nasbench201",
        "fire",
        "shuffle",
        "unet",
    )
)
"""Measured by default: small ones of many kinds. The data set of networks has other numbers."""


def calibrate_on_networks(
    target: Target,
    device: Device,
    model: KernelCostModel,
    folder: Path,
    *,
    networks: Sequence[str] = NETWORKS,
    on_progress: Callable[[NetworkProgress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Overheads:
    """Measure networks and fit what lies between their kernels.

    Parameters
    ----------
    target : Target
        What to build for; this machine must run it.
    device : Device
        This machine.
    model : KernelCostModel
        Whose errors are learned as well.
    folder : Path
        The data set of what is measured; what it has is not measured again.
    networks : sequence of str
        To measure.
    on_progress, should_stop
        As of `NetworkCollector.run`.

    Raises
    ------
    InputError
        When fewer than four could be measured.
    """
    with DatasetWriter(folder) as writer:
        collector = NetworkCollector(writer, target, device)
        try:
            failed = collector.run(networks, on_progress=on_progress, should_stop=should_stop)
        finally:
            collector.close()
        if not writer.networks:
            why = next(iter(failed.values()), "the time was over before")
            raise InputError(f"at least 4 networks must be measured, got none: {why}")
    try:
        stored = read_dataset(folder)
        records = featurize(stored)
        measured, discrepancy = corrected_by_others(
            measured_networks(stored, model),
            [row.family for row in stored.networks],
            records.kernels.batch,
            places_of_tasks(records),
        )
        found = fit_overheads(measured, DEFAULT_OVERHEADS if device.kind == "cpu" else None)
        disturbance = _disturbance(stored.networks)
        return replace(found, disturbance=disturbance, discrepancy=discrepancy)
    except InputError as error:
        why = f"; {next(iter(failed.values()))}" if failed else ""
        raise InputError(f"{error}{why}") from None


def _disturbance(networks: Sequence[NetworkRow]) -> float:
    """By which share networks took longer before or after their kernels, but for a tenth of them.

    Now and then one is disturbed on a quiet machine too.
    """
    return float(np.quantile([drift_of(row.run_s) for row in networks], 0.9))
