"""A Relax module before fusion -> operators of a network, in ONNX's vocabulary."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from costmodels.checks import require_type
from costmodels.errors import InputError
from costmodels.networks.graph import AttributeValue, NetworkGraph, NetworkOperator, TensorType
from costmodels.networks.opcodes import INPUT
from tvm_integration.compat import IRModule, relax, tvm
from tvm_integration.frontends.relax_calls import check_fixed_shapes

__all__ = ["graph_from_relax"]

Attributes = dict[str, AttributeValue]
_Values = tuple[tuple[int, int], ...]

_NAMES = {
    "abs": "Abs",
    "acos": "Acos",
    "acosh": "Acosh",
    "add": "Add",
    "argmax": "ArgMax",
    "argmin": "ArgMin",
    "asin": "Asin",
    "asinh": "Asinh",
    "astype": "Cast",
    "atan": "Atan",
    "atanh": "Atanh",
    "broadcast_to": "Expand",
    "ceil": "Ceil",
    "clip": "Clip",
    "concat": "Concat",
    "cos": "Cos",
    "cosh": "Cosh",
    "cumsum": "CumSum",
    "dequantize": "DequantizeLinear",
    "divide": "Div",
    "einsum": "Einsum",
    "equal": "Equal",
    "erf": "Erf",
    "exp": "Exp",
    "expand_dims": "Unsqueeze",
    "flatten": "Flatten",
    "flip": "Slice",
    "floor": "Floor",
    "floor_divide": "Div",
    "floor_mod": "Mod",
    "full": "ConstantOfShape",
    "full_like": "ConstantOfShape",
    "ones": "ConstantOfShape",
    "ones_like": "ConstantOfShape",
    "zeros": "ConstantOfShape",
    "zeros_like": "ConstantOfShape",
    "arange": "Range",
    "gather_elements": "GatherElements",
    "gather_nd": "GatherND",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
    "image.grid_sample": "GridSample",
    "image.resize2d": "Resize",
    "index_tensor": "GatherND",
    "less": "Less",
    "less_equal": "LessOrEqual",
    "log": "Log",
    "logical_and": "And",
    "logical_not": "Not",
    "logical_or": "Or",
    "logical_xor": "Xor",
    "matmul": "MatMul",
    "max": "ReduceMax",
    "maximum": "Max",
    "mean": "ReduceMean",
    "min": "ReduceMin",
    "minimum": "Min",
    "mod": "Mod",
    "multiply": "Mul",
    "negative": "Neg",
    "nn.adaptive_avg_pool1d": "AveragePool",
    "nn.adaptive_avg_pool2d": "AveragePool",
    "nn.adaptive_avg_pool3d": "AveragePool",
    "nn.attention": "Attention",
    "nn.attention_bias": "Attention",
    "nn.avg_pool1d": "AveragePool",
    "nn.avg_pool2d": "AveragePool",
    "nn.avg_pool3d": "AveragePool",
    "nn.batch_norm": "BatchNormalization",
    "nn.conv1d": "Conv",
    "nn.conv1d_transpose": "ConvTranspose",
    "nn.conv2d": "Conv",
    "nn.conv2d_transpose": "ConvTranspose",
    "nn.conv3d": "Conv",
    "nn.conv3d_transpose": "ConvTranspose",
    "nn.gelu": "Gelu",
    "nn.gelu_tanh": "Gelu",
    "nn.group_norm": "GroupNormalization",
    "nn.instance_norm": "InstanceNormalization",
    "nn.layer_norm": "LayerNormalization",
    "nn.leakyrelu": "LeakyRelu",
    "nn.log_softmax": "LogSoftmax",
    "nn.max_pool1d": "MaxPool",
    "nn.max_pool2d": "MaxPool",
    "nn.max_pool3d": "MaxPool",
    "nn.pad": "Pad",
    "nn.pixel_shuffle": "DepthToSpace",
    "nn.prelu": "PRelu",
    "nn.relu": "Relu",
    "nn.relu6": "Clip",
    "nn.rms_norm": "RMSNormalization",
    "nn.selu": "Selu",
    "nn.silu": "Swish",
    "nn.softmax": "Softmax",
    "nn.softplus": "Softplus",
    "not_equal": "Equal",
    "one_hot": "OneHot",
    "permute_dims": "Transpose",
    "power": "Pow",
    "prod": "ReduceProd",
    "quantize": "QuantizeLinear",
    "repeat": "Tile",
    "reshape": "Reshape",
    "round": "Round",
    "rsqrt": "Sqrt",
    "scatter_elements": "ScatterElements",
    "scatter_nd": "ScatterND",
    "sigmoid": "Sigmoid",
    "sign": "Sign",
    "sin": "Sin",
    "sinh": "Sinh",
    "split": "Split",
    "sqrt": "Sqrt",
    "square": "Mul",
    "squeeze": "Squeeze",
    "stack": "Concat",
    "std": "ReduceSumSquare",
    "strided_slice": "Slice",
    "subtract": "Sub",
    "sum": "ReduceSum",
    "take": "Gather",
    "tan": "Tan",
    "tanh": "Tanh",
    "tile": "Tile",
    "topk": "TopK",
    "tril": "Trilu",
    "triu": "Trilu",
    "variance": "ReduceSumSquare",
    "where": "Where",
}
"""Names of Relax without ``relax.`` -> ONNX's; where ONNX needs several for one, the one of them
that takes longest."""


def graph_from_relax(module: IRModule, name: str = "") -> NetworkGraph:
    """Read the operators of an imported network, before anything is fused.

    Parameters
    ----------
    module : IRModule
        With fixed shapes; `main` is the network, its weights are constants.
    name : str
        Of the network, for people.

    Returns
    -------
    NetworkGraph
        What ONNX has no name for is called as in Relax (``relax.name``).

    Raises
    ------
    InputError
        When a shape depends on data, or the network branches.
    """
    require_type("module", module, IRModule)
    if not any(str(each.name_hint) == "main" for each in module.get_global_vars()):
        raise InputError("module must have a function main, got one without: name the network so")
    check_fixed_shapes(module)
    return _Reader(module["main"]).graph(name)


class _Reader:
    """Reads one function.

    Parameters
    ----------
    function : relax.Function
        Whose bindings are read in their order.
    """

    def __init__(self, function: Any) -> None:
        self._function = function
        self._operators: list[NetworkOperator] = []
        self._computed: dict[Any, _Values] = {}
        self._weights: dict[Any, tuple[TensorType, ...]] = {}

    def graph(self, name: str) -> NetworkGraph:
        """All operators, in order."""
        for parameter in self._function.params:
            self._add(
                parameter,
                NetworkOperator(INPUT, (), _types(parameter.ty), name=str(parameter.name)),
            )
        for block in self._function.body.blocks:
            for binding in block.bindings:
                self._read(binding.var, getattr(binding, "value", None))
        return NetworkGraph(tuple(self._operators), name)

    def _read(self, var: Any, value: Any) -> None:
        if isinstance(value, relax.If):
            raise InputError(
                "a network must not branch to be read operator by operator, got a branch that "
                "depends on data: take the branch out of the network"
            )
        if not isinstance(value, relax.Call):
            self._rename(var, value)
            return
        sources, weights, places = self._arguments(value.args)
        types = _types(var.ty)
        if not types:  # a shape, or a value on the host
            return
        if not sources:
            self._weights[var] = types  # of weights alone, which are folded
            return
        operator = value.op.name if isinstance(value.op, tvm.ir.Op) else str(value.op)
        short = operator.removeprefix("relax.")
        layout = getattr(value.attrs, "kernel_layout", "") if short.startswith("nn.conv") else ""
        if layout and len(weights) and places[0] == 1:
            weights = (_in_order(weights[0], str(layout), "transpose" in short), *weights[1:])
        self._add(
            var,
            NetworkOperator(
                _NAMES.get(short, operator),
                sources,
                types,
                weights,
                places,
                _ATTRIBUTES.get(short, _no_attributes)(value, types[0]),
                str(var.name),
            ),
        )

    def _rename(self, var: Any, value: Any) -> None:
        if isinstance(value, relax.TupleGetItem):
            whole, index = value.tuple_value, int(value.index)
            if isinstance(whole, relax.Tuple):
                self._rename(var, whole.fields[index])
            elif whole in self._weights:
                self._weights[var] = (self._weights[whole][index],)
            elif found := self._values(whole):
                self._computed[var] = (found[index],)
        elif _is_constant(value):
            self._weights[var] = _types(value.ty)
        elif value in self._weights:
            self._weights[var] = self._weights[value]
        elif value is not None:
            self._computed[var] = self._values(value)

    def _arguments(
        self, arguments: Iterable[Any]
    ) -> tuple[_Values, tuple[TensorType, ...], tuple[int, ...]]:
        """What is computed and what is constant among arguments, and where the latter are."""
        sources: list[tuple[int, int]] = []
        weights: list[TensorType] = []
        places: list[int] = []
        for each in _flat(arguments):
            known = _types(each.ty) if _is_constant(each) else self._weights.get(each, ())
            for weight in known:
                places.append(len(sources) + len(weights))
                weights.append(weight)
            if not known:
                sources += self._values(each)
        return tuple(sources), tuple(weights), tuple(places)

    def _values(self, value: Any) -> _Values:
        if isinstance(value, relax.Tuple):
            return tuple(found for each in value.fields for found in self._values(each))
        return self._computed.get(value, ()) if isinstance(value, relax.Var) else ()

    def _add(self, var: Any, operator: NetworkOperator) -> None:
        self._operators.append(operator)
        place = len(self._operators) - 1
        self._computed[var] = tuple((place, output) for output in range(len(operator.outputs)))


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    """Arguments with tuples taken apart."""
    for each in values:
        if isinstance(each, relax.Tuple):
            yield from _flat(each.fields)
        else:
            yield each


def _in_order(weight: TensorType, layout: str, is_transposed: bool) -> TensorType:
    """A weight of a convolution with its dimensions in ONNX's order."""
    first = "IO" if is_transposed else "OI"
    order = [layout.index(each) for each in first]
    order += [place for place, each in enumerate(layout) if each not in first]
    return TensorType(tuple(weight.shape[place] for place in order), weight.dtype)


def _is_constant(value: Any) -> bool:
    return isinstance(getattr(value, "value", None), tvm.runtime.Tensor)


def _types(ty: Any) -> tuple[TensorType, ...]:
    if isinstance(ty, relax.TupleType):
        return tuple(found for each in ty.fields for found in _types(each))
    if not isinstance(ty, relax.TensorType):
        return ()
    return (TensorType(tuple(int(n) for n in ty.shape.values), str(ty.dtype)),)


def _numbers(values: Any) -> tuple[int, ...]:
    return tuple(int(each) for each in values)


def _no_attributes(call: Any, output: TensorType) -> Attributes:
    del call, output
    return {}


def _convolution(call: Any, output: TensorType) -> Attributes:
    del output
    weight, layout = _types(call.args[1].ty)[0], str(call.attrs.kernel_layout)
    window = [extent for extent, name in zip(weight.shape, layout, strict=True) if name not in "OI"]
    return {
        "kernel_shape": tuple(window),
        "strides": _numbers(call.attrs.strides),
        "dilations": _numbers(call.attrs.dilation),
        "pads": _numbers(call.attrs.padding),
        "group": int(call.attrs.groups),
    }


def _pool(call: Any, output: TensorType) -> Attributes:
    del output
    return {
        "kernel_shape": _numbers(call.attrs.pool_size),
        "strides": _numbers(call.attrs.strides),
        "dilations": _numbers(call.attrs.dilation),
        "pads": _numbers(call.attrs.padding),
    }


def _adaptive_pool(call: Any, output: TensorType) -> Attributes:
    before = _types(call.args[0].ty)[0].shape[2:]
    after = output.shape[2:]
    strides = tuple(a // b for a, b in zip(before, after, strict=True))
    window = tuple(
        a - (b - 1) * stride for a, b, stride in zip(before, after, strides, strict=True)
    )
    return {"kernel_shape": window, "strides": strides}


def _axis(call: Any, output: TensorType) -> Attributes:
    del output
    axis = call.attrs.axis
    return {} if axis is None else {"axis": int(axis)}


def _axes(call: Any, output: TensorType) -> Attributes:
    del output
    axes = getattr(call.attrs, "axis", None)
    if axes is None:
        return {}
    return {"axes": (int(axes),) if isinstance(axes, int) else _numbers(axes)}


def _permutation(call: Any, output: TensorType) -> Attributes:
    rank = len(output.shape)
    axes = call.attrs.axes
    return {"perm": tuple(range(rank))[::-1] if axes is None else _numbers(axes)}


_ATTRIBUTES: dict[str, Callable[[Any, TensorType], Attributes]] = {
    **dict.fromkeys([name for name in _NAMES if name.startswith("nn.conv")], _convolution),
    **dict.fromkeys([name for name in _NAMES if name[3:11] in ("max_pool", "avg_pool")], _pool),
    **dict.fromkeys([name for name in _NAMES if "adaptive_avg_pool" in name], _adaptive_pool),
    **dict.fromkeys(("concat", "split", "stack", "take", "nn.softmax", "nn.log_softmax"), _axis),
    **dict.fromkeys(("mean", "sum", "max", "min", "prod", "variance", "std"), _axes),
    **dict.fromkeys(("squeeze", "expand_dims"), _axes),
    "permute_dims": _permutation,
}
"""Of what an estimate of time may hang on; others have none."""
