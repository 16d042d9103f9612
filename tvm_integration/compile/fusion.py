"""A Relax module -> fused kernels -> tuning tasks.

The passes are those of `relax.get_pipeline("static_shape_tuning")`, in its order, and two more:
library dispatch, which that pipeline leaves to the build, and `RewriteDataflowReshape`, which
turns a kernel that only reshapes into a view. Without the latter such kernels take trials, and a
tuned one is no longer recognized as a reshape: it becomes a copy at run time.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from costmodels.errors import InputError
from tvm_integration.compat import (
    IRModule,
    Target,
    estimate_tir_flops,
    meta_schedule,
    normalize_prim_func,
    relax,
    structural_equal,
    structural_hash,
    tvm,
)
from tvm_integration.compile.constant_folding import FoldConstantCalls
from tvm_integration.compile.legalizations import LEGALIZATIONS
from tvm_integration.foreign_errors import one_line
from tvm_integration.frontends.relax_calls import calls_of
from tvm_integration.interrupt import interrupted_after
from tvm_integration.threads import unbound

__all__ = [
    "FusedNetwork",
    "FusedTask",
    "InputSpec",
    "UntunableKernel",
    "callee",
    "fuse",
    "fused_tasks",
    "fusion_passes",
]


@dataclass(frozen=True)
class InputSpec:
    """One input of a network: its name, shape and numpy type name."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class FusedTask:
    """A kernel to tune.

    Attributes
    ----------
    name : str
        TVM's name for it, unique within the network.
    weight : int
        How often the network calls it.
    mod : IRModule
        The task: one function `main`. It is the key of the database.
    kernels : tuple of str
        The functions of the fused module that are this task; usually one.
    flop : float
        Arithmetic operations of one call, as TVM counts them.
    """

    name: str
    weight: int
    mod: IRModule
    kernels: tuple[str, ...]
    flop: float


@dataclass(frozen=True)
class UntunableKernel:
    """A part of the network that no schedule can change: its name, calls, and the reason."""

    name: str
    weight: int
    reason: str


@dataclass(frozen=True)
class FusedNetwork:
    """A network cut into kernels.

    Attributes
    ----------
    module : IRModule
        The function `main` calls the kernels; this module is tuned and this one is built.
    target : Target
        What it was fused for.
    tasks : tuple of FusedTask
        In the order of their first call.
    untunable : tuple of UntunableKernel
        What is not in `tasks`, views excepted: they take no time.
    prepack_weights : bool
        Whether a schedule may choose the layout of the weights.
    inputs : tuple of InputSpec
        The parameters of `main`.
    """

    module: IRModule
    target: Target
    tasks: tuple[FusedTask, ...]
    untunable: tuple[UntunableKernel, ...]
    prepack_weights: bool
    inputs: tuple[InputSpec, ...]

    @property
    def footprint_bytes(self) -> int:
        """What one run of it touches; see the function `footprint_bytes`."""
        return footprint_bytes(self.module, self.tasks)


def footprint_bytes(module: IRModule, tasks: Sequence[FusedTask]) -> int:
    """What one run of a network touches.

    Parameters
    ----------
    module : IRModule
        Fused; `main` is the network.
    tasks : sequence of FusedTask
        Its kernels.

    Returns
    -------
    int
        Bytes of its inputs and weights, and of the arguments of its largest kernel, for the memory
        of results is used again and again.
    """
    largest = max((_argument_bytes(task.mod) for task in tasks), default=0)
    return constant_bytes(module) + sum(map(_parameter_bytes, module["main"].params)) + largest


def constant_bytes(module: IRModule) -> int:
    """Size of the constants that functions of a module hold."""
    total = 0

    def count(expression: Any) -> None:
        nonlocal total
        value = getattr(expression, "value", None)
        if isinstance(value, tvm.runtime.Tensor):
            total += value.numpy().nbytes

    for function in module.functions.values():
        if isinstance(function, relax.Function):
            relax.analysis.post_order_visit(function, count)
    return total


def _argument_bytes(task: IRModule) -> int:
    return sum(_byte_count(each.shape, each.dtype) for each in task["main"].params)


def _parameter_bytes(parameter: relax.Var) -> int:
    """0 for what is no tensor, or of no fixed shape: scripts of users may have such."""
    shape = getattr(parameter.ty, "shape", None)
    extents = () if shape is None else shape.values
    if shape is None or not all(isinstance(each, tvm.tirx.IntImm) for each in extents):
        return 0
    return _byte_count(extents, parameter.ty.dtype)


def _byte_count(shape: Iterable[Any], dtype: object) -> int:
    return math.prod(map(int, shape)) * int(tvm.DataType(str(dtype)).bits) // 8


def fusion_passes(
    target: Target, *, prepack_weights: bool, fuse_operators: bool = True
) -> list[tvm.transform.Pass]:
    """Return the passes from an imported module to one of fused kernels.

    Parameters
    ----------
    target : Target
        They must run under `with target`.
    prepack_weights : bool
        Mark the constants whose layout a schedule may change.
    fuse_operators : bool
        Without, each operator stays a kernel of its own.
    """
    transform = relax.transform
    # Where a branch depends on data, importers leave everything outside of dataflow, and there
    # nothing is fused.
    together = [transform.ConvertToDataflow(), transform.FuseOps(), transform.FuseTIR()]
    passes = [
        transform.DecomposeOpsForInference(),
        transform.CanonicalizeBindings(),
        *relax.pipeline.library_dispatch_passes(target),
        transform.LegalizeOps(LEGALIZATIONS),
        transform.AnnotateTIROpPattern(),
        FoldConstantCalls(),
        transform.FoldConstant(),
        *(together if fuse_operators else []),
        transform.RewriteDataflowReshape(),
        transform.DeadCodeElimination(),
    ]
    if prepack_weights:
        passes.append(transform.AttachAttrLayoutFreeBuffers())
    return passes


def fuse(
    module: IRModule, target: Target, *, prepack_weights: bool = True, fuse_operators: bool = True
) -> FusedNetwork:
    """Cut a network into fused kernels and list them.

    Parameters
    ----------
    module : IRModule
        With fixed shapes; `main` is the network, its weights are constants.
    target : Target
        What to tune and build for.
    prepack_weights : bool
        Let schedules choose the layout of the weights; `build` then rearranges them once, at
        compile time. Records of tuning with and without it are not interchangeable.
    fuse_operators : bool
        Without, each operator stays a kernel of its own: to see what fusion changes.

    Returns
    -------
    FusedNetwork
        With the tasks in the order of their first call.

    Raises
    ------
    InputError
        A tensor inside the network whose shape depends on data; what TVM cannot lower or fuse.
    """
    with target, interrupted_after(), unbound():
        try:
            passes = fusion_passes(
                target, prepack_weights=prepack_weights, fuse_operators=fuse_operators
            )
            module = tvm.transform.Sequential(passes)(module)
        except Exception as error:  # each of its passes reports what it cannot do its own way
            raise InputError(
                f"TVM must be able to lower and fuse the network, got {one_line(error)}: "
                "replace what it names in the network"
            ) from error
    untunable = Counter[tuple[str, str]]()
    for call in calls_of(module):
        name, reason = callee(module, call)
        if reason:
            untunable[name, reason] += 1
    return FusedNetwork(
        module=module,
        target=target,
        tasks=fused_tasks(module, target),
        untunable=tuple(UntunableKernel(n, count, r) for (n, r), count in untunable.items()),
        prepack_weights=prepack_weights,
        inputs=tuple(_input_spec(x) for x in module["main"].params),
    )


def _input_spec(parameter: relax.Var) -> InputSpec:
    shape = tuple(int(n) for n in parameter.ty.shape.values)
    return InputSpec(str(parameter.name), shape, str(parameter.ty.dtype))


LIBRARY = "a library function"
"""Why a call of one cannot be tuned."""
_ASSERTION = "relax.run.assert_op"
"""Looks at a number on the host, as torch's own checks of its inputs do."""


def callee(module: IRModule, call: relax.Call) -> tuple[str, str | None]:
    """Tell what is called and whether it can be tuned.

    Parameters
    ----------
    module : IRModule
        Of fused kernels.
    call : relax.Call
        In one of its Relax functions.

    Returns
    -------
    tuple
        Its name, and why it cannot be tuned: None if it can, "" if it takes no time.
    """
    operator = call.op.name if isinstance(call.op, tvm.ir.Op) else ""
    if operator == "relax.call_tir":
        name = str(call.args[0].name_hint)
        return name, _reason(module[call.args[0]])
    if operator.startswith("relax.call_") and isinstance(call.args[0], relax.ExternFunc):
        return str(call.args[0].global_symbol), LIBRARY
    if isinstance(call.op, relax.ExternFunc):
        name = str(call.op.global_symbol)
        return name, "" if name == _ASSERTION else LIBRARY
    if operator == "relax.reshape" or not isinstance(call.ty, relax.TensorType | relax.TupleType):
        return operator, ""  # a view, or a value on the host
    return operator or str(call.op), "an operator that TVM does not lower to loops"


def _reason(function: tvm.tirx.PrimFunc) -> str | None:
    if function.attrs.get("tirx.is_scheduled", False):
        return "it is scheduled already"
    if _has_loop_block(function.body):
        return None
    return "its body is a library call or plain loops without a block"


def _has_loop_block(statement: object) -> bool:
    """Tell whether some block has iteration variables, which is what schedule rules work on."""
    if isinstance(statement, tvm.s_tir.SBlockRealize):
        block = statement.block
        return len(block.iter_vars) > 0 or _has_loop_block(block.body)
    if isinstance(statement, tvm.tirx.SeqStmt):
        return any(_has_loop_block(part) for part in statement.seq)
    body = getattr(statement, "body", None)
    return body is not None and _has_loop_block(body)


def fused_tasks(module: IRModule, target: Target) -> tuple[FusedTask, ...]:
    """List the tasks of a module of fused kernels, in the order of their first call."""
    calls = Counter[str]()
    for call in calls_of(module):
        name, reason = callee(module, call)
        if reason is None:
            calls[name] += 1
    extracted = meta_schedule.relax_integration.extract_tasks(module, target)
    # By hash first: an unrolled LSTM has hundreds of kernels, each compared with every task.
    by_hash: dict[int, list[int]] = {}
    for index, task in enumerate(extracted):
        by_hash.setdefault(structural_hash(task.mod), []).append(index)
    kernels: dict[int, list[str]] = {}
    for name in calls:
        normalized = normalize_prim_func(module[name])
        for index in by_hash.get(structural_hash(normalized), ()):
            if structural_equal(extracted[index].mod, normalized):
                kernels.setdefault(index, []).append(name)
                break
    # `calls` is in call order, and so is this dict.
    return tuple(
        FusedTask(
            name=str(extracted[index].task_name),
            weight=sum(calls[name] for name in names),
            mod=extracted[index].dispatched[0],
            kernels=tuple(names),
            flop=float(estimate_tir_flops(extracted[index].mod)),
        )
        for index, names in kernels.items()
    )
