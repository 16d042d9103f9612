"""Fused kernels and a tuning database -> an executable.

A network is fused once (`fuse`), that module is tuned, and the same module is built (`build`).
Fusing again for the build, as `meta_schedule.relax_integration.compile_relax` does, can cut the
network differently, and a kernel that is not in the database is then built untuned in silence.
"""

from dataclasses import dataclass
from typing import Any

from costmodels.errors import CostModelError, InputError
from tvm_integration.compat import IRModule, Target, dlight, relax, tvm
from tvm_integration.compile.fusion import (
    FusedNetwork,
    FusedTask,
    InputSpec,
    UntunableKernel,
    constant_bytes,
    fuse,
)
from tvm_integration.foreign_errors import one_line
from tvm_integration.threads import unbound

__all__ = [
    "BuiltNetwork",
    "FusedNetwork",
    "FusedTask",
    "InputSpec",
    "UntunableKernel",
    "build",
    "fuse",
    "prepacking_passes",
]


@dataclass(frozen=True)
class BuiltNetwork:
    """A compiled network.

    Attributes
    ----------
    executable : relax.VMExecutable
        Runs in a `relax.VirtualMachine`; its function `main` takes the inputs.
    target : Target
        What it was built for.
    inputs : tuple of InputSpec
        The parameters of `main`.
    tuned : frozenset of str
        Names of the tasks built with a schedule from the database.
    untuned : tuple of str
        Names of the tasks built with TVM's default schedule, in the order of their first call.
    weight_bytes : int
        Size of the constants it holds.
    """

    executable: Any
    target: Target
    inputs: tuple[InputSpec, ...]
    tuned: frozenset[str]
    untuned: tuple[str, ...]
    weight_bytes: int = 0


def build(fused: FusedNetwork, database: Any = None) -> BuiltNetwork:
    """Compile a fused network with the best schedules of a database.

    Parameters
    ----------
    fused : FusedNetwork
        From `fuse`.
    database : meta_schedule.Database, optional
        Records of its tasks; without it no kernel is tuned.

    Returns
    -------
    BuiltNetwork
        Kernels without a valid record have the schedule TVM gives them by default: plain loops
        on a CPU, DLight's rules on a GPU.

    Raises
    ------
    InputError
        A kernel that TVM's code generator does not compile.
    CostModelError
        A kernel that has a record came out without its schedule: a fault of this package or of
        TVM, never of the user.
    """
    module = fused.module
    if database is not None:
        module = _apply_database(fused, database)
    scheduled = _scheduled(module)
    tuned = frozenset(t.name for t in fused.tasks if scheduled.issuperset(t.kernels))
    if fused.prepack_weights and tuned:
        with fused.target, unbound():
            module = tvm.transform.Sequential(prepacking_passes())(module)
        _check_prepacked(module, scheduled)
    return BuiltNetwork(
        executable=_compile(module, fused.target),
        target=fused.target,
        inputs=fused.inputs,
        tuned=tuned,
        untuned=tuple(t.name for t in fused.tasks if t.name not in tuned),
        weight_bytes=constant_bytes(module),
    )


def _apply_database(fused: FusedNetwork, database: Any) -> IRModule:
    # The pass reads the target when it is made and the database when it runs.
    with fused.target, database:
        module = relax.transform.MetaScheduleApplyDatabase()(fused.module)
    scheduled = _scheduled(module)
    for task in fused.tasks:
        record = database.query_tuning_record(task.mod, fused.target, task.name)
        lost = [name for name in task.kernels if name not in scheduled]
        if record is not None and lost:
            raise CostModelError(
                f"kernel {task.name} must be built with its best schedule, got none for "
                f"{', '.join(lost)}: report this as a defect of costmodels"
            )
    return module


def _scheduled(module: IRModule) -> frozenset[str]:
    return frozenset(
        str(variable.name_hint)
        for variable, function in module.functions.items()
        if isinstance(function, tvm.tirx.PrimFunc)
        and function.attrs.get("tirx.is_scheduled", False)
    )


def prepacking_passes() -> list[tvm.transform.Pass]:
    """Split the kernels whose schedule rearranges weights, and rearrange constants now.

    Weights that are parameters go to a function `main_transform_params`, which users of
    `tuning_pipeline` call themselves; a `FusedNetwork` has none.
    """
    return [
        relax.transform.SplitLayoutRewritePreproc(),
        relax.transform.LiftTransformParams(),
        relax.transform.FoldConstant(),
        # Folding leaves tuples of constants to be taken apart, and kernels that nobody calls.
        relax.transform.CanonicalizeBindings(),
        relax.transform.DeadCodeElimination(),
    ]


def _check_prepacked(module: IRModule, scheduled: frozenset[str]) -> None:
    """Raise if splitting or folding lost a scheduled kernel, or left weights to rearrange."""
    names = _scheduled(module)
    for name in scheduled:
        if not names & {name, f"{name}_prepacked"}:
            raise CostModelError(
                f"kernel {name} must be built with its best schedule, got none after weight "
                "prepacking: build with prepack_weights=False and report this as a defect"
            )
        if f"{name}_weight_prepack" in names:
            raise CostModelError(
                f"weights of kernel {name} must be rearranged at compile time, got a kernel "
                "that does it at run time: build with prepack_weights=False and report this as a "
                "defect"
            )


def _compile(module: IRModule, target: Target) -> Any:
    try:
        return relax.build(module, target, relax_pipeline=_lowering(target))
    except Exception as error:  # the lowering and LLVM raise whatever they like
        broken = _broken_kernels(module, target)
        raise InputError(
            f"kernels of the network must compile for {target.kind.name}, got {one_line(error)} "
            f"in {', '.join(broken) or 'the program around them'}: "
            "TVM cannot build this network; replace the operators that these are made of"
        ) from error


def _broken_kernels(module: IRModule, target: Target) -> list[str]:
    """Compile the kernels one by one; TVM does not say which of them failed."""
    broken = []
    for variable, function in module.functions.items():
        if isinstance(function, tvm.tirx.PrimFunc):
            try:
                tvm.tirx.build(function.with_attr("global_symbol", "kernel"), target)
            except Exception:  # any error is the answer
                broken.append(str(variable.name_hint))
    return broken


def _lowering(target: Target) -> tvm.transform.Pass:
    """Return TVM's default lowering of `target` from the point that `fuse` has reached.

    The pipelines as TVM offers them begin by legalizing and, on GPUs, by fusing again.
    """
    schedule = []
    if "gpu" in target.keys:
        rules = dlight.gpu
        schedule = [
            dlight.ApplyDefaultSchedule(
                rules.Matmul(),
                rules.GEMV(),
                rules.Reduction(),
                rules.GeneralReduction(),
                rules.Fallback(),
            )
        ]
    return tvm.transform.Sequential(
        [
            *schedule,
            # `relax.pipeline.dataflow_lower_passes` in words: it fails for llvm and cuda in 0.27.
            relax.transform.ToNonDataflow(),
            relax.transform.RemovePurityChecking(),
            relax.transform.CallTIRRewrite(),
            *relax.pipeline.finalize_passes(target),
        ]
    )
