"""The calls of a network in Relax, whose shapes must be fixed."""

from collections.abc import Iterator

from costmodels.errors import InputError
from tvm_integration.compat import IRModule, relax, tvm

__all__ = ["calls_of", "check_fixed_shapes"]


def calls_of(module: IRModule) -> Iterator[relax.Call]:
    """Yield the calls of every Relax function, in order; check that their shapes are fixed."""
    for function in module.functions.values():
        if isinstance(function, relax.Function):
            yield from _calls_in(function.body)


def _calls_in(body: relax.SeqExpr) -> Iterator[relax.Call]:
    for block in body.blocks:
        for binding in block.bindings:
            _check_fixed_shape(binding)
            value = getattr(binding, "value", None)
            if isinstance(value, relax.Call):
                yield value
            elif isinstance(value, relax.If):
                yield from _calls_in(value.true_branch)
                yield from _calls_in(value.false_branch)


def check_fixed_shapes(module: IRModule) -> None:
    """Raise InputError for the first tensor inside a network whose shape depends on data."""
    for _ in calls_of(module):
        pass


def _check_fixed_shape(binding: relax.Binding) -> None:
    ty = binding.var.ty
    for tensor in ty.fields if isinstance(ty, relax.TupleType) else [ty]:
        if not isinstance(tensor, relax.TensorType):
            continue
        shape = tensor.shape
        if not isinstance(shape, relax.ShapeExpr) or not all(
            isinstance(n, tvm.tirx.IntImm) for n in shape.values
        ):
            raise InputError(
                f"shapes inside the network must be fixed, got {tensor} for {binding.var.name}"
                ": take out the operators whose output shape depends on data"
            )
