"""A decomposed torch program -> one that TVM's importer takes right: types as torch promotes them.

TVM's importer of 0.27 gives a scalar the type of the tensor beside it, so that a float becomes a
whole number, and does not wrap indices that count from the end. What torch does implicitly is
written out here as casts and additions; values do not change.
"""

import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["rewrite_program"]


def rewrite_program(program: "torch.export.ExportedProgram") -> None:
    """Write out promotions, wrapped indices and widened sums.

    Parameters
    ----------
    program : torch.export.ExportedProgram
        Decomposed; changed in place. Every node keeps its type and shape.
    """
    graph = program.graph_module.graph
    constants = _constants(program)
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        name = _name(node)
        with graph.inserting_before(node):
            if name in _SCALED:
                _scale(node)
            if name in _PROMOTED:
                _promote(node, *_PROMOTED[name])
            elif name in _SUMMING and _is_half(node):
                _sum_in_float32(node)
            elif name in _WIDENED:
                _widen(node)
            elif name == "select.int":
                _select(node)
            elif name == "index_put.default" and _sets_where(node):
                pass
            elif name in ("index.Tensor", "index_put.default"):
                _index(node, constants)
            elif name in ("argmax.default", "argmin.default"):
                _keep_within_floats(node)
            elif name.startswith(_RESIZES):
                _keep_size(node)
    graph.lint()
    program.graph_module.recompile()


def _name(node: Any) -> str:
    return str(getattr(node.target, "__name__", node.target))


def _kinds() -> tuple[Any, Any]:
    from torch import _prims_common

    kinds = _prims_common.ELEMENTWISE_TYPE_PROMOTION_KIND
    return kinds.DEFAULT, kinds.INT_TO_FLOAT


_ARITHMETIC, _FLOATING, _COMPARING = range(3)
"""What torch computes in: the common type; a floating one; the common type, giving truth values."""
_BINARY = {
    "add": _ARITHMETIC,
    "sub": _ARITHMETIC,
    "rsub": _ARITHMETIC,
    "mul": _ARITHMETIC,
    "div": _FLOATING,
    "pow": _ARITHMETIC,
    "fmod": _ARITHMETIC,
    "remainder": _ARITHMETIC,
    "eq": _COMPARING,
    "ne": _COMPARING,
    "lt": _COMPARING,
    "le": _COMPARING,
    "gt": _COMPARING,
    "ge": _COMPARING,
}
_PROMOTED: Mapping[str, tuple[int, tuple[int, ...]]] = {
    **{
        f"{name}.{overload}": (kind, (0, 1))
        for name, kind in _BINARY.items()
        for overload in ("Tensor", "Scalar", "Tensor_Tensor", "Tensor_Scalar", "Tensor_mode")
    },
    "pow.Scalar": (_ARITHMETIC, (0, 1)),
    "floor_divide.default": (_ARITHMETIC, (0, 1)),
    "maximum.default": (_ARITHMETIC, (0, 1)),
    "minimum.default": (_ARITHMETIC, (0, 1)),
    "atan2.default": (_FLOATING, (0, 1)),
    "clamp.default": (_ARITHMETIC, (0, 1, 2)),
    "clamp.Tensor": (_ARITHMETIC, (0, 1, 2)),
    "clamp_min.default": (_ARITHMETIC, (0, 1)),
    "clamp_max.default": (_ARITHMETIC, (0, 1)),
    "where.self": (_ARITHMETIC, (1, 2)),
    **{
        f"{name}.default": (_FLOATING, (0,))
        for name in (
            *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sigmoid", "tanh"),
            *("sqrt", "rsqrt", "reciprocal", "erf", "sin", "cos", "tan", "asin", "acos", "atan"),
            *("sinh", "cosh", "asinh", "acosh", "atanh"),
        )
    },
}
"""Operator -> what it is computed in, and which arguments are promoted."""
_WIDENED = frozenset(
    {"sum.default", "sum.dim_IntList", "prod.default", "prod.dim_int"}
    | {"cumsum.default", "cumprod.default"}
)
"""Sums that torch takes in the type of their result."""


_SCALED = frozenset({"add.Tensor", "add.Scalar", "sub.Tensor", "sub.Scalar"})


def _scale(node: Any) -> None:
    """Write out the factor on the second argument, which the importer drops."""
    import torch

    alpha = node.kwargs.get("alpha", 1)
    if alpha == 1:
        return
    x, other = node.args
    if isinstance(other, torch.fx.Node):
        other = _emit(node, torch.ops.aten.mul.Scalar, other, alpha)
    else:
        other = other * alpha
    node.args, node.kwargs = (x, other), {}


def _promote(node: Any, kind: int, places: Sequence[int]) -> None:
    """Cast the arguments to the type that torch computes in."""
    import torch
    from torch._prims_common import elementwise_dtypes

    arguments = list(node.args)
    places = [place for place in places if place < len(arguments) and arguments[place] is not None]
    values = [_value(arguments[place]) for place in places]
    if not any(isinstance(value, torch.Tensor) for value in values):
        return
    rounding = node.kwargs.get("rounding_mode")
    promotion = _kinds()[_FLOATING if kind == _FLOATING and not rounding else _ARITHMETIC]
    _, dtype = elementwise_dtypes(*values, type_promotion_kind=promotion)
    if kind == _COMPARING and dtype == torch.bool:
        dtype = torch.int32  # TVM compares no truth values
    if dtype == torch.bool and _name(node) in _OF_TRUTH:
        node.target = getattr(torch.ops.aten, _OF_TRUTH[_name(node)]).default
        return
    if rounding and not dtype.is_floating_point:
        _divide_whole(node, arguments, str(rounding))
        return
    if _name(node) == "clamp.default" and len(places) == 2 and not dtype.is_floating_point:
        _limit_whole(node, arguments, dtype)
        return
    if _name(node) == "clamp.default" and len(places) == 3 and arguments[1] > arguments[2]:
        arguments[1] = arguments[2]  # torch's upper limit counts, the importer's lower one
    for place, value in zip(places, values, strict=True):
        argument = arguments[place]
        if isinstance(value, torch.Tensor):
            if value.dtype != dtype:
                arguments[place] = _cast(node, argument, dtype)
        elif dtype.is_floating_point:
            arguments[place] = float(argument)
        elif dtype != torch.bool:
            arguments[place] = int(argument)
    node.args = tuple(arguments)


_OF_TRUTH: Mapping[str, str] = {
    "add.Tensor": "logical_or",
    "maximum.default": "logical_or",
    "minimum.default": "logical_and",
    "mul.Tensor": "logical_and",
}
"""What operators on two truth values are; TVM has no sum and no product of them."""


def _limit_whole(node: Any, arguments: Sequence[Any], dtype: "torch.dtype") -> None:
    """A limit on one side; the importer's other one is infinite, which no whole number is."""
    import torch

    aten = torch.ops.aten
    x = arguments[0]
    if x.meta["val"].dtype != dtype:
        x = _cast(node, x, dtype)
    is_least = arguments[1] is not None
    limit = _emit(node, aten.full_like.default, x, int(arguments[1 if is_least else 2]))
    target = aten.maximum.default if is_least else aten.minimum.default
    node.replace_all_uses_with(_emit(node, target, x, limit))
    node.graph.erase_node(node)


def _divide_whole(node: Any, arguments: Sequence[Any], rounding: str) -> None:
    """Whole numbers divided by way of doubles, which hold them up to 2**53."""
    import torch

    aten = torch.ops.aten
    dtype = node.meta["val"].dtype
    parts = [
        _cast(node, each, torch.float64) if isinstance(each, torch.fx.Node) else float(each)
        for each in arguments
    ]
    if not isinstance(parts[0], torch.fx.Node):
        parts = [_emit(node, aten.mul.Scalar, _ones_like(node, parts[1]), parts[0]), parts[1]]
    overload = aten.div.Tensor if isinstance(parts[1], torch.fx.Node) else aten.div.Scalar
    quotient = _emit(node, overload, *parts)
    whole = _emit(node, getattr(aten, rounding).default, quotient)
    node.replace_all_uses_with(_cast(node, whole, dtype))
    node.graph.erase_node(node)


def _ones_like(node: Any, like: Any) -> Any:
    import torch

    return _emit(node, torch.ops.aten.full_like.default, like, 1.0)


def _widen(node: Any) -> None:
    """Cast what is summed to the type of the sum."""
    dtype = node.meta["val"].dtype
    if node.args[0].meta["val"].dtype != dtype:
        node.args = (_cast(node, node.args[0], dtype), *node.args[1:])


def _select(node: Any) -> None:
    source, dim, index = node.args
    if isinstance(index, int) and index < 0:
        node.args = (source, dim, index + source.meta["val"].shape[dim])


def _index(node: Any, constants: Mapping[str, "torch.Tensor"]) -> None:
    """Wrap indices that may count from the end; known ones are looked at."""
    import torch

    source, indices = node.args[:2]
    shape = source.meta["val"].shape
    aten = torch.ops.aten
    wrapped = []
    for axis, index in enumerate(indices):
        known = None if index is None else constants.get(index.name)
        if (
            index is None
            or index.meta["val"].dtype == torch.bool
            or (known is not None and bool((known >= 0).all()))
        ):
            wrapped.append(index)
            continue
        from_end = _emit(node, aten.add.Scalar, index, int(shape[axis]))
        negative = _emit(node, aten.lt.Scalar, index, 0)
        wrapped.append(_emit(node, aten.where.self, negative, from_end, index))
    node.args = (source, wrapped, *node.args[2:])


def _sets_where(node: Any) -> bool:
    """Write one number put where a mask is true as a choice; the importer knows no masks there."""
    import torch

    x, indices, value = node.args[:3]
    mask = indices[0]
    if len(indices) != 1 or mask is None or mask.meta["val"].dtype != torch.bool:
        return False
    if mask.meta["val"].shape != x.meta["val"].shape or value.meta["val"].dim():
        return False
    if len(node.args) > 3 and node.args[3]:
        return False
    chosen = _emit(node, torch.ops.aten.where.self, mask, value, x)
    node.replace_all_uses_with(chosen)
    node.graph.erase_node(node)
    return True


def _constants(program: "torch.export.ExportedProgram") -> dict[str, "torch.Tensor"]:
    """Names of inputs that are buffers or constants -> their values."""
    signature = program.graph_signature
    values = {**program.state_dict, **program.constants}
    names = {**signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants}
    return {name: values[held] for name, held in names.items() if held in values}


_RESIZES = ("upsample_", "_upsample_")


def _keep_size(node: Any) -> None:
    """A resize to the size that is there copies, whatever the filter; TVM lacks some filters."""
    import torch

    source = node.args[0]
    if source.meta["val"].shape == node.meta["val"].shape:
        node.target = torch.ops.aten.clone.default
        node.args, node.kwargs = (source,), {}


def _keep_within_floats(node: Any) -> None:
    """TVM looks for what is beyond the largest float, and finds place -1 among infinities alone."""
    import torch

    source = node.args[0]
    dtype = source.meta["val"].dtype
    if not dtype.is_floating_point:
        return
    least, most = torch.finfo(dtype).min / 2, torch.finfo(dtype).max / 2
    limits = (least, None) if _name(node) == "argmax.default" else (None, most)
    node.replace_input_with(source, _emit(node, torch.ops.aten.clamp.default, source, *limits))


_SUMMING = frozenset(
    {
        "avg_pool2d.default",
        "avg_pool3d.default",
        "convolution.default",
        "cumsum.default",
        "linalg_vector_norm.default",
        "mean.default",
        "mean.dim",
        "prod.default",
        "prod.dim_int",
        "sum.default",
        "sum.dim_IntList",
        "var.correction",
    }
)
"""Operators that torch computes in float32 where they are given halves."""


def _is_half(node: Any) -> bool:
    import torch

    return getattr(node.meta["val"], "dtype", None) in (torch.float16, torch.bfloat16)


def _sum_in_float32(node: Any) -> None:
    """TVM sums halves in halves; its importer's convolutions give float32 and add a half bias."""
    import torch

    dtype = node.meta["val"].dtype
    parts = [
        _cast(node, each, torch.float32) if isinstance(each, torch.fx.Node) else each
        for each in node.args
    ]
    options = {name: value for name, value in node.kwargs.items() if name != "dtype"}
    result = _emit(node, node.target, *parts, **options)
    node.replace_all_uses_with(_cast(node, result, dtype))
    node.graph.erase_node(node)


def _value(argument: Any) -> Any:
    """An argument as torch sees it: a tensor without numbers, or a number."""
    return argument.meta["val"] if hasattr(argument, "meta") else argument


def _cast(node: Any, argument: Any, dtype: "torch.dtype") -> Any:
    import torch

    return _emit(node, torch.ops.aten._to_copy.default, argument, dtype=dtype)


def _emit(node: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
    """Insert a call before a node, with what it gives."""
    new = node.graph.call_function(target, args, kwargs)
    fake = operator.attrgetter("fake_mode")(node.meta["val"])
    with fake:
        new.meta["val"] = target(
            *(_value(each) for each in args), **{k: _value(v) for k, v in kwargs.items()}
        )
    return new
