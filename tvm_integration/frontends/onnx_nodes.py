"""Nodes of an ONNX graph: what is known around one, and writing those that replace it."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

__all__ = ["NodeFacts", "NodeWriter", "RefusedError", "describe_node"]

NARROW = frozenset(range(17, 27))
"""Element types of ONNX: floats of 8 bits and less, whole numbers of 4 bits and less."""
FLOATS = {1: np.float32, 10: np.float16, 11: np.float64}
BITS = {2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 12: 32, 13: 64}
"""Whole element types -> bits."""
WITH_SIGN = frozenset({3, 5, 6, 7})
BOOL, INT32, INT64, FLOAT, DOUBLE, UINT64 = 9, 6, 7, 1, 11, 13


class RefusedError(Exception):
    """An attribute or type that cannot be rewritten; the text says which, and the way out."""


class NodeFacts:
    """What is known around a node: constants, shapes, element types; and new names.

    Parameters
    ----------
    model : onnx.ModelProto
        With inferred shapes.
    """

    def __init__(self, model: "onnx.ModelProto") -> None:
        from onnx import numpy_helper

        self._to_array = numpy_helper.to_array
        self._weights = {x.name: x for x in model.graph.initializer}
        self._constants: dict[str, Any] = {}
        self._types: dict[str, tuple[int, tuple[int, ...] | None]] = {}
        entries = [*model.graph.input, *model.graph.value_info, *model.graph.output]
        for entry in entries:
            tensor = entry.type.tensor_type
            shape = None
            if tensor.HasField("shape"):
                dims = tensor.shape.dim
                if all(dim.HasField("dim_value") for dim in dims):
                    shape = tuple(dim.dim_value for dim in dims)
            self._types.setdefault(entry.name, (tensor.elem_type, shape))
        for weight in model.graph.initializer:
            self._types[weight.name] = (weight.data_type, tuple(weight.dims))
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                tensor = node.attribute[0].t
                self._weights[node.output[0]] = tensor
                self._types[node.output[0]] = (tensor.data_type, tuple(tensor.dims))
        self._makers = {name: node for node in model.graph.node for name in node.output}
        self.used = {name for node in model.graph.node for name in node.input}
        self.used |= {entry.name for entry in model.graph.output}
        self._taken = self.used | {name for node in model.graph.node for name in node.output}
        self.opset = max(
            [0, *(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))]
        )

    def constant(self, name: str) -> "np.ndarray[Any, Any] | None":
        """The value of a constant; None for what is none."""
        if name not in self._constants:
            weight = self._weights.get(name)
            self._constants[name] = None if weight is None else self._to_array(weight)
        found: np.ndarray[Any, Any] | None = self._constants[name]
        return found

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Its shape, if it is fixed."""
        return self._types.get(name, (0, None))[1]

    def type(self, name: str) -> int:
        """Its element type as ONNX counts them; 0 if it is not known."""
        return self._types.get(name, (0, None))[0]

    def maker(self, name: str) -> "onnx.NodeProto | None":
        """The operator that gives it."""
        return self._makers.get(name)

    def fresh(self, like: str) -> str:
        """A name that nothing has."""
        number = 0
        while f"{like}_{number}" in self._taken:
            number += 1
        self._taken.add(f"{like}_{number}")
        return f"{like}_{number}"


class NodeWriter:
    """Collects the nodes that replace one.

    Parameters
    ----------
    node : onnx.NodeProto
        The one.
    facts : NodeFacts
        Of its graph; hands out names that are free.
    """

    def __init__(self, node: "onnx.NodeProto", facts: NodeFacts) -> None:
        self.node = node
        self.facts = facts
        self.nodes: list[onnx.NodeProto] = []

    def constant(self, value: Any) -> str:
        """Add a constant; return its name."""
        from onnx import helper, numpy_helper

        name = self.facts.fresh(f"{self.node.output[0]}_constant")
        tensor = numpy_helper.from_array(np.asarray(value), name)
        self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    def emit(
        self, operator: str, *inputs: str, output: str | None = None, **attributes: Any
    ) -> str:
        """Add an operator; return the name of its output, a new one by default."""
        from onnx import helper

        name = output or self.facts.fresh(f"{self.node.output[0]}_{operator.lower()}")
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def cast(self, name: str, element: int, output: str | None = None) -> str:
        """Add a cast to an element type; return the name of its output."""
        return self.emit("Cast", name, output=output, to=element)


def describe_node(node: "onnx.NodeProto") -> str:
    """An operator and where it is: its name, or else its first output."""
    where = node.name or next((name for name in node.output if name), "?")
    domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}."
    return f"{domain}{node.op_type} ({where})"


def attributes_of(node: "onnx.NodeProto") -> dict[str, Any]:
    """Name -> value of the attributes that an operator spells out; text as bytes."""
    from onnx import helper

    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def text_of(value: Any) -> str:
    """An attribute of text, which onnx gives as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def numpy_type(element: int) -> Any:
    """The dtype of an element type as ONNX counts them."""
    from onnx import helper

    return helper.tensor_dtype_to_np_dtype(element)
