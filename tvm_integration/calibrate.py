"""Fit what a sum of kernels leaves out, on networks measured on the user's own machine."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np

from costmodels.checkpoint import load_checkpoint
from costmodels.dataset.folder import read_dataset
from costmodels.dataset.network_rows import NetworkRow
from costmodels.dataset.writer import DatasetWriter
from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.files import cache_folder, write_atomically
from costmodels.json_text import json_text, parse_json
from costmodels.network_models.overheads_fit import corrected_by_others, fit_overheads
from costmodels.network_models.sum_of_kernels import (
    NOTHING,
    TYPICAL,
    UNSEEN_DEVICE_ERROR,
    Overheads,
)
from costmodels.protocol import KernelCostModel
from tvm_integration.collect_networks import NetworkCollector, NetworkProgress
from tvm_integration.compat import Target
from tvm_integration.cost_model import checkpoint_of
from tvm_integration.featurise import featurise
from tvm_integration.identity import target_text
from tvm_integration.measured_networks import measured_networks, places_of_tasks

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


def calibrate(
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
        records = featurise(stored)
        measured, discrepancy = corrected_by_others(
            measured_networks(stored, model),
            [row.family for row in stored.networks],
            records.kernels.batch,
            places_of_tasks(records),
        )
        found = fit_overheads(measured, TYPICAL if device.kind == "cpu" else None)
        disturbance = _disturbance(stored.networks)
        return replace(found, disturbance=disturbance, discrepancy=discrepancy)
    except InputError as error:
        why = f"; {next(iter(failed.values()))}" if failed else ""
        raise InputError(f"{error}{why}") from None


def _disturbance(networks: Sequence[NetworkRow]) -> float:
    """By which share networks took longer before or after their kernels, but for a tenth of them.

    Now and then one is disturbed on a quiet machine too.
    """
    drift = []
    for row in networks:
        half = len(row.run_s) // 2
        before, after = np.median(row.run_s[:half]), np.median(row.run_s[half:])
        drift.append(max(before / after, after / before) - 1)
    return float(np.quantile(drift, 0.9))


def overheads_path(target: Target, device: Device, model_name: str) -> Path:
    """Where the overheads of a target and a model are kept: not those of one with other weights."""
    checkpoint = checkpoint_of(model_name)
    if checkpoint is not None and checkpoint.is_file():
        model_name = blake2b(checkpoint.read_bytes(), digest_size=8).hexdigest()
    meaning = json.dumps([target_text(target), device.name, device.cores, model_name])
    key = blake2b(meaning.encode(), digest_size=8).hexdigest()
    return cache_folder("overheads") / f"{key}.json"


def save_overheads(path: Path, overheads: Overheads) -> None:
    """Write overheads as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json_text(overheads.as_dict()).encode())


def load_overheads(path: Path) -> Overheads:
    """Read overheads.

    Raises
    ------
    InputError
        When the file cannot be read or is something else.
    """
    try:
        return Overheads.from_dict(parse_json(path.read_bytes()))
    except OSError as error:
        raise InputError(
            f"overheads {path} must be a file that can be read: {error.strerror}"
        ) from None
    except ValueError as error:
        raise InputError(
            f"overheads {path} must be what `costmodels calibrate` writes, got: {error}"
        ) from None


def known_overheads(target: Target, device: Device, model_name: str) -> Overheads:
    """What was calibrated for a target and a model on this machine, or else what is typical.

    A device that the model never saw adds to what is uncertain.
    """
    path = overheads_path(target, device, model_name)
    if path.exists():
        return load_overheads(path)
    typical = TYPICAL if device.kind == "cpu" else NOTHING
    learned = learned_devices(model_name)
    if learned is None or device.name in learned:
        return typical
    return replace(typical, device_error=UNSEEN_DEVICE_ERROR)


def learned_devices(model_name: str) -> frozenset[str] | None:
    """Names of the devices that a model learned from, as its checkpoint says.

    Returns
    -------
    frozenset or None
        None for a model without a checkpoint: a formula, or a table of this machine.
    """
    checkpoint = checkpoint_of(model_name)
    if checkpoint is None or checkpoint.suffix == ".csv":
        return None
    return frozenset(load_checkpoint(checkpoint).provenance.get("devices", ()))
