"""Fused network of Relax -> `FusedGraph`: the launches of `main` in the order of its bindings."""

from hashlib import blake2b
from math import prod
from typing import Any

import numpy as np

from costmodels.fused_graph import FusedGraph, Launch
from costmodels.operator_features import dtype_bits
from tvm_integration.compat import relax, tvm
from tvm_integration.fusion import LIBRARY, FusedNetwork, callee


def fused_graph(fused: FusedNetwork) -> FusedGraph:
    """List what a fused network launches.

    Parameters
    ----------
    fused : FusedNetwork
        From `fuse`.

    Returns
    -------
    FusedGraph
        A kernel goes by the name of its task. Views and values on the host take no time and are
        left out; a branch that depends on data is one launch that is not supported.
    """
    names = {kernel: task.name for task in fused.tasks for kernel in task.kernels}
    walk = _Walk(fused, names)
    for block in fused.module["main"].body.blocks:
        for binding in block.bindings:
            value = getattr(binding, "value", None)
            if value is not None:
                walk.producers[binding.var] = walk.visit(value)
    return FusedGraph(tuple(walk.launches))


class _Walk:
    """What is known so far: the launches, and which of them each variable comes from."""

    def __init__(self, fused: FusedNetwork, names: dict[str, str]) -> None:
        self._fused = fused
        self._names = names
        self.launches: list[Launch] = []
        self._read: set[bytes] = set()
        self.producers: dict[Any, tuple[int, ...]] = {}

    def visit(self, value: Any) -> tuple[int, ...]:
        """Launches that a value comes from; what is launched for it is added."""
        if isinstance(value, relax.Var):
            return self.producers.get(value, ())
        if isinstance(value, relax.Tuple):
            return self._all(value.fields)
        if isinstance(value, relax.TupleGetItem):
            return self.visit(value.tuple_value)
        if isinstance(value, relax.If):
            sources = self.visit(value.cond)
            why = "a branch that depends on data"
            return self._launch(Launch("if", "unsupported", sources, 0, 0, why))
        if not isinstance(value, relax.Call):
            return ()
        name, reason = callee(self._fused.module, value)
        sources = self._all(value.args)
        if reason == "":
            return sources
        kind = "kernel" if reason is None else "library" if reason == LIBRARY else "unsupported"
        constants = {k: size for each in value.args for k, size in _constants(each).items()}
        tied = sum(size for digest, size in constants.items() if digest in self._read)
        self._read |= constants.keys()
        return self._launch(
            Launch(
                self._names.get(name, name),
                kind,
                sources,
                sum(constants.values()),
                _bytes_of(value.ty),
                reason or "",
                tied,
            )
        )

    def _all(self, values: Any) -> tuple[int, ...]:
        return tuple(sorted({source for each in values for source in self.visit(each)}))

    def _launch(self, launch: Launch) -> tuple[int, ...]:
        self.launches.append(launch)
        return (len(self.launches) - 1,)


def _constants(value: Any) -> dict[bytes, int]:
    """Digest -> bytes of the constants in an argument: the build keeps one of equal ones."""
    constant = getattr(value, "value", None)
    if isinstance(constant, tvm.runtime.Tensor):
        digest = blake2b(f"{value.ty}".encode(), digest_size=16)
        digest.update(np.ascontiguousarray(constant.numpy()).view(np.uint8).data)
        return {digest.digest(): _bytes_of(value.ty)}
    if isinstance(value, relax.Tuple):
        return {k: size for each in value.fields for k, size in _constants(each).items()}
    return {}


def _bytes_of(ty: Any) -> int:
    if isinstance(ty, relax.TupleType):
        return sum(map(_bytes_of, ty.fields))
    if not isinstance(ty, relax.TensorType) or not isinstance(ty.shape, relax.ShapeExpr):
        return 0
    return prod(int(extent) for extent in ty.shape.values) * dtype_bits(str(ty.dtype)) // 8
