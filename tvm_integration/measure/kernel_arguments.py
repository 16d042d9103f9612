"""Arguments to measure kernels with: numbers as networks have them.

The time of a kernel can depend on its values. Lookups walk their table in the order of their
indices; exp, tanh and erf are scalar functions of the C library whose time depends on the size of
their argument; a branch that always goes the same way costs nothing. So floats are normal numbers,
indices are spread over what they point into, and masks are mixed.
"""

import functools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tvm_integration.compat import IRModule, TensorLoad, tvm
from tvm_integration.tir.blocks import stores_of
from tvm_integration.tir.expressions import children, tirx

Range: TypeAlias = tuple[int, int]
"""Least value of an argument, and the one after its largest."""

RANDOM_FILL = "tvm.contrib.random.random_fill_for_measure"
"""TVM's function that fills an array with numbers between 1 and 10."""
_BLOCK = 1 << 20
"""Numbers drawn; arguments repeat them, each from another one on. A Zen 4 learns by heart which way
branches on 65,536 numbers go, and takes 0.7 of the time that they take in a network; of 262,144 it
learns nothing."""
_STEP = 4099
_LEAST = 1e-3
"""Far from where float16 becomes slow."""
_ACTIVATIONS, _WEIGHTS = 1.0, 0.1
"""Standard deviations of a kernel's first argument and of the others: so an erf after a product of
both meets numbers as in a network, where its time depends on them."""
_WHOLE: Range = (0, 128)
"""Of whole numbers that index nothing: what every type holds, 0 as a mask has it among them."""
_BESIDE = ".values.json"


def allocate_arguments(
    device: Any,
    args_info: Any,
    alloc_repeat: int,
    *,
    ranges: Sequence[Range | None] | None = None,
    fill: Callable[[Any], None] | None = None,
) -> list[list[Any]]:
    """Allocate a kernel's arguments.

    TVM fills floats with numbers between 1 and 10, where an erf, of a GELU for one, takes another
    time than between the small numbers of a network. It fills integers at random, too; a kernel
    that gathers by them, an embedding for one, then reads outside its table and crashes.

    Parameters
    ----------
    device : Device
        Where; of an RPC session, or of this machine.
    args_info : sequence
        TVM's descriptions of the arguments.
    alloc_repeat : int
        How often, each time with other numbers.
    ranges : sequence, optional
        For each argument the range of its whole numbers, from `whole_number_ranges`; None for one
        that is no whole number. Without it whole numbers are zeros, which every kernel can take.
    fill : callable, optional
        TVM's function that fills an array where it is: for floats on devices that are far away.

    Returns
    -------
    list of list of Tensor
        `alloc_repeat` times the arguments.
    """
    repeats = []
    for repeat in range(alloc_repeat):
        arguments: list[Any] = []
        for number, (_, dtype, shape) in enumerate(args_info):
            block = _block(
                str(dtype), not number, None if ranges is None else ranges[number], fill is None
            )
            if block is not None:
                first = _STEP * (repeat * len(args_info) + number)
                argument = tvm.runtime.tensor(_cut(block, first, tuple(shape)), device)
            else:
                argument = tvm.runtime.empty(shape, dtype, device)
                (fill or tvm.get_global_func(RANDOM_FILL))(argument)
            arguments.append(argument)
        repeats.append(arguments)
    return repeats


def _cut(block: NDArray[Any], first: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """An array of the block's numbers from a place on, which go on with those at its beginning."""
    first %= len(block)
    size = math.prod(shape)
    if first + size <= len(block):
        return np.ascontiguousarray(block[first : first + size]).reshape(shape)
    return np.resize(np.roll(block, -first), shape)


@functools.cache
def _block(dtype: str, is_first: bool, values: Range | None, is_near: bool) -> NDArray[Any] | None:
    """Numbers to repeat; None where the device's own function must fill."""
    rng = np.random.default_rng(0)
    if "float" not in dtype:
        if values is None:
            return np.zeros(1, dtype)
        return rng.integers(*values, _BLOCK).astype(dtype)
    try:
        wanted = np.dtype(dtype)
    except TypeError:  # bfloat16 and the like
        return None
    if not is_near:
        return None
    numbers = (_ACTIVATIONS if is_first else _WEIGHTS) * rng.standard_normal(_BLOCK)
    return np.copysign(np.maximum(np.abs(numbers), _LEAST), numbers).astype(wanted)


def whole_number_ranges(mod: IRModule) -> list[Range | None] | None:
    """What whole numbers the arguments of a kernel may hold.

    Parameters
    ----------
    mod : IRModule
        One function `main`, scheduled or not.

    Returns
    -------
    list or None
        For each argument its range, or None for one that is no whole number; None when no argument
        is one. An argument that indexes a tensor lies within that tensor, also where it is copied,
        cast or wrapped on the way; one that divides is not 0.
    """
    function = mod["main"]
    buffers = list(function.params)
    if all("float" in str(buffer.dtype) for buffer in buffers):
        return None
    found = _Indices(list(stores_of(function.body)))
    ranges: list[Range | None] = []
    for buffer in buffers:
        dtype = str(buffer.dtype)
        if "float" in dtype:
            ranges.append(None)
        elif dtype == "bool":
            ranges.append((0, 2))
        elif buffer in found.bounds:
            ranges.append((0, max(1, found.bounds[buffer])))
        else:
            ranges.append((1 if buffer in found.divisors else 0, _WHOLE[1]))
    return ranges


class _Indices:
    """Which buffers hold indices, and of what.

    Attributes
    ----------
    bounds : mapping
        Buffer -> the number that all its values must be below.
    divisors : set
        Buffers that something is divided by.
    """

    def __init__(self, stores: Sequence[Any]) -> None:
        self.bounds: dict[Any, int] = {}
        self.divisors: set[Any] = set()
        self._values: dict[Any, list[Any]] = {}
        for store in stores:
            self._values.setdefault(store.buffer, []).append(store.value)
            self._visit_access(store.buffer, store.indices)
            self._visit(store.value)

    def _visit(self, node: Any) -> None:
        """Find the accesses and divisions of an expression."""
        if isinstance(node, TensorLoad):
            self._visit_access(node.source, node.indices)
            return
        if isinstance(node, tirx.Div | tirx.Mod | tirx.FloorDiv | tirx.FloorMod):
            self.divisors.update(load.source for load in _loads_of_values(node.b))
        for child in children(node):
            self._visit(child)

    def _visit_access(self, buffer: Any, indices: Sequence[Any]) -> None:
        for index, extent in zip(indices, buffer.shape, strict=True):
            if isinstance(extent, tirx.IntImm):
                self._bind(index, int(extent))
            self._visit(index)

    def _bind(self, node: Any, bound: int) -> None:
        """Bound the values that an index is made of; what made them, in turn."""
        if isinstance(node, TensorLoad):
            known = self.bounds.get(node.source)
            if known is not None and known <= bound:
                return
            self.bounds[node.source] = bound
            for value in self._values.get(node.source, ()):
                self._bind(value, bound)
        elif isinstance(node, tirx.Add) and (step := _constant(node)) is not None:
            if step < bound:  # else it wraps an index that is negative, as ours are not
                for child in children(node):
                    self._bind(child, bound - step)
        elif isinstance(node, tirx.Mul):
            for child in children(node):  # at least the product of zeros lies inside
                self._bind(child, 1)
        elif isinstance(node, tirx.Select):
            self._bind(node.true_value, bound)
            self._bind(node.false_value, bound)
        else:
            for child in children(node):
                self._bind(child, bound)


def _constant(node: Any) -> int | None:
    """The constant of a sum, at least 0; None for another sum."""
    for child in (node.a, node.b):
        if isinstance(child, tirx.IntImm):
            return max(0, int(child.value))
    return None


def _loads_of_values(node: Any) -> list[Any]:
    if isinstance(node, TensorLoad):
        return [node]
    return [load for child in children(node) for load in _loads_of_values(child)]


def write_ranges(mod: IRModule, artifact: str) -> None:
    """Keep the ranges of a kernel beside its artifact, where it has whole numbers."""
    ranges = whole_number_ranges(mod)
    if ranges is not None:
        Path(artifact + _BESIDE).write_text(json.dumps(ranges))


def read_ranges(artifact: str) -> list[Range | None] | None:
    """What `write_ranges` kept; None where there is nothing."""
    try:
        kept = json.loads(Path(artifact + _BESIDE).read_text())
    except (OSError, ValueError):
        return None
    return [None if each is None else (int(each[0]), int(each[1])) for each in kept]
