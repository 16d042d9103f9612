"""A network as it was written: its operators before anything is fused.

The vocabulary is ONNX's, whatever a network comes from: names of operators (``Conv``, ``MatMul``)
and of their attributes (``kernel_shape``, ``strides``, ``pads``, ``dilations``, ``group``).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import TypeAlias

from costmodels.errors import InputError
from costmodels.networks.opcodes import INPUT, is_known

__all__ = ["AttributeValue", "NetworkGraph", "NetworkOperator", "TensorType"]

AttributeValue: TypeAlias = int | float | str | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorType:
    """Shape and element type of a tensor.

    Parameters
    ----------
    shape : tuple of int
        Fixed; none for a scalar.
    dtype : str
        Numpy's name: ``float32``, ``int64``, ``bool``; ``bfloat16`` and the like.

    Raises
    ------
    InputError
        When an extent is not a whole number of at least 0.
    """

    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        is_tuple = isinstance(self.shape, tuple)
        if not is_tuple or not all(type(each) is int and each >= 0 for each in self.shape):
            raise InputError(f"a shape must be a tuple of whole numbers, got {self.shape!r}")

    @property
    def elements(self) -> int:
        """How many it holds."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class NetworkOperator:
    """A node of a network.

    Parameters
    ----------
    opcode : str
        ONNX's name of the operator, or `costmodels.networks.opcodes.INPUT` for an input of the
        network. One of another vocabulary stands as it is called there; models name it as
        unsupported.
    inputs : tuple of (int, int)
        For each argument that is no weight, in order: the operator that computes it, and which of
        its outputs it is. The same may occur twice.
    outputs : tuple of TensorType
        What it computes; at least one.
    weights : tuple of TensorType
        Arguments that are constants of some size, in order.
    weight_positions : tuple of int
        Where each weight is among all arguments, which the inputs fill up; by default behind them.
    attributes : mapping
        ONNX's name -> value.
    name : str
        Of the node, for people; it means nothing.
    """

    opcode: str
    inputs: tuple[tuple[int, int], ...]
    outputs: tuple[TensorType, ...]
    weights: tuple[TensorType, ...] = ()
    weight_positions: tuple[int, ...] = ()
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        if not self.opcode or not self.outputs:
            raise InputError(
                f"an operator must have an opcode and an output, got {self.opcode!r} with "
                f"{len(self.outputs)} outputs"
            )
        if self.weight_positions and len(self.weight_positions) != len(self.weights):
            raise InputError(
                f"{self.opcode} must have a position for each of {len(self.weights)} weights, got "
                f"{len(self.weight_positions)}"
            )

    def numbers(self, attribute: str) -> tuple[int, ...]:
        """The values of an attribute that is a list of numbers; none where it is not given."""
        found = self.attributes.get(attribute, ())
        return tuple(found) if isinstance(found, tuple | list) else ()


@dataclass(frozen=True)
class NetworkGraph:
    """The operators of a network and who reads from whom.

    Parameters
    ----------
    operators : tuple of NetworkOperator
        Each after those it reads from.
    name : str
        Of the network, for people.

    Raises
    ------
    InputError
        When an operator reads what no earlier one computes.
    """

    operators: tuple[NetworkOperator, ...]
    name: str = ""

    def __post_init__(self) -> None:
        for number, operator in enumerate(self.operators):
            for source, output in operator.inputs:
                if not 0 <= source < number or not 0 <= output < len(
                    self.operators[source].outputs
                ):
                    raise InputError(
                        f"operator {number} ({operator.opcode}) must read outputs of earlier ones, "
                        f"got {(source, output)}"
                    )

    def __len__(self) -> int:
        return len(self.operators)

    @cached_property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Producer and consumer, each pair once, by consumer."""
        return tuple(
            (source, number)
            for number, operator in enumerate(self.operators)
            for source in dict.fromkeys(source for source, _ in operator.inputs)
        )

    @property
    def counts(self) -> Counter[str]:
        """How often each opcode occurs, inputs of the network left out."""
        return Counter(each.opcode for each in self.operators if each.opcode != INPUT)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Opcodes that are not of `costmodels.networks.opcodes.OPCODES`, sorted."""
        return tuple(sorted(name for name in self.counts if not is_known(name)))

    def input_types(self, operator: int) -> tuple[TensorType, ...]:
        """Types of what an operator reads, weights left out, in order."""
        return tuple(
            self.operators[source].outputs[output]
            for source, output in self.operators[operator].inputs
        )

    def argument_types(self, operator: int) -> tuple[TensorType, ...]:
        """Types of all arguments of an operator, weights in their places."""
        node = self.operators[operator]
        computed = list(self.input_types(operator))
        count = len(computed) + len(node.weights)
        places = node.weight_positions or range(len(computed), count)
        weights = dict(zip(places, node.weights, strict=True))
        found = [
            weights.pop(place) if place in weights else computed.pop(0)
            for place in range(count)
            if place in weights or computed
        ]
        return (*found, *weights.values())  # the latter behind arguments that were left out

    def reordered(self, order: Sequence[int]) -> "NetworkGraph":
        """The same network with its operators in another order.

        Parameters
        ----------
        order : sequence of int
            Each operator once, after those it reads from.

        Raises
        ------
        InputError
            When it is no such order.
        """
        if sorted(order) != list(range(len(self))):
            raise InputError(f"order must have each of {len(self)} operators once")
        place = {number: position for position, number in enumerate(order)}
        return replace(
            self,
            operators=tuple(
                replace(
                    self.operators[number],
                    inputs=tuple((place[s], output) for s, output in self.operators[number].inputs),
                )
                for number in order
            ),
        )
