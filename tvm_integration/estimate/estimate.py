"""The latency of a whole network from its kernels, without running it."""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from costmodels.checks import check_fields, check_seed, require_type
from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.features.operator_costs import kernel_cost
from costmodels.installed import release
from costmodels.kernel import KernelBatch, Measured, concatenate
from costmodels.load_model import load_kernel_model
from costmodels.network_models.kernel_parts import missing_launches
from costmodels.network_models.kernel_sums import Total
from costmodels.network_models.overheads import DEFAULT_OVERHEADS, NO_OVERHEADS, Overheads
from costmodels.network_models.sum_of_kernels import SumOfKernels
from costmodels.network_models.unseen_families import pretrained_factors, unseen_factor
from costmodels.networks.kernel_latency import KernelLatency, measured_latency
from costmodels.networks.sample import LaunchedKernels, NetworkSample
from costmodels.pretrained import PRETRAINED_BEST, is_pretrained
from costmodels.progress import OnProgress, no_progress
from costmodels.protocol import KernelCostModel
from costmodels.tuned_latency.networks import SumOfTunedKernels
from tvm_integration.compat import Schedule, Target
from tvm_integration.compile.vector_math import rewrite_module
from tvm_integration.estimate.network_features import NetworkFeatures, describe_network, features_of
from tvm_integration.estimate.overheads_file import Calibrated, known_overheads, load_overheads
from tvm_integration.estimate.result import (
    MANY_TRIALS,
    SCHEDULES,
    TRIALS,
    Estimate,
    EstimatedKernel,
    TunedEstimate,
)
from tvm_integration.estimate.tuned import between_tuned_kernels, estimate_tuned
from tvm_integration.frontends.load import require_network
from tvm_integration.identity import task_key
from tvm_integration.measure.outcomes import measurement_of
from tvm_integration.records.database import has_database, open_database
from tvm_integration.targets import as_device, as_target
from tvm_integration.tune.cost_model import MetaScheduleCostModel
from tvm_integration.tune.folder import has_vector_kernels, was_measured_in_network
from tvm_integration.tune.network_timing import fastest_record, known_untuned
from tvm_integration.tune.zero_trial import choose_schedules


@dataclass(frozen=True)
class EstimateOptions:
    """How a network is estimated.

    Parameters
    ----------
    schedules : str
        ``"default"``: programs as TVM builds them untuned, and on CPUs beside it what tuning will
        make of them; ``"tuned"``: the latter alone; ``"database"``: the best records of a work
        directory; ``"model"``: chosen by the model without measuring.
    work_dir : Path, optional
        Of a tuning run; for ``"database"``.
    partial : bool
        Give a total also where something is missing.
    overheads : Overheads, str or path
        What a sum leaves out: ``"calibrated"``, that of `calibrate` on this machine, or else what
        is typical; ``"none"``; a file that a calibration wrote; or what was fitted.
    seed : int
        Of the search.
    trials : int
        With ``"tuned"``: programs that are tried of each kernel that takes more than 1 % of the
        network.
    """

    schedules: str = "default"
    work_dir: Path | None = None
    partial: bool = False
    overheads: Overheads | str | os.PathLike[str] = "calibrated"
    seed: int = 0
    trials: int = TRIALS

    def __post_init__(self) -> None:
        check_fields(self)
        check_seed(self.seed)
        if self.schedules not in SCHEDULES:
            raise InputError(
                f"schedules must be one of {', '.join(SCHEDULES)}, got {self.schedules!r}"
            )
        if self.trials < 1:
            raise InputError(f"trials must be at least 1, got {self.trials}")
        if (self.work_dir is None) == (self.schedules == "database"):
            raise InputError(
                "a work directory must be given with schedules database and only then, got "
                f"{self.work_dir or 'none'} with schedules {self.schedules}"
            )


DEFAULT = EstimateOptions()


def check_model(model: KernelCostModel, name: str) -> None:
    """Raise InputError unless a model can estimate seconds."""
    if not model.claims.seconds:
        raise InputError(
            f"model must be one that predicts seconds, got {name!r}: take pretrained:best; "
            "`costmodels models` lists what each claims"
        )
    if not model.is_fitted:
        raise InputError(
            f"model must be one that has learned, got {name!r}: take pretrained:best, or a "
            "checkpoint of `costmodels train`"
        )


def estimate_network(
    network: str | NetworkFeatures,
    target: str | Target = "host",
    device: str | os.PathLike[str] | Device | None = None,
    cost_model: str | os.PathLike[str] | KernelCostModel = PRETRAINED_BEST,
    options: EstimateOptions = DEFAULT,
    *,
    model_name: str = "",
    on_stage: Callable[[str], None] = lambda _: None,
    on_kernel: OnProgress = no_progress,
) -> Estimate:
    """Estimate the latency of a network without running it.

    Parameters
    ----------
    network : str or NetworkFeatures
        As `costmodels estimate` takes it (``zoo:resnet18``, a file, ``module:function``), or from
        `describe_network` or `describe_module`.
    target : str or Target
        What to fuse for, or what it was fused for.
    device : str, path or Device, optional
        What it runs on: a name of `costmodels device --list`, a device file, or a device. By
        default that of the target.
    cost_model : str, path or KernelCostModel
        One that predicts seconds and has learned.
    options : EstimateOptions
        How.
    model_name : str
        What the user called a model that is given as an object; its registered name by default.
    on_stage : callable
        Told what is going on.
    on_kernel : callable
        With schedules ``"model"``, told how many kernels have one, and how many there are.

    Returns
    -------
    Estimate
        The network's latency in seconds with its interval, and that of each kernel.

    Raises
    ------
    InputError
        When the model gives no seconds, the network cannot be imported, the device is a GPU and
        schedules are default, or the work directory is none, or one of another target or another
        network.

    Examples
    --------
    >>> estimate_network("zoo:mlp", "llvm -mcpu=haswell -num-cores=1").total.total_s < 0.1
    True
    """
    require_network(network, NetworkFeatures)
    require_type("options", options, EstimateOptions)
    target = as_target(target)
    # One that ships is sound, and is read when the network is described: both take memory.
    is_shipped = isinstance(cost_model, str) and is_pretrained(cost_model)
    model = None if is_shipped else load_kernel_model(cost_model)
    if not isinstance(cost_model, KernelCostModel):
        model_name = model_name or os.fspath(cost_model)
    if model is not None:
        model_name = model_name or model.name
        check_model(model, model_name)
    device = as_device(device, target)
    overheads = _overheads_of(options, target, device, model_name)
    if device.kind == "gpu" and options.schedules in ("default", "tuned"):
        raise InputError(
            "schedules must be database or model on a GPU, where no program runs untuned and no "
            f"network was tuned to learn from, got {options.schedules}: tune the network, or let a "
            "model choose that has learned from GPUs"
        )
    if isinstance(network, str):
        network = describe_network(network, target, on_stage=on_stage)
    if model is None:
        model = load_kernel_model(cost_model)
    start = time.perf_counter()
    known: dict[str, KernelLatency] = {}
    batch = network.batch(device)
    if options.schedules == "database":
        assert options.work_dir is not None
        known = _measured(network, target, options.work_dir)
    elif options.schedules == "model":
        batch = _chosen(network, target, device, model, options.seed, on_kernel)
    names = tuple(kernel.name for kernel in network.kernels)
    launched = LaunchedKernels(network.graph, names, batch, known)
    found = SumOfKernels(model, overheads).explain(
        NetworkSample(network.name, device, kernels=launched)
    )
    total: Total | None = found.total
    latencies, notes, missing = found.kernels, found.notes, found.missing
    after: list[TunedEstimate] = []
    if options.schedules == "tuned":
        after = [estimate_tuned(network, device, options.trials, latencies)]
    elif options.schedules == "default" and device.kind == "cpu":
        after = [
            estimate_tuned(network, device, trials, latencies) for trials in (TRIALS, MANY_TRIALS)
        ]
    if options.schedules == "tuned":
        (tuned,) = after
        total, latencies, notes = tuned.total, tuned.kernels, {}
        overheads, model_name = tuned.overheads, SumOfTunedKernels.name
        missing = missing_launches(network.graph, latencies, found.notes)
    launches = network.graph.counts("kernel")
    kernels = [
        EstimatedKernel(
            name,
            launches[name],
            latencies.get(name),
            _bound(batch, place, device),
            notes.get(name, ""),
            network.layers.get(name, ()),
        )
        for place, name in enumerate(names)
        if name in launches  # others are inside what is not supported
    ]
    is_told = not missing or (options.partial and total is not None and total.total_s > 0)
    return Estimate(
        network=network.name,
        graph=network.graph,
        total=total if is_told else None,
        has_interval=model.claims.interval or options.schedules == "tuned",
        kernels=tuple(sorted(kernels, key=_share, reverse=True)),
        unsupported=missing,
        provenance={
            "model": model_name,
            "schedules": options.schedules,
            "target": str(target),
            "device": device.as_dict(),
            "overheads": _told(overheads),
            "costmodels": release(),
            "tvm": version("apache-tvm"),
            "network_from_cache": network.from_cache,
            "predicting_s": time.perf_counter() - start,
        },
        tuned=tuple(each if is_told else replace(each, total=None) for each in after),
    )


def _overheads_of(
    options: EstimateOptions, target: Target, device: Device, model_name: str
) -> Overheads:
    """Overheads of an estimate.

    A calibration measures unscheduled networks, which a sum fits better than it does tuned ones,
    and of families that a pretrained model has learned.
    """
    found = options.overheads
    if found == "none":
        found = NO_OVERHEADS
    elif found == "calibrated":
        found = known_overheads(target, device, model_name)
        work_dir = options.work_dir if options.schedules == "database" else None
        if work_dir is not None and was_measured_in_network(work_dir):
            found = between_tuned_kernels(found)
    elif not isinstance(found, Overheads):
        found = load_overheads(Path(found), Calibrated.of(target, device, model_name))
    if not found.is_calibrated:
        return found
    # A kernel that a tuning run has no record of is predicted unscheduled.
    schedules = "model" if options.schedules == "model" else "default"
    factor = unseen_factor(pretrained_factors(model_name), device, schedules)
    found = replace(found, unseen_factor=factor)
    if options.schedules == "default":
        return found
    return replace(found, residual=max(found.residual, DEFAULT_OVERHEADS.residual))


def _told(overheads: Overheads) -> dict[str, Any]:
    """What an estimate says of its overheads: of a discrepancy from how many kernels it is."""
    told = asdict(replace(overheads, discrepancy=None))
    found = overheads.discrepancy
    if found is not None:
        told["discrepancy"] = {"kernels": len(found.weights), "spread": found.spread}
    return told


def _share(kernel: EstimatedKernel) -> float:
    return -1.0 if kernel.latency is None else kernel.count * kernel.latency.latency_s


def _measured(network: NetworkFeatures, target: Target, work_dir: Path) -> dict[str, KernelLatency]:
    """What a tuning run measured of each kernel: its best record, or its unscheduled program.

    As `tune` builds the network, whichever is faster.
    """
    if not has_database(work_dir):
        raise InputError(
            f"work directory must be that of a tuning run, got {work_dir} and no database in it: "
            "`costmodels tune` the network first, or give its --work-dir"
        )
    database = open_database(work_dir, target, read_only=True)
    untuned = known_untuned(work_dir)
    tuned_as = rewrite_module if has_vector_kernels(work_dir) else None
    found = {}
    for kernel in network.kernels:
        mod = kernel.mod if tuned_as is None else tuned_as(kernel.mod)
        candidates: list[KernelLatency] = []
        record = fastest_record(database, mod)
        if record is not None:
            measured = measurement_of(record.run_secs)
            assert isinstance(measured, Measured)
            candidates.append(measured_latency(measured))
        seconds = untuned.get(task_key(mod, target))
        if seconds is not None:
            candidates.append(measured_latency(Measured((seconds,))))
        if candidates:
            found[kernel.name] = min(candidates, key=lambda each: each.latency_s)
    if network.kernels and not len(database):
        raise InputError(
            f"work directory {work_dir} must hold programs that were measured, got none: "
            "`costmodels tune` the network with --trials above 0, or take schedules default"
        )
    if network.kernels and not found:
        raise InputError(
            f"work directory {work_dir} must be that of a run that tuned {network.name}, got none "
            "of its kernels: tune it first, or take schedules default"
        )
    return found


def _chosen(
    network: NetworkFeatures,
    target: Target,
    device: Device,
    model: KernelCostModel,
    seed: int,
    on_kernel: Callable[[int, int], None],
) -> KernelBatch:
    """Features of the programs that the model takes for the fastest."""
    if not model.claims.ranks:
        raise InputError(
            f"model must be one that tells the schedules of a kernel apart to choose them, got "
            f"{model.name!r}: take pretrained:best, or schedules default"
        )
    # What has no stage, as one of a tensor without elements, has no schedules either.
    whole = np.flatnonzero(np.diff(network.row_offsets))
    tasks = [network.kernels[place].task() for place in whole]
    if not tasks:
        return network.batch(device)
    chosen = choose_schedules(
        tasks,
        target,
        MetaScheduleCostModel(model, device=device, seed=seed),
        seed=seed,
        on_kernel=lambda done: on_kernel(done, len(tasks)),
    )
    schedules = []
    for kernel in network.kernels:
        schedule = Schedule(kernel.mod)
        trace = chosen[kernel.name].trace if kernel.name in chosen else None
        if trace is not None:
            trace.apply_to_schedule(schedule, remove_postproc=False)
        schedules.append(schedule)
    return concatenate(features_of(network.kernels, schedules, target, device))


def _bound(batch: KernelBatch, kernel: int, device: Device) -> str:
    assert batch.graph_index is not None
    cost = kernel_cost(batch.graphs[batch.graph_index[kernel]].graph)
    compute_s = cost.flop / device.peak_flop_per_s
    return "compute" if compute_s > cost.moved_bytes / device.bandwidth_byte_per_s else "memory"
