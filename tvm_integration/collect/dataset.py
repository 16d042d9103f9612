"""Measuring data sets on this machine, or on devices elsewhere: kernels, and whole networks."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from costmodels.checks import check_fields, require_type
from costmodels.dataset.folder import StoredDataset
from costmodels.dataset.writer import DatasetWriter
from costmodels.device import Device
from costmodels.errors import InputError
from tvm_integration.collect.kernels import CollectOptions, Collector, CollectState
from tvm_integration.collect.networks import (
    NetworkCollector,
    NetworkProgress,
    check_can_choose,
)
from tvm_integration.collect.remeasure import Remeasurer, wanted_tasks
from tvm_integration.collect.source import check_task_source
from tvm_integration.collect.tasks import tasks_of_networks
from tvm_integration.compat import RPCConfig, Target
from tvm_integration.compile.execution import check_runs_here
from tvm_integration.targets import as_target, device_of
from tvm_integration.time_limit import TimeLimit

__all__ = ["CollectedNetworks", "NetworkOptions", "collect_kernels", "collect_networks"]

DEFAULT = CollectOptions()


def collect_kernels(
    source: Sequence[str] | StoredDataset,
    out: str | os.PathLike[str],
    options: CollectOptions = DEFAULT,
    *,
    target: str | Target = "host",
    device: str | os.PathLike[str] | Device | None = None,
    rpc: RPCConfig | None = None,
    info: Mapping[str, Any] | None = None,
    on_network: Callable[[str, int], None] | None = None,
    on_state: Callable[[CollectState], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> CollectState:
    """Measure programs of kernels into a data set.

    The same call goes on where one was killed or stopped.

    Parameters
    ----------
    source : sequence of str, or StoredDataset
        Networks as `costmodels collect` takes them, and ``drawn:COUNT``, of whose kernels programs
        are chosen; or a data set, whose programs are measured again here.
    out : str or path
        The data set; made, or added to.
    options : CollectOptions
        Which programs, and how long.
    target : str or Target
        What to build for.
    device : str, path or Device, optional
        What is measured; needed for devices elsewhere, this machine by default.
    rpc : RPCConfig, optional
        The tracker of devices elsewhere.
    info : mapping, optional
        ``licence`` and ``provenance`` of a new data set.
    on_network : callable, optional
        Told of each network and the number of its kernels.
    on_state : callable
        Told before each batch how far it has come.
    should_stop : callable
        Asked before each batch.

    Returns
    -------
    CollectState
        What there is now.

    Raises
    ------
    InputError
        When the target cannot run here, a network cannot be imported, `out` is no data set, or the
        disk is full.
    """
    require_type("options", options, CollectOptions)
    source = _networks_of(source)
    require_type("out", out, str | os.PathLike)
    target, described = _place(target, device, rpc)
    _check_is_other(source, out)
    with DatasetWriter(Path(out), info) as writer:
        if isinstance(source, StoredDataset):
            rng = np.random.default_rng(options.seed)
            wanted = wanted_tasks(source, target, described, per_task=options.per_task, rng=rng)
            again = Remeasurer(writer, target, described, options, on_state, should_stop, rpc)
            try:
                return again.run(wanted)
            finally:
                again.close()
        tasks = tasks_of_networks(
            source, target, described, seed=options.seed, on_network=on_network
        )
        writer.add(tasks)
        collector = Collector(writer, target, described, options, on_state, should_stop, rpc)
        try:
            return collector.run([task.key for task in tasks])
        finally:
            collector.close()


def _place(
    target: str | Target, device: str | os.PathLike[str] | Device | None, rpc: RPCConfig | None
) -> tuple[Target, Device]:
    parsed = as_target(target)
    if rpc is None:
        check_runs_here(parsed)
    elif device is None:
        raise InputError(
            "--device must be given for devices elsewhere, got none: run `costmodels device` "
            "there, or write such a file"
        )
    require_type("device", device, str | os.PathLike | Device | None)
    return parsed, device if isinstance(device, Device) else device_of(parsed, device)


def _networks_of(source: object) -> list[str] | StoredDataset:
    """Names of networks, or a data set; one name alone is one network."""
    if isinstance(source, StoredDataset):
        return source
    names = [source] if isinstance(source, str) else source
    if not isinstance(names, Sequence) or not names:
        raise InputError(
            f"what is collected must be names of networks or a data set, got {source!r}"
        )
    for name in names:
        require_type("the name of a network", name, str)
        check_task_source(name)
    return list(names)


def _check_is_other(source: Sequence[str] | StoredDataset, out: str | os.PathLike[str]) -> None:
    if isinstance(source, StoredDataset) and source.path.resolve() == Path(out).resolve():
        raise InputError(f"out must be another data set than that of the programs, got {out}")


@dataclass(frozen=True)
class NetworkOptions:
    """How whole networks are measured.

    Parameters
    ----------
    schedules_by : str, optional
        A trained model that chooses the schedules; unscheduled kernels by default.
    fused : bool
        Whether operators are fused.
    minutes : float, optional
        Begin no network after so many.
    trials_each : int, optional
        Tune each network first: trials of each kernel above 1 % of it.
    """

    schedules_by: str | None = None
    fused: bool = True
    minutes: float | None = None
    trials_each: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.trials_each is not None and self.trials_each < 1:
            raise InputError(f"trials_each must be at least 1, got {self.trials_each}")
        if self.trials_each is not None and (self.schedules_by is not None or not self.fused):
            raise InputError(
                "a network that is tuned must be fused, and no model chooses its schedules: leave "
                "trials_each out, or the others"
            )
        TimeLimit(self.minutes)


@dataclass(frozen=True)
class CollectedNetworks:
    """What came of measuring networks.

    Parameters
    ----------
    measured : int
        Networks that the data set has now.
    failed : mapping
        Network -> why it could not be measured.
    is_out_of_time : bool
        Whether the limit of minutes ended it.
    """

    measured: int
    failed: Mapping[str, str]
    is_out_of_time: bool = False


def collect_networks(
    source: Sequence[str] | StoredDataset,
    out: str | os.PathLike[str],
    options: NetworkOptions = NetworkOptions(),
    *,
    target: str | Target = "host",
    device: str | os.PathLike[str] | Device | None = None,
    info: Mapping[str, Any] | None = None,
    on_progress: Callable[[NetworkProgress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> CollectedNetworks:
    """Measure whole networks, and one program of each of their kernels, into a data set.

    The same call goes on where one was killed or stopped.

    Parameters
    ----------
    source : sequence of str, or StoredDataset
        Networks as `costmodels collect` takes them; or a data set, whose networks are measured
        again here, each with the programs it has there.
    out : str or path
        The data set; made, or added to.
    options : NetworkOptions
        How.
    target : str or Target
        Must be of this machine.
    device : str, path or Device, optional
        What is measured; this machine by default.
    info : mapping, optional
        ``licence`` and ``provenance`` of a new data set.
    on_progress : callable
        Told before each network.
    should_stop : callable
        Asked before each.

    Returns
    -------
    CollectedNetworks
        What there is now, and what could not be measured.

    Raises
    ------
    InputError
        When the target cannot run here, the model cannot choose schedules, or a data set has no
        networks.
    """
    require_type("options", options, NetworkOptions)
    source = _networks_of(source)
    require_type("out", out, str | os.PathLike)
    target, described = _place(target, device, None)
    if options.schedules_by is not None:
        check_can_choose(options.schedules_by)
    _check_is_other(source, out)
    limit = TimeLimit(options.minutes)
    is_out_of_time = False

    def should_end() -> bool:
        nonlocal is_out_of_time
        is_out_of_time = limit.is_over()
        return is_out_of_time or should_stop()

    with DatasetWriter(Path(out), info) as writer:
        collector = NetworkCollector(
            writer,
            target,
            described,
            schedules_by=options.schedules_by,
            fused=options.fused,
            trials_each=options.trials_each,
        )
        try:
            if isinstance(source, StoredDataset):
                failed = collector.run_again(
                    source, on_progress=on_progress, should_stop=should_end
                )
            else:
                failed = collector.run(source, on_progress=on_progress, should_stop=should_end)
        finally:
            collector.close()
        return CollectedNetworks(len(writer.networks), failed, is_out_of_time)
