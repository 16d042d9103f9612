"""Fusing, tuning and building as one Relax pass, for scripts that compile by themselves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from costmodels.checks import require_type
from costmodels.errors import InputError
from tvm_integration.compat import (
    IRModule,
    Target,
    meta_schedule,
    relax,
    tvm,
    without_notebook_tables,
)
from tvm_integration.compile.build import prepacking_passes
from tvm_integration.compile.fusion import footprint_bytes, fused_tasks, fusion_passes
from tvm_integration.compile.vector_math import has_vector_math, rewrite_module
from tvm_integration.measure.builder import WarmBuilder
from tvm_integration.measure.settings import network_runner
from tvm_integration.records.schedule_library import ScheduleLibrary
from tvm_integration.threads import unbound
from tvm_integration.tune.chosen_model import default_cost_model
from tvm_integration.tune.cost_model import MetaScheduleCostModel
from tvm_integration.tune.search.strategy import SketchSearch

__all__ = ["tuning_pipeline"]


def tuning_pipeline(
    total_trials: int,
    target: str | Mapping[str, Any] | Target,
    work_dir: str = "tuning_logs",
    cpu_weight_prepack: bool = False,
    max_trials_per_task: int | None = None,
    *,
    cost_model: Any = None,
    builder: Any = None,
    runner: Any = None,
    strategy: Any = None,
    vector_math: bool = True,
    **tune_options: Any,
) -> tvm.transform.Pass:
    """Return `relax.get_pipeline("static_shape_tuning")` with this package's four objects.

    Parameters
    ----------
    total_trials : int
        Trials of the whole run; with 0 nothing is tuned and the records in `work_dir` are used.
    target : str, Mapping or Target
        What to tune for.
    work_dir : str
        Directory of the database; a second run with it goes on where the first ended.
    cpu_weight_prepack : bool
        Let schedules choose the layout of the weights. Weights that are constants of the module
        are rearranged in it; for weights that are parameters (`num_input` is set) the module
        gets a function `main_transform_params`, to be called once, as with stock TVM.
    max_trials_per_task : int, optional
        Trials of one kernel at most.
    cost_model : meta_schedule.CostModel or str, optional
        By default gradient-boosted trees that are kept in `work_dir`: ``pretrained:gbt``, and
        ``gbt``, which begins with nothing, on GPUs.
    builder : meta_schedule.Builder or str, optional
        By default `WarmBuilder()`.
    runner : meta_schedule.Runner or str, optional
        By default a `WarmRunner` with as many threads as the target has cores, which on CPUs
        measures kernels with their data where the network leaves them.
    strategy : meta_schedule.SearchStrategy or str, optional
        By default `SketchSearch` for CPUs, whose library grows unless you give a runner, and
        TVM's own, ``"evolutionary"``, for others, where ours was not measured yet.
    vector_math : bool
        Compute exp, erf, tanh and sigmoid of float32 by vector arithmetic on CPUs, within
        `compile.vector_math.MAX_RELATIVE_ERROR`; stock TVM calls the C library for each element.
    **tune_options : Any
        Further options of `meta_schedule.relax_integration.tune_relax`: `seed`,
        `num_trials_per_iter`, `measure_callbacks`, `task_scheduler`, …

    Returns
    -------
    tvm.transform.Pass
        From an imported module to a tuned one, for `tvm.compile`. The process that runs the
        library must have ``TVM_NUM_THREADS`` set to the target's cores before its first kernel
        runs: TVM takes half of the logical processors otherwise.

    Examples
    --------
    >>> tune = tuning_pipeline(1000, {"kind": "llvm", "num-cores": 8}, cpu_weight_prepack=True)
    >>> executable = tvm.compile(tune(module), target="llvm")  # doctest: +SKIP
    """
    require_type("total_trials", total_trials, int)
    if total_trials < 0:
        raise InputError(f"total_trials must be at least 0, got {total_trials}")
    target = target if isinstance(target, Target) else Target(target)

    def run(module: IRModule, _context: tvm.transform.PassContext) -> IRModule:
        with target, unbound(), without_notebook_tables():
            passes = fusion_passes(target, prepack_weights=cpu_weight_prepack)
            module = tvm.transform.Sequential(passes)(module)
            if vector_math and has_vector_math(target):
                module = rewrite_module(module)
            if total_trials > 0 and meta_schedule.relax_integration.extract_tasks(module, target):
                meta_schedule.relax_integration.tune_relax(
                    module,
                    params={},
                    target=target,
                    work_dir=work_dir,
                    max_trials_global=total_trials,
                    max_trials_per_task=max_trials_per_task,
                    **_measuring(module, target, work_dir, cost_model, builder, runner),
                    strategy=_strategy(target, runner) if strategy is None else strategy,
                    **tune_options,
                )
            Path(work_dir).mkdir(parents=True, exist_ok=True)
            module = relax.transform.MetaScheduleApplyDatabase(work_dir)(module)
            if cpu_weight_prepack:
                module = tvm.transform.Sequential(prepacking_passes())(module)
        return module

    return tvm.transform.module_pass(run, opt_level=0, name="tuning_pipeline")


def _strategy(target: Target, runner: Any) -> Any:
    if target.kind.name != "llvm":
        return "evolutionary"
    # What a runner of the user measures may be a simulation.
    return SketchSearch(library=ScheduleLibrary(grows=runner is None))


def _measuring(
    module: IRModule, target: Target, work_dir: str, cost_model: Any, builder: Any, runner: Any
) -> dict[str, Any]:
    """Return the three objects of a tuning run, ours where the user gave none."""
    if cost_model is None:
        cost_model = MetaScheduleCostModel(default_cost_model(target), work_dir=work_dir)
    if builder is None:
        builder = WarmBuilder()
    if runner is None:
        tasks = fused_tasks(module, target)
        runner = network_runner(target, footprint_bytes(module, tasks))
    return {"cost_model": cost_model, "builder": builder, "runner": runner}
