"""Tune a whole network: measure it untuned, tune its kernels, build it with the best, compare.

A network is fused once; that same module is tuned and then built.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

from costmodels.checks import require_type
from tvm_integration.compat import Target
from tvm_integration.compile.build import FusedNetwork, build, fuse
from tvm_integration.compile.execution import check_runs_here
from tvm_integration.compile.vector_math import with_vector_math
from tvm_integration.frontends.load import load_network, require_network
from tvm_integration.frontends.model_spec import default_work_dir
from tvm_integration.frontends.network import Network
from tvm_integration.measure.settings import measures_in_network
from tvm_integration.records.database import keep_network, open_database
from tvm_integration.targets import as_target
from tvm_integration.threads import thread_count
from tvm_integration.tune.chosen_model import (
    STOCK,
    check_cost_model,
    check_has_learned,
    make_cost_model,
    with_cost_model,
)
from tvm_integration.tune.folder import locked, log_into, mark_run
from tvm_integration.tune.network_timing import checked_untuned, measure_network
from tvm_integration.tune.run import TuningRun
from tvm_integration.tune.state import TuneOptions, TuneResult, TuneState

DEFAULT = TuneOptions()


def tune_network(
    network: str | Network,
    target: str | Target = "host",
    options: TuneOptions = DEFAULT,
    on_state: Callable[[TuneState], None] = lambda _: None,
) -> TuneResult:
    """Tune a network and measure what it gained.

    Parameters
    ----------
    network : str or Network
        As `costmodels tune` takes it (``zoo:resnet18``, a file, ``module:function``), or from
        `tvm_integration.frontends.load.load_network`.
    target : str or Target
        Must be of this machine.
    options : TuneOptions
        Budget, model, folder.
    on_state : callable
        Told how far it has come.

    Returns
    -------
    TuneResult
        Latencies in seconds, untuned, tuned and of the network's own framework; each kernel's; and
        the built network.

    Raises
    ------
    InputError
        When the work directory cannot be used, belongs to another target or is in use, when no
        kernel matches `options.tasks`, when the disk is full, and when the network, before it is
        tuned, computes something else than its own framework does.
    """
    require_network(network, Network)
    require_type("options", options, TuneOptions)
    parsed = as_target(target)
    check_runs_here(parsed)
    options = with_cost_model(options, parsed)
    check_cost_model(options)
    name = network if isinstance(network, str) else network.name
    work_dir = options.work_dir or default_work_dir(name, str(target))
    # A network's own code may change the working directory.
    options = replace(options, work_dir=work_dir.absolute())
    if not isinstance(network, str):
        return _tune(network, parsed, options, on_state)
    on_state(TuneState("importing the network"))
    result = _tune(load_network(network, seed=options.seed), parsed, options, on_state)
    if options.trials and result.tuned_s is not None:
        keep_network(options.folder, network, parsed, result.tuned_s)
    return result


def _tune(
    network: Network,
    target: Target,
    options: TuneOptions,
    on_state: Callable[[TuneState], None],
) -> TuneResult:
    start = time.perf_counter()
    with _database(target, options, on_state) as database:
        cost_model = make_cost_model(options)
        if not options.trials:
            model = None if options.cost_model == STOCK else cost_model.kernel_model
            check_has_learned(model, str(options.cost_model))
        on_state(TuneState("fusing the network"))
        fused = fuse(network.module, target)
        untuned = None
        if options.check:
            on_state(TuneState("comparing what the untuned network computes"))
            untuned = checked_untuned(network, fused)
        as_tvm_builds_it = fused
        if options.vector_math:
            fused = with_vector_math(fused)
        run = TuningRun(fused, database, cost_model, options, on_state)
        with closing(run):
            interrupted = run.tune() if options.trials else run.choose_by_model()
        result = run.result(interrupted)
        if not interrupted:
            on_state(replace(run.state, stage="building and measuring the network"))
            schedules = run.schedules(result)
            untuned = untuned or build(as_tvm_builds_it)
            result = measure_network(result, network, fused, schedules, untuned)
        return replace(result, wall_s=time.perf_counter() - start)


def tune_kernels(
    fused: FusedNetwork,
    options: TuneOptions,
    on_state: Callable[[TuneState], None] = lambda _: None,
) -> tuple[TuneResult, Any]:
    """Tune the kernels of a network that is fused already, and measure no more.

    Parameters
    ----------
    fused : FusedNetwork
        From `fuse` or `with_vector_math`.
    options : TuneOptions
        With a work directory, and trials.
    on_state : callable
        Told how far it has come.

    Returns
    -------
    tuple
        What tuning gave, without latencies of the network; and a database of the schedules to build
        it with, those that are faster than no schedule.

    Raises
    ------
    InputError
        As `tune_network`.
    """
    options = with_cost_model(options, fused.target)
    with _database(fused.target, options, on_state) as database:
        run = TuningRun(fused, database, make_cost_model(options), options, on_state)
        with closing(run):
            interrupted = run.tune()
        result = run.result(interrupted)
        return result, run.schedules(result)


@contextmanager
def _database(
    target: Target, options: TuneOptions, on_state: Callable[[TuneState], None]
) -> Iterator[Any]:
    """TVM's records of the work directory, which is this run's alone meanwhile."""
    with locked(options.folder), log_into(options.folder):
        on_state(TuneState("reading the work directory"))
        database = open_database(options.folder, target)
        mark_run(
            options.folder,
            database,
            thread_count(target),
            vector_math=options.vector_math,
            in_network=measures_in_network(target),
        )
        yield database
