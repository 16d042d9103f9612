"""A program of torch.export -> operators of a network, in ONNX's vocabulary."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from costmodels.errors import InputError
from costmodels.networks.graph import AttributeValue, NetworkGraph, NetworkOperator, TensorType
from costmodels.networks.opcodes import INPUT

if TYPE_CHECKING:
    import torch

__all__ = ["graph_from_torch"]

Attributes = dict[str, AttributeValue]

_NAMES = {
    "_log_softmax": "LogSoftmax",
    "_safe_softmax": "Softmax",
    "_scaled_dot_product_efficient_attention": "Attention",
    "_scaled_dot_product_flash_attention": "Attention",
    "_scaled_dot_product_flash_attention_for_cpu": "Attention",
    "_softmax": "Softmax",
    "_to_copy": "Cast",
    "_unsafe_view": "Reshape",
    "abs": "Abs",
    "adaptive_avg_pool2d": "AveragePool",
    "add": "Add",
    "addmm": "Gemm",
    "amax": "ReduceMax",
    "amin": "ReduceMin",
    "arange": "Range",
    "argmax": "ArgMax",
    "argmin": "ArgMin",
    "avg_pool1d": "AveragePool",
    "avg_pool2d": "AveragePool",
    "avg_pool3d": "AveragePool",
    "baddbmm": "MatMul",
    "batch_norm": "BatchNormalization",
    "bmm": "MatMul",
    "cat": "Concat",
    "clamp": "Clip",
    "clamp_max": "Min",
    "clamp_min": "Max",
    "constant_pad_nd": "Pad",
    "conv1d": "Conv",
    "conv2d": "Conv",
    "conv3d": "Conv",
    "conv_transpose1d": "ConvTranspose",
    "conv_transpose2d": "ConvTranspose",
    "conv_transpose3d": "ConvTranspose",
    "convolution": "Conv",
    "cos": "Cos",
    "cumsum": "CumSum",
    "div": "Div",
    "einsum": "Einsum",
    "elu": "Elu",
    "embedding": "Gather",
    "eq": "Equal",
    "erf": "Erf",
    "exp": "Exp",
    "expand": "Expand",
    "flatten": "Flatten",
    "floor": "Floor",
    "gather": "GatherElements",
    "ge": "GreaterOrEqual",
    "gelu": "Gelu",
    "group_norm": "GroupNormalization",
    "gru": "GRU",
    "gt": "Greater",
    "hardsigmoid": "HardSigmoid",
    "hardswish": "HardSwish",
    "hardtanh": "Clip",
    "index": "GatherND",
    "index_select": "Gather",
    "instance_norm": "InstanceNormalization",
    "layer_norm": "LayerNormalization",
    "le": "LessOrEqual",
    "leaky_relu": "LeakyRelu",
    "linear": "Gemm",
    "log": "Log",
    "log_softmax": "LogSoftmax",
    "logical_and": "And",
    "logical_not": "Not",
    "logical_or": "Or",
    "lstm": "LSTM",
    "lt": "Less",
    "masked_fill": "Where",
    "matmul": "MatMul",
    "max": "ReduceMax",
    "max_pool1d": "MaxPool",
    "max_pool2d": "MaxPool",
    "max_pool2d_with_indices": "MaxPool",
    "max_pool3d": "MaxPool",
    "maximum": "Max",
    "mean": "ReduceMean",
    "min": "ReduceMin",
    "minimum": "Min",
    "mish": "Mish",
    "mm": "MatMul",
    "mul": "Mul",
    "_native_batch_norm_legit_no_training": "BatchNormalization",
    "native_batch_norm": "BatchNormalization",
    "native_group_norm": "GroupNormalization",
    "native_layer_norm": "LayerNormalization",
    "ne": "Equal",
    "neg": "Neg",
    "pad": "Pad",
    "permute": "Transpose",
    "pixel_shuffle": "DepthToSpace",
    "pixel_unshuffle": "SpaceToDepth",
    "pow": "Pow",
    "prelu": "PRelu",
    "prod": "ReduceProd",
    "reciprocal": "Reciprocal",
    "relu": "Relu",
    "relu6": "Clip",
    "repeat": "Tile",
    "reshape": "Reshape",
    "rms_norm": "RMSNormalization",
    "rnn_tanh": "RNN",
    "roll": "Concat",
    "round": "Round",
    "rsqrt": "Sqrt",
    "rsub": "Sub",
    "scaled_dot_product_attention": "Attention",
    "scatter": "ScatterElements",
    "select": "Gather",
    "selu": "Selu",
    "sigmoid": "Sigmoid",
    "sign": "Sign",
    "silu": "Swish",
    "sin": "Sin",
    "slice": "Slice",
    "softmax": "Softmax",
    "softplus": "Softplus",
    "split": "Split",
    "split_with_sizes": "Split",
    "chunk": "Split",
    "unbind": "Split",
    "sqrt": "Sqrt",
    "square": "Mul",
    "squeeze": "Squeeze",
    "stack": "Concat",
    "std": "ReduceSumSquare",
    "sub": "Sub",
    "sum": "ReduceSum",
    "t": "Transpose",
    "tanh": "Tanh",
    "to": "Cast",
    "topk": "TopK",
    "transpose": "Transpose",
    "tril": "Trilu",
    "triu": "Trilu",
    "type_as": "Cast",
    "unflatten": "Reshape",
    "unsqueeze": "Unsqueeze",
    "upsample_bilinear2d": "Resize",
    "upsample_nearest2d": "Resize",
    "var": "ReduceSumSquare",
    "view": "Reshape",
    "where": "Where",
}
"""Names of ATen without their overload -> ONNX's; where ONNX needs several for one, the one of them
that takes longest."""
_VIEWS = frozenset(
    {"alias", "clone", "contiguous", "detach", "dropout", "feature_dropout", "lift_fresh_copy"}
)
"""They compute nothing when a network predicts."""


def graph_from_torch(program: "torch.export.ExportedProgram", name: str = "") -> NetworkGraph:
    """Read the operators of an exported program; its weights may be on torch's ``meta`` device.

    Parameters
    ----------
    program : torch.export.ExportedProgram
        With fixed shapes, in torch's own operators or decomposed.
    name : str
        Of the network, for people.

    Returns
    -------
    NetworkGraph
        What is no operator of ATen, and what ONNX has no name for, is called as torch does it
        (``aten.name``). Dropout and copies, which compute nothing, are left out.

    Raises
    ------
    InputError
        When it is no exported program, or a shape depends on data or is symbolic.

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Conv2d(3, 8, 3, stride=2)
    >>> graph = graph_from_torch(torch.export.export(layer, (torch.ones(1, 3, 9, 9),)))
    >>> [operator.opcode for operator in graph.operators], graph.operators[1].outputs[0].shape
    (['Input', 'Conv'], (1, 8, 4, 4))
    """
    import torch

    if not isinstance(program, torch.export.ExportedProgram):
        raise InputError(
            f"program must be a torch.export.ExportedProgram, got {type(program).__name__}: give "
            "what torch.export.export returns, or graph_from_onnx an ONNX file"
        )
    if any(_writes(node.target) for node in program.graph.nodes):
        program = program.run_decompositions({})  # what is written in place becomes a value
    return _Reader(program).graph(name)


class _Reader:
    """Reads one program.

    Parameters
    ----------
    program : torch.export.ExportedProgram
        Whose nodes are read in their order.
    """

    def __init__(self, program: Any) -> None:
        self._program = program
        self._operators: list[NetworkOperator] = []
        self._computed: dict[Any, tuple[tuple[int, int], ...]] = {}
        self._weights: dict[Any, tuple[TensorType, ...]] = {}

    def graph(self, name: str) -> NetworkGraph:
        """All operators, in order."""
        given = set(self._program.graph_signature.user_inputs)
        for node in self._program.graph.nodes:
            if node.op == "placeholder":
                self._read_placeholder(node, node.name in given)
            elif node.op == "call_function":
                self._read(node)
        return NetworkGraph(tuple(self._operators), name)

    def _read_placeholder(self, node: Any, is_input: bool) -> None:
        types = _types(node)
        if not types:  # a number, or nothing
            return
        if is_input:
            self._add(node, NetworkOperator(INPUT, (), types, name=node.name))
        else:
            self._weights[node] = types

    def _read(self, node: Any) -> None:
        name = _operator_name(node.target)
        if name == "getitem":
            source, number = node.args
            if source in self._computed:
                self._computed[node] = (self._computed[source][number],)
            elif source in self._weights:
                self._weights[node] = (self._weights[source][number],)
            return
        read = _tensors_of(node)
        if name in _VIEWS:
            if read[0] in self._weights:
                self._weights[node] = self._weights[read[0]]
            elif read[0] in self._computed:
                self._computed[node] = self._computed[read[0]]
            return
        types = _types(node)
        if not types:  # an assertion, or a number
            return
        if not any(source in self._computed for source in read) and not _draws(node.target):
            self._weights[node] = types  # of weights alone, as an export would fold it
            return
        arguments = _arguments(node)
        if name in ("max", "min") and len(read) == 2:  # of two tensors, element by element
            name += "imum"
        if name in ("addmm", "baddbmm"):  # what is added comes first, in ONNX last
            read = [*read[1:], read[0]]
        if name == "convolution" and arguments.get("transposed"):
            name = "conv_transpose2d"
        inputs: list[tuple[int, int]] = []
        weights: list[TensorType] = []
        places: list[int] = []
        for source in read:
            if source in self._weights:
                places.append(len(inputs) + len(weights))
                weights.append(self._weights[source][0])
            else:
                inputs += self._computed.get(source, ())
        self._add(
            node,
            NetworkOperator(
                _NAMES.get(name, str(getattr(node.target, "overloadpacket", name))),
                tuple(inputs),
                types,
                tuple(weights),
                tuple(places),
                _ATTRIBUTES.get(name, _no_attributes)(arguments, types[0]),
                node.name,
            ),
        )

    def _add(self, node: Any, operator: NetworkOperator) -> None:
        self._operators.append(operator)
        place = len(self._operators) - 1
        self._computed[node] = tuple((place, output) for output in range(len(operator.outputs)))


def _operator_name(target: Any) -> str:
    """That of ATen without its overload and the mark of writing in place; else its own."""
    if not hasattr(target, "overloadpacket"):
        return str(getattr(target, "__name__", target))
    full = str(target.overloadpacket)
    name = full.removeprefix("aten.")
    return name.removesuffix("_") if name != full and not name.startswith("__") else name


def _writes(target: Any) -> bool:
    """Whether an operator writes into one of its arguments."""
    schema = getattr(target, "_schema", None)
    return bool(schema is not None and schema.is_mutable)


def _draws(target: Any) -> bool:
    """Whether an operator gives something else each time."""
    import torch

    return torch.Tag.nondeterministic_seeded in getattr(target, "tags", ())


def _tensors_of(node: Any) -> list[Any]:
    """The nodes that it reads, in the order of its arguments; one that occurs twice, twice."""
    import torch
    from torch.utils import _pytree as pytree

    leaves = pytree.tree_leaves((node.args, node.kwargs))
    return [each for each in leaves if isinstance(each, torch.fx.Node)]


def _types(node: Any) -> tuple[TensorType, ...]:
    """Types of what a node gives; none where that is no tensor."""
    import torch

    value = node.meta.get("val")
    if not isinstance(value, list | tuple):
        value = [value]
    if not any(isinstance(each, torch.Tensor) for each in value):
        return ()
    found = []
    for each in value:
        if not isinstance(each, torch.Tensor):  # a number beside tensors keeps its place
            found.append(TensorType((), type(each).__name__))
            continue
        if not all(isinstance(extent, int) for extent in each.shape):
            raise InputError(
                f"shapes of the program must be fixed, got {list(map(str, each.shape))} for "
                f"{node.name}: export it without dynamic_shapes, and without operators whose "
                "output shape depends on data"
            )
        dtype = str(each.dtype).removeprefix("torch.")
        found.append(TensorType(tuple(map(int, each.shape)), dtype))
    return tuple(found)


def _arguments(node: Any) -> dict[str, Any]:
    """Name of each argument of an operator -> its value, defaults included."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return dict(node.kwargs)
    found = {}
    for number, argument in enumerate(schema.arguments):
        default = argument.default_value if argument.has_default_value() else None
        given = node.args[number] if number < len(node.args) else default
        found[argument.name] = node.kwargs.get(argument.name, given)
    return found


def _no_attributes(arguments: Mapping[str, Any], output: TensorType) -> Attributes:
    del arguments, output
    return {}


def _numbers(value: Any, count: int) -> tuple[int, ...]:
    """A list of whole numbers, one of them for all windowed dimensions."""
    if isinstance(value, int):
        return (value,) * count
    found = tuple(int(each) for each in value or ())
    return found * count if len(found) == 1 else found


def _convolution(arguments: Mapping[str, Any], output: TensorType) -> Attributes:
    del output
    window = tuple(arguments["weight"].meta["val"].shape[2:])
    count = len(window)
    found: Attributes = {
        "kernel_shape": tuple(map(int, window)),
        "strides": _numbers(arguments.get("stride", 1), count),
        "dilations": _numbers(arguments.get("dilation", 1), count),
        "group": int(arguments.get("groups", 1)),
    }
    padding = arguments.get("padding", 0)
    if isinstance(padding, str):
        found["auto_pad"] = "SAME_UPPER" if padding == "same" else "VALID"
    else:
        found["pads"] = _numbers(padding, count) * 2
    return found


def _pool(arguments: Mapping[str, Any], output: TensorType) -> Attributes:
    given = arguments["kernel_size"]
    several = not isinstance(given, int) and len(given) > 1
    count = len(given) if several else max(1, len(output.shape) - 2)
    window = _numbers(given, count)
    return {
        "kernel_shape": window,
        "strides": _numbers(arguments.get("stride"), count) or window,
        "pads": _numbers(arguments.get("padding", 0), count) * 2,
    }


def _adaptive_pool(arguments: Mapping[str, Any], output: TensorType) -> Attributes:
    read = tuple(arguments["self"].meta["val"].shape)
    sizes = list(zip(read[-2:], output.shape[-2:], strict=True))
    strides = tuple(int(before // after) for before, after in sizes)
    window = tuple(
        int(before - (after - 1) * stride)
        for (before, after), stride in zip(sizes, strides, strict=True)
    )
    return {"kernel_shape": window, "strides": strides}


def _axis(arguments: Mapping[str, Any], output: TensorType) -> Attributes:
    del output
    found = arguments.get("dim")
    return {"axis": found} if isinstance(found, int) else {}


def _axes(arguments: Mapping[str, Any], output: TensorType) -> Attributes:
    del output
    found = arguments.get("dim")
    if isinstance(found, int):
        return {"axes": (found,)}
    return {"axes": tuple(map(int, found))} if found else {}


def _permutation(arguments: Mapping[str, Any], output: TensorType) -> Attributes:
    rank = len(output.shape)
    if rank < 2:
        return {}
    if "dims" in arguments:
        return {"perm": tuple(int(each) % rank for each in arguments["dims"])}
    order = list(range(rank))
    first, second = (int(arguments.get(name, place)) for name, place in (("dim0", 0), ("dim1", 1)))
    order[first], order[second] = order[second], order[first]
    return {"perm": tuple(order)}


def _equation(arguments: Mapping[str, Any], output: TensorType) -> Attributes:
    del output
    return {"equation": str(arguments["equation"])}


def _groups(arguments: Mapping[str, Any], output: TensorType) -> Attributes:
    del output
    return {"num_groups": int(arguments.get("num_groups", arguments.get("group", 1)))}


_ATTRIBUTES: dict[str, Callable[[Mapping[str, Any], TensorType], Attributes]] = {
    **dict.fromkeys([name for name, onnx in _NAMES.items() if "Conv" in onnx], _convolution),
    **dict.fromkeys([name for name in _NAMES if name[:8] in ("max_pool", "avg_pool")], _pool),
    **dict.fromkeys(("softmax", "_softmax", "log_softmax", "_log_softmax"), _axis),
    **dict.fromkeys(("cat", "split", "split_with_sizes", "chunk", "unbind", "stack"), _axis),
    **dict.fromkeys(("argmax", "argmin", "cumsum", "topk", "gather", "select"), _axis),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "prod", "var", "std"), _axes),
    **dict.fromkeys(("squeeze", "unsqueeze"), _axes),
    **dict.fromkeys(("permute", "transpose", "t"), _permutation),
    **dict.fromkeys(("group_norm", "native_group_norm"), _groups),
    "adaptive_avg_pool2d": _adaptive_pool,
    "einsum": _equation,
}
"""Of what an estimate of time may hang on; others have none."""
