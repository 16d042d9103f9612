"""Operators that TVM lowers to something wrong, lowered here: for `relax.transform.LegalizeOps`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

from tvm_integration.compat import relax, tvm

Legalization: TypeAlias = Callable[[relax.BlockBuilder, relax.Call], relax.Expr]


def _tile(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """One axis after the other: LLVM builds some tiles over several wrong for AVX-512."""
    repeats = [int(each) for each in call.attrs.repeats]
    axes = [axis for axis, each in enumerate(repeats) if each != 1]
    found = call.args[0]
    for axis in axes[:-1]:
        found = builder.emit_te(tvm.topi.tile, found, _repeats_along(axis, repeats))
    last = _repeats_along(axes[-1], repeats) if axes else repeats
    return builder.call_te(tvm.topi.tile, found, last)


def _repeats_along(axis: int, repeats: Sequence[int]) -> list[int]:
    return [each if place == axis else 1 for place, each in enumerate(repeats)]


def _group_norm(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    data, axes = call.args[0], [int(axis) for axis in call.attrs.axes]
    if int(call.attrs.channel_axis) != 1 or axes != list(range(2, int(data.ty.ndim))):
        own: Legalization = tvm.ir.Op.get("relax.nn.group_norm").get_attr("FLegalize")
        return own(builder, call)

    def normalize(data: Any, gamma: Any, beta: Any) -> Any:
        batch, channels, *spatial = data.shape
        groups = int(call.attrs.num_groups)
        size = channels // groups
        moments = _Moments(
            (batch, groups),
            (size, *spatial),
            at=lambda kept, summed: (kept[0], kept[1] * size + summed[0], *summed[1:]),
            of=lambda place: (place[0], place[1] // size),
        )
        return _normalized(data, gamma, beta, moments, 1, float(call.attrs.epsilon))

    return builder.call_te(normalize, *call.args, primfunc_name_hint="group_norm")


def _instance_norm(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    axes, channel = [int(axis) for axis in call.attrs.axes], int(call.attrs.channel_axis)

    def normalize(data: Any, gamma: Any, beta: Any) -> Any:
        kept = [axis for axis in range(len(data.shape)) if axis not in axes]
        order = [*kept, *axes]
        moments = _Moments(
            tuple(data.shape[axis] for axis in kept),
            tuple(data.shape[axis] for axis in axes),
            at=lambda outer, summed: tuple(
                (*outer, *summed)[order.index(axis)] for axis in range(len(order))
            ),
            of=lambda place: tuple(place[axis] for axis in kept),
        )
        return _normalized(data, gamma, beta, moments, channel, float(call.attrs.epsilon))

    return builder.call_te(normalize, *call.args, primfunc_name_hint="instance_norm")


@dataclass(frozen=True)
class _Moments:
    """Over what a mean and a spread are taken: shapes, and indices from one to the other."""

    kept: tuple[Any, ...]
    summed: tuple[Any, ...]
    at: Callable[[tuple[Any, ...], tuple[Any, ...]], tuple[Any, ...]]
    of: Callable[[tuple[Any, ...]], tuple[Any, ...]]


def _normalized(
    data: Any, gamma: Any, beta: Any, moments: _Moments, channel: int, epsilon: float
) -> Any:
    """Sum what is beyond the first number, then the squares around the mean.

    TVM's own takes the mean of the squares less the square of the mean, of which nothing is left
    where the mean is a thousand times the spread, and which can be below zero where all are equal.
    """
    te = tvm.te

    def wide(value: Any) -> Any:
        return value.astype("float32") if data.dtype == "float16" else value

    def total(function: Callable[..., Any], name: str) -> Any:
        ks = tuple(te.reduce_axis((0, extent), name="k") for extent in moments.summed)

        def one(*kept: Any) -> Any:
            return te.sum(function(wide(data[moments.at(kept, ks)]), kept), axis=ks)

        return te.compute(moments.kept, one, name=name)

    def first(kept: tuple[Any, ...]) -> Any:
        return wide(data[moments.at(kept, (0,) * len(moments.summed))])

    count = prod(moments.summed)
    sums = total(lambda value, kept: value - first(kept), "norm_sum")
    mean = te.compute(
        moments.kept, lambda *kept: first(kept) + sums[kept] / count, name="norm_mean"
    )
    squares = total(
        lambda value, kept: (value - mean[kept]) * (value - mean[kept]), "norm_square_sum"
    )

    def result(*place: Any) -> Any:
        kept, c = moments.of(place), place[channel]
        scale = tvm.tirx.rsqrt(squares[kept] / count + tvm.tirx.const(epsilon, squares.dtype))
        value = (wide(data[place]) - mean[kept]) * scale
        return (value * wide(gamma[c]) + wide(beta[c])).astype(data.dtype)

    return te.compute(data.shape, result, name="norm")


LEGALIZATIONS: Mapping[str, Legalization] = {
    "relax.tile": _tile,
    "relax.nn.group_norm": _group_norm,
    "relax.nn.instance_norm": _instance_norm,
}
"""Name of an operator -> what makes it a kernel."""
