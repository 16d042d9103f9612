"""A block -> its operator: the kind follows from body and accesses, never from a name."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from costmodels.features.kernel_graph import Operator
from tvm_integration.compat import TensorLoad, tvm
from tvm_integration.tir.blocks import Block, shape_of
from tvm_integration.tir.expressions import (
    Linear,
    calls_and_operations,
    linear,
    loads,
    variables,
    without_casts,
)

tirx = tvm.tirx

_MATH = {
    "exp": "exp",
    "exp2": "exp",
    "exp10": "exp",
    "log": "log",
    "log2": "log",
    "log10": "log",
    "log1p": "log",
    "sqrt": "sqrt",
    "rsqrt": "rsqrt",
    "pow": "pow",
    "power": "pow",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "erf": "erf",
    "round": "round",
    "nearbyint": "round",
    "floor": "round",
    "ceil": "round",
    "trunc": "round",
}
"""TVM's intrinsic -> opcode; the others are "math"."""
_PLAIN_INTRINSICS = frozenset({"if_then_else", "reinterpret", "shift_left"})
"""What also occurs in plain arithmetic, and names no block."""
_ARITHMETIC = ("div", "mod", "mul", "sub", "add", "max", "min", "select", "compare", "logic")
"""Operations that name a block, the first that occurs."""
_REDUCTIONS = {"add": "reduce_sum", "max": "reduce_max", "min": "reduce_min", "mul": "reduce_mul"}
_POOLS = {"add": "pool_sum", "max": "pool_max"}


def block_operator(block: Block, paddings: Mapping[Any, tuple[tuple[int, int], ...]]) -> Operator:
    """Describe what a block does.

    Parameters
    ----------
    block : Block
        A leaf block, before scheduling or after.
    paddings : mapping
        Buffer that a pad wrote -> elements it added before and after each dimension.
    """
    buffer = block.write if block.writes else None
    operations: Counter[str] = Counter()
    for store in block.stores:
        operations.update(calls_and_operations(store.value))
    shape = () if buffer is None else shape_of(buffer)
    common: dict[str, Any] = {
        "dtype": "" if buffer is None else str(buffer.dtype),
        "shape": shape,
        "spatial": tuple(block.spatial.values()),
        "reduction": tuple(block.reduction.values()),
        "operations": dict(sorted(operations.items())),
    }
    if len(block.stores) != 1:
        kind = "reduce_other" if block.reduction else "other"
        return Operator(opcode=kind, **common)
    (store,) = block.stores
    if block.reduction:
        opcode, windows = _reduction(block, store, paddings)
        return Operator(opcode=opcode, **common, **windows)
    if any(load.source == store.buffer for load in loads(store.value)):
        return Operator(opcode="scan", **common)
    opcode = _elementwise(block, store)
    padding = _pad_sizes(store, shape) if opcode == "pad" else ()
    return Operator(opcode=opcode, padding=padding, **common)


# Reductions


def _reduction(
    block: Block, store: Any, paddings: Mapping[Any, tuple[tuple[int, int], ...]]
) -> tuple[str, dict[str, Any]]:
    """Opcode and window of a block that reduces."""
    combined = _combination(store)
    if combined is None:
        return "reduce_other", {}
    kind, term = combined
    factors = _factors(term) if kind == "add" else []
    if len(factors) == 2:
        data, weight = _data_first(block, factors)
        windows = _windows(block, data, paddings, weight)
        return _contraction(block, data, weight, windows), windows
    found = loads(term)
    if kind in _POOLS and len(found) == 1:
        windows = _windows(block, found[0], paddings)
        if windows:
            return _POOLS[kind], windows
    return _REDUCTIONS.get(kind, "reduce_other"), {}


def _combination(store: Any) -> tuple[str, Any] | None:
    """Take ``C = C + term`` apart into ``"add"`` and the term."""
    value = store.value
    for kind, node in (
        ("add", tirx.Add),
        ("max", tirx.Max),
        ("min", tirx.Min),
        ("mul", tirx.Mul),
    ):
        if isinstance(value, node):
            for own, term in ((value.a, value.b), (value.b, value.a)):
                if isinstance(own, TensorLoad) and own.source == store.buffer:
                    return kind, term
    return None


def _factors(term: Any) -> list[Any]:
    """The two loads that a contraction multiplies; empty when it is something else."""
    term = without_casts(term)
    if not isinstance(term, tirx.Mul):
        return []
    found = [loads(side) for side in (term.a, term.b)]
    return [side[0] for side in found] if all(len(side) == 1 for side in found) else []


def _data_first(block: Block, factors: list[Any]) -> tuple[Any, Any]:
    """Order the factors of a contraction: the one that is walked over by a window first."""
    first, second = factors
    if not _mixed(block, first) and _mixed(block, second):
        return second, first
    return first, second


def _mixed(block: Block, load: Any) -> list[Linear]:
    """Indices of a load in which a spatial and a reduction variable are added up."""
    found = []
    for index in load.indices:
        form = linear(index)
        if form is None:
            continue
        spatial = [v for v in form.coefficients if v in block.spatial]
        reduction = [v for v in form.coefficients if v in block.reduction]
        if len(spatial) == 1 and len(reduction) == 1:
            found.append(form)
    return found


def _windows(
    block: Block,
    load: Any,
    paddings: Mapping[Any, tuple[tuple[int, int], ...]],
    weight: Any = None,
) -> dict[str, tuple[Any, ...]]:
    """Window, stride, dilation and padding of each windowed dimension of a load.

    What also indexes the weight, as a channel does, is not walked over by a window.
    """
    fixed = set() if weight is None else _index_variables(weight)
    window, stride, dilation, padding = [], [], [], []
    padded = paddings.get(load.source)
    for dimension, index in enumerate(load.indices):
        form = linear(index)
        if form is None:
            continue
        spatial = [v for v in form.coefficients if v in block.spatial]
        reduction = [v for v in form.coefficients if v in block.reduction]
        if len(spatial) != 1 or len(reduction) != 1:
            continue
        if spatial[0] in fixed:
            continue
        window.append(block.reduction[reduction[0]])
        stride.append(abs(form.coefficients[spatial[0]]))
        dilation.append(abs(form.coefficients[reduction[0]]))
        padding.append((0, 0) if padded is None else padded[dimension])
    if not window:
        return {}
    return {
        "window": tuple(window),
        "stride": tuple(stride),
        "dilation": tuple(dilation),
        "padding": tuple(padding),
    }


def _contraction(
    block: Block, data: Any, weight: Any, windows: Mapping[str, tuple[Any, ...]]
) -> str:
    """Tell the kinds of sums of products apart."""
    data_variables, weight_variables = _index_variables(data), _index_variables(weight)
    shared = [v for v in block.spatial if v in data_variables and v in weight_variables]
    if not windows:
        return "batch_matmul" if shared else "matmul"
    if _is_flipped(block, weight):
        return "conv_transpose"
    if not [v for v in shared if block.spatial[v] > 1]:
        return "conv"
    window_size = 1
    for extent in windows["window"]:
        window_size *= extent
    reduced = 1
    for extent in block.reduction.values():
        reduced *= extent
    return "depthwise_conv" if reduced == window_size else "group_conv"


def _is_flipped(block: Block, weight: Any) -> bool:
    """Whether a kernel is walked backwards, as the gradient of a convolution does."""
    forms = [linear(index) for index in weight.indices]
    return any(
        form.coefficients.get(variable, 0) < 0
        for form in forms
        if form is not None
        for variable in block.reduction
    )


def _index_variables(load: Any) -> set[Any]:
    return {variable for index in load.indices for variable in variables(index)}


# Without a reduction


def _elementwise(block: Block, store: Any) -> str:
    value = without_casts(store.value)
    found = loads(value)
    if not found:
        return "iota" if variables(value) & block.spatial.keys() else "constant"
    if any(loads(index) for load in found for index in load.indices):
        return "gather"
    branches = _branches(value)
    if branches is not None:
        condition, yes, no = branches
        if not loads(condition):
            both = loads(yes) and loads(no)
            return "concatenate" if both else "pad"
    if isinstance(value, TensorLoad):
        if value is not store.value and not value.same_as(store.value):
            return "cast"
        return _movement(block, value)
    return _arithmetic(value)


def _branches(value: Any) -> tuple[Any, Any, Any] | None:
    """Condition and both sides of a selection."""
    if isinstance(value, tirx.Select):
        return value.condition, value.true_value, value.false_value
    if isinstance(value, tvm.ir.Call) and _op_name(value) == "if_then_else":
        return value.args[0], value.args[1], value.args[2]
    return None


def _op_name(call: Any) -> str:
    return str(getattr(call.op, "name", "")).rpartition(".")[2]


def _movement(block: Block, load: Any) -> str:
    """Tell the kinds of copies apart by the order of the indices."""
    order = list(block.spatial)
    plain = [index for index in load.indices if isinstance(index, tirx.Var)]
    if len(plain) != len(load.indices):
        if all(linear(index) is not None for index in load.indices):
            constant = all(isinstance(i, tirx.Var | tirx.IntImm) for i in load.indices)
            used = _index_variables(load)
            large = [v for v in order if block.spatial[v] > 1]
            return "broadcast" if constant and not used.issuperset(large) else "slice"
        return "reshape"
    positions = [order.index(index) for index in plain if index in order]
    if positions != sorted(positions):
        return "transpose"
    missing = [v for v in order if v not in plain and block.spatial[v] > 1]
    if missing:
        return "broadcast"
    return "copy" if len(positions) == len(order) else "reshape"


def _arithmetic(value: Any) -> str:
    counts = calls_and_operations(value)
    for name in counts:
        if name.startswith("call."):
            intrinsic = name.removeprefix("call.")
            if intrinsic not in _PLAIN_INTRINSICS:
                return _MATH.get(intrinsic, "math")
    if "max" in counts and "min" in counts:
        return "clip"
    if isinstance(value, tirx.Max) and not (loads(value.a) and loads(value.b)):
        return "relu"
    return next((name for name in _ARITHMETIC if name in counts), "other")


def _pad_sizes(store: Any, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Elements added before and after each dimension."""
    (load,) = loads(store.value)[:1]
    before = []
    for index in load.indices:
        form = linear(index)
        before.append(0 if form is None else -form.constant)
    inner = shape_of(load.source)
    if len(inner) != len(shape):
        return ()
    return tuple(
        (low, outer - size - low) for low, outer, size in zip(before, shape, inner, strict=True)
    )
