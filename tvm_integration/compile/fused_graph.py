"""Fused network of Relax -> `FusedGraph`: the launches of `main` in the order of its bindings."""

from math import prod
from typing import Any

from costmodels.features.operator_features import dtype_bits
from costmodels.networks.fused_graph import FusedGraph, Launch
from tvm_integration.compat import relax, tvm
from tvm_integration.compile.fusion import LIBRARY, FusedNetwork, callee
from tvm_integration.frontends.layer_names import LayerNames, digest_of

_Content = tuple[str, bytes]


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
    return graph_and_layers(fused, {})[0]


def graph_and_layers(
    fused: FusedNetwork, layers: LayerNames
) -> tuple[FusedGraph, dict[str, tuple[str, ...]]]:
    """The same, and which layers' weights each kernel reads.

    Parameters
    ----------
    fused : FusedNetwork
        From `fuse`.
    layers : mapping
        Of the network before it was fused: see `tvm_integration.frontends.layer_names`.

    Returns
    -------
    tuple of FusedGraph and dict
        The latter: name of a kernel -> layers in the order of its launches, each once; only of
        kernels that have any.
    """
    names = {kernel: task.name for task in fused.tasks for kernel in task.kernels}
    walk = _Walk(fused, names, layers)
    for block in fused.module["main"].body.blocks:
        for binding in block.bindings:
            value = getattr(binding, "value", None)
            if value is not None:
                walk.producers[binding.var] = walk.visit(value)
    found = {name: tuple(each) for name, each in walk.layers.items()}
    return FusedGraph(tuple(walk.launches)), found


class _Walk:
    """What is known so far: the launches, and which of them each variable comes from."""

    def __init__(self, fused: FusedNetwork, names: dict[str, str], layers: LayerNames) -> None:
        self._fused = fused
        self._names = names
        self._layers = layers
        self.layers: dict[str, dict[str, None]] = {}  # as a set that keeps its order
        self.launches: list[Launch] = []
        self._read: set[_Content] = set()
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
        if known := [self._layers[key[1]] for key in constants if key[1] in self._layers]:
            kernel = self._names.get(name, name)
            self.layers.setdefault(kernel, {}).update(dict.fromkeys(known))
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


def _constants(value: Any) -> dict[_Content, int]:
    """Type and digest -> bytes of the constants in an argument: the build keeps equal ones once."""
    constant = getattr(value, "value", None)
    if isinstance(constant, tvm.runtime.Tensor):
        return {(f"{value.ty}", digest_of(constant.numpy())): _bytes_of(value.ty)}
    if isinstance(value, relax.Tuple):
        return {k: size for each in value.fields for k, size in _constants(each).items()}
    return {}


def _bytes_of(ty: Any) -> int:
    if isinstance(ty, relax.TupleType):
        return sum(map(_bytes_of, ty.fields))
    if not isinstance(ty, relax.TensorType) or not isinstance(ty.shape, relax.ShapeExpr):
        return 0
    return prod(int(extent) for extent in ty.shape.values) * dtype_bits(str(ty.dtype)) // 8
