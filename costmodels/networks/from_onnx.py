"""ONNX -> operators of a network, as they stand in the file."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from costmodels.errors import InputError
from costmodels.installed import require_package
from costmodels.networks.graph import AttributeValue, NetworkGraph, NetworkOperator, TensorType
from costmodels.networks.opcodes import INPUT

if TYPE_CHECKING:
    import onnx

__all__ = ["graph_from_onnx"]

_DRAWS = ("Random", "Bernoulli", "Multinomial")
"""Beginnings of the names of operators that give something else each time."""
_AXES_AS_INPUT = ("Reduce", "Squeeze", "Unsqueeze")
_SHORT = 16
"""Numbers of a list that may be axes."""


def graph_from_onnx(
    model: "str | os.PathLike[str] | onnx.ModelProto", sizes: Mapping[str, int] | None = None
) -> NetworkGraph:
    """Read the operators of an ONNX network; its weights are not needed.

    What only depends on weights and fixed shapes is a weight itself: no runtime computes it again.
    Functions of the model are put in place of their calls.

    Parameters
    ----------
    model : path or onnx.ModelProto
        Files beside it that hold weights are not read.
    sizes : mapping, optional
        Values of symbolic dimensions, by their names.

    Returns
    -------
    NetworkGraph
        Operators of other domains than ONNX's are called ``domain.Name``.

    Raises
    ------
    InputError
        When it is no ONNX model, or the shape of a tensor is not known.

    Notes
    -----
    Needs the package ``onnx``.
    """
    require_package("onnx", "onnx", "reading ONNX files")
    import onnx

    if not isinstance(model, str | os.PathLike | onnx.ModelProto):
        raise InputError(
            f"model must be the path of an ONNX file or a ModelProto, got {type(model).__name__}"
        )
    label = "the model" if isinstance(model, onnx.ModelProto) else os.fspath(model)
    if not isinstance(model, onnx.ModelProto):
        try:
            model = onnx.load(os.fspath(model), load_external_data=False)
        except OSError as error:
            raise InputError(f"{label} must be a file that can be read: {error.strerror}") from None
        except Exception as error:  # protobuf, the file system and onnx have classes of their own
            raise InputError(
                f"{label} must be an ONNX file, got {_first_line(error)}: export it again"
            ) from error
    if not model.graph.node:
        raise InputError(f"{label} must have operators, got none: there is nothing to run")
    return _Reader(label, _inferred(label, model, sizes or {})).graph()


def _inferred(label: str, model: "onnx.ModelProto", sizes: Mapping[str, int]) -> Any:
    """The model without functions, its dimensions fixed, with the type of every tensor."""
    import onnx
    from onnx.inliner import inline_local_functions

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    try:
        if fixed.functions:
            fixed = inline_local_functions(fixed)
        for value in (*fixed.graph.input, *fixed.graph.output, *fixed.graph.value_info):
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param in sizes:
                    dim.dim_value = sizes[dim.dim_param]
        return onnx.shape_inference.infer_shapes(fixed, data_prop=True)
    except Exception as error:  # onnx raises what its C++ does
        raise InputError(
            f"{label} must have shapes that follow, got {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    """What an error says, without the model that some of them print."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


@dataclass
class _Reader:
    """Reads one graph."""

    label: str
    model: Any
    types: dict[str, TensorType] = field(default_factory=dict)
    weights: dict[str, TensorType] = field(default_factory=dict)
    numbers: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Of weights that are short lists of whole numbers, such as axes."""
    computed: dict[str, tuple[int, int]] = field(default_factory=dict)
    operators: list[NetworkOperator] = field(default_factory=list)

    def graph(self) -> NetworkGraph:
        """All operators, in the file's order, which is one of computation."""
        graph = self.model.graph
        for value in (*graph.input, *graph.value_info, *graph.output):
            found = self._tensor_type(value.type)
            if found is not None:
                self.types[value.name] = found
        for tensor in graph.initializer:
            self._keep(tensor.name, tensor)
        for tensor in graph.sparse_initializer:
            dtype = self._dtype(tensor.values.data_type)
            self.weights[tensor.values.name] = TensorType(tuple(tensor.dims), dtype)
        for value in graph.input:
            if value.name not in self.weights:
                given = (self._type(value.name),)
                self._add(NetworkOperator(INPUT, (), given, name=value.name), [value.name])
        for node in graph.node:
            self._read(node)
        return NetworkGraph(tuple(self.operators), graph.name)

    def _add(self, operator: NetworkOperator, outputs: list[str]) -> None:
        self.operators.append(operator)
        place = len(self.operators) - 1
        self.computed |= {name: (place, number) for number, name in enumerate(outputs) if name}

    def _read(self, node: Any) -> None:
        given = [name for name in node.input if name]
        unknown = [name for name in given if name not in self.computed and name not in self.weights]
        if unknown:
            raise InputError(
                f"{self.label} must compute what it reads, got {unknown[0]!r} of node "
                f"{node.name or node.op_type} from nowhere"
            )
        outputs = [name for name in node.output if name]
        is_standard = node.domain in ("", "ai.onnx")
        if is_standard and node.op_type == "Constant":
            self._read_constant(node, outputs[0])
            return
        if is_standard and node.op_type == "Identity":
            self._rename(given[0], outputs[0])
            return
        source = [name for name in given if name in self.computed]
        is_known = all(name in self.types for name in outputs)
        # The shape of a tensor whose shape is fixed is as good as a weight.
        is_constant = not source or node.op_type in ("Shape", "Size")
        is_constant = is_constant and not _has_graph(node) and not node.op_type.startswith(_DRAWS)
        if is_standard and is_known and is_constant:
            self.weights |= {name: self.types[name] for name in outputs}
            return
        attributes = _attributes(node)
        axes = self.numbers.get(given[1]) if len(given) > 1 else None
        if axes is not None and node.op_type.startswith(_AXES_AS_INPUT):
            attributes["axes"] = axes
        weights = [(place, name) for place, name in enumerate(given) if name in self.weights]
        self._add(
            NetworkOperator(
                node.op_type if is_standard else f"{node.domain}.{node.op_type}",
                tuple(self.computed[name] for name in source),
                tuple(self._type(name, node) for name in outputs),
                tuple(self.weights[name] for _, name in weights),
                tuple(place for place, _ in weights),
                attributes,
                node.name,
            ),
            outputs,
        )

    def _keep(self, name: str, tensor: Any) -> None:
        """Know a weight, and its numbers if it is a short list of them."""
        import onnx

        self.weights[name] = TensorType(tuple(tensor.dims), self._dtype(tensor.data_type))
        is_short = tensor.data_type == onnx.TensorProto.INT64 and prod(tensor.dims) <= _SHORT
        if is_short and not tensor.external_data:
            values = onnx.numpy_helper.to_array(tensor).reshape(-1)
            self.numbers[name] = tuple(map(int, values))

    def _read_constant(self, node: Any, name: str) -> None:
        import onnx

        if len(node.attribute) != 1:
            raise InputError(
                f"{self.label} must give each Constant one value, got {len(node.attribute)} for "
                f"{name!r}"
            )
        value = onnx.helper.get_attribute_value(node.attribute[0])
        kind = node.attribute[0].name
        if isinstance(value, onnx.TensorProto):
            self._keep(name, value)
            return
        if name in self.types:
            self.weights[name] = self.types[name]
        else:
            dtypes = {"value_float": "float32", "value_string": "object", "sparse_value": "float32"}
            shape = (len(value),) if kind.endswith("s") else ()
            self.weights[name] = TensorType(shape, dtypes.get(kind.removesuffix("s"), "int64"))
        if kind == "value_ints":
            self.numbers[name] = tuple(map(int, value))

    def _rename(self, old: str, new: str) -> None:
        if old in self.weights:
            self.weights[new] = self.weights[old]
            if old in self.numbers:
                self.numbers[new] = self.numbers[old]
        else:
            self.computed[new] = self.computed[old]

    def _type(self, name: str, node: Any = None) -> TensorType:
        found = self.types.get(name)
        if found is None:
            what = f"input {name!r}"
            if node is not None:
                what = f"{name!r} of node {node.name or 'without a name'} ({node.op_type})"
            raise InputError(
                f"{self.label} must have a fixed shape for every tensor, got none for {what}: give "
                "the sizes of its symbolic dimensions, or cut it where shapes depend on data"
            )
        return found

    def _tensor_type(self, value: Any) -> TensorType | None:
        """The type of a value; None where a dimension or the kind of value is not known."""
        if not value.HasField("tensor_type") or not value.tensor_type.HasField("shape"):
            return None
        dims = value.tensor_type.shape.dim
        if not all(dim.HasField("dim_value") for dim in dims):
            return None
        dtype = self._dtype(value.tensor_type.elem_type)
        return TensorType(tuple(int(dim.dim_value) for dim in dims), dtype)

    def _dtype(self, number: int) -> str:
        """Numpy's name of an element type of ONNX, and ONNX's own for what numpy lacks."""
        import onnx

        try:
            name = str(onnx.TensorProto.DataType.Name(number)).lower()
        except ValueError:
            raise InputError(
                f"{self.label} must have element types that onnx knows, got number {number}: use a "
                "newer onnx"
            ) from None
        return {"float": "float32", "double": "float64"}.get(name, name)


def _has_graph(node: Any) -> bool:
    return any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)


def _attributes(node: Any) -> dict[str, AttributeValue]:
    """Numbers, texts and lists of whole numbers; tensors and graphs are left out."""
    import onnx

    found: dict[str, AttributeValue] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            found[attribute.name] = value.decode(errors="replace")
        elif isinstance(value, int | float):
            found[attribute.name] = value
        elif isinstance(value, list) and all(isinstance(each, int) for each in value):
            found[attribute.name] = tuple(value)
    return found
