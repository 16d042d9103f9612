"""Converters of torch operators that TVM's importer lacks, or gives another type.

They go to `from_exported_program` by its own parameter `custom_convert_map`.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from tvm_integration.compat import relax

__all__ = ["CONVERTERS"]


def _emit(importer: Any, expression: Any) -> Any:
    return importer.block_builder.emit(expression)


def _dtype(node: Any) -> str:
    return str(node.meta["val"].dtype).removeprefix("torch.")


def _argument(node: Any, place: int, name: str, default: Any) -> Any:
    if place < len(node.args):
        return node.args[place]
    return node.kwargs.get(name, default)


def _matmul(node: Any, importer: Any) -> Any:
    """The importer's products are of float32, whatever they are of."""
    if _dtype(node) == "float32":
        product = partial(relax.op.matmul, out_dtype="float32")
        return importer._binary_op(product, operator.matmul)(node)
    a, b = (importer.env[each] for each in node.args[:2])
    return _product(importer, a, b, _dtype(node))


def _product(importer: Any, a: Any, b: Any, dtype: str) -> Any:
    if dtype in ("float16", "bfloat16"):  # summed in float32, as torch does
        wide = _emit(importer, relax.op.matmul(a, b, out_dtype="float32"))
        return _emit(importer, relax.op.astype(wide, dtype))
    return _emit(importer, relax.op.matmul(a, b))


def _addmm(node: Any, importer: Any) -> Any:
    if _dtype(node) == "float32":
        return importer._addmm(node)
    bias, a, b = (importer.env[each] for each in node.args[:3])
    dtype = _dtype(node)
    product = _product(importer, a, b, dtype)
    for name, which in (("alpha", "product"), ("beta", "bias")):
        factor = node.kwargs.get(name, 1)
        if factor != 1:
            scaled = relax.op.multiply(
                product if which == "product" else bias, relax.const(factor, dtype)
            )
            if which == "product":
                product = _emit(importer, scaled)
            else:
                bias = _emit(importer, scaled)
    return _emit(importer, relax.op.add(product, bias))


def _axes(node: Any, dims: Any) -> list[int]:
    rank = node.args[0].meta["val"].dim()
    if dims is None or (isinstance(dims, Sequence) and not dims):
        return list(range(rank))
    each = dims if isinstance(dims, Sequence) else [dims]
    return [int(dim) % max(rank, 1) for dim in each]


def _reduced(operation: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """A reduction with ``(x, dims, keepdim)``."""

    def convert(node: Any, importer: Any) -> Any:
        axes = _axes(node, _argument(node, 1, "dim", None))
        keep = bool(_argument(node, 2, "keepdim", False))
        return _emit(importer, operation(importer.env[node.args[0]], axis=axes, keepdims=keep))

    return convert


def _truth(largest: bool) -> Callable[[Any, Any], Any]:
    """`any` and `all`: the largest or the least truth value, as whole numbers."""

    def convert(node: Any, importer: Any) -> Any:
        x = importer.env[node.args[0]]
        zero = relax.const(0, x.ty.dtype) if str(x.ty.dtype) != "bool" else None
        flags = x if zero is None else _emit(importer, relax.op.not_equal(x, zero))
        numbers = _emit(importer, relax.op.astype(flags, "int8"))
        axes = _axes(node, _argument(node, 1, "dim", None))
        keep = bool(_argument(node, 2, "keepdim", False))
        operation = relax.op.max if largest else relax.op.min
        found = _emit(importer, operation(numbers, axis=axes, keepdims=keep))
        return _emit(importer, relax.op.astype(found, "bool"))

    return convert


def _least(node: Any, importer: Any) -> Any:
    """`min` along a dimension: values and where they are."""
    x = importer.env[node.args[0]]
    (axis,) = _axes(node, node.args[1])
    keep = bool(_argument(node, 2, "keepdim", False))
    values = _emit(importer, relax.op.min(x, axis=[axis], keepdims=keep))
    places = _emit(importer, relax.op.argmin(x, axis=axis, keepdims=keep))
    return _emit(importer, relax.Tuple([values, places]))


def _prod_dim(node: Any, importer: Any) -> Any:
    axes = _axes(node, node.args[1])
    keep = bool(_argument(node, 2, "keepdim", False))
    return _emit(importer, relax.op.prod(importer.env[node.args[0]], axis=axes, keepdims=keep))


def _group_norm(node: Any, importer: Any) -> Any:
    """The importer wants a scale and a shift, which are optional."""
    value = node.args[0].meta["val"]
    x, gamma, beta = (None if each is None else importer.env[each] for each in node.args[:3])
    channels, dtype = int(value.shape[1]), str(value.dtype).removeprefix("torch.")
    gamma = relax.const(np.ones(channels, dtype)) if gamma is None else gamma
    beta = relax.const(np.zeros(channels, dtype)) if beta is None else beta
    return _emit(
        importer,
        relax.op.nn.group_norm(
            x,
            gamma,
            beta,
            num_groups=int(node.args[6]),
            channel_axis=1,
            axes=list(range(2, value.dim())),
            epsilon=float(node.args[7]),
        ),
    )


def _scatter_add(node: Any, importer: Any) -> Any:
    x, index, source = (importer.env[node.args[place]] for place in (0, 2, 3))
    (axis,) = _axes(node, node.args[1])
    return _emit(importer, relax.op.scatter_elements(x, index, source, axis=axis, reduction="add"))


CONVERTERS: Mapping[str, Callable[[Any, Any], Any]] = {
    "addmm.default": _addmm,
    "all.default": _truth(False),
    "all.dim": _truth(False),
    "all.dims": _truth(False),
    "amax.default": _reduced(relax.op.max),
    "amin.default": _reduced(relax.op.min),
    "any.default": _truth(True),
    "bmm.default": _matmul,
    "matmul.default": _matmul,
    "min.dim": _least,
    "mm.default": _matmul,
    "native_group_norm.default": _group_norm,
    "prod.dim_int": _prod_dim,
    "scatter_add.default": _scatter_add,
}
"""Overload of an operator -> ``(node, importer) -> relax.Var``."""
