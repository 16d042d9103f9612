"""ONNX operators that TVM's importer takes for something else -> ones that it takes right.

Each rewrite says what the importer of TVM 0.27 does. What cannot be rewritten is refused by the
attribute at fault.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from costmodels.errors import InputError
from tvm_integration.frontends.onnx_nodes import (
    BITS,
    BOOL,
    DOUBLE,
    FLOATS,
    INT32,
    INT64,
    NARROW,
    UINT64,
    WITH_SIGN,
    NodeFacts,
    NodeWriter,
    RefusedError,
    attributes_of,
    describe_node,
    numpy_type,
    text_of,
)
from tvm_integration.frontends.onnx_resize import rewrite_resize

if TYPE_CHECKING:
    import onnx

__all__ = ["decides_by_data", "rewrite_nodes"]

Rewrite: TypeAlias = Callable[["onnx.NodeProto", NodeFacts], "list[onnx.NodeProto] | None"]


def rewrite_nodes(model: "onnx.ModelProto", path: str) -> "onnx.ModelProto":
    """Rewrite what TVM's importer would take for something else.

    Parameters
    ----------
    model : onnx.ModelProto
        Constants folded, shapes inferred. Changed in place.
    path : str
        For messages.

    Returns
    -------
    onnx.ModelProto
        The same.

    Raises
    ------
    InputError
        For an attribute that cannot be rewritten.
    """
    facts = NodeFacts(model)
    for entry in model.graph.output:
        if facts.type(entry.name) in NARROW:
            raise InputError(
                f"output {entry.name} of {path} must be of another type, got {_TOO_NARROW}"
            )
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        rewrite = _REWRITES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        try:
            if node.domain in ("", "ai.onnx"):
                _check_node(node, facts)
            new = None if rewrite is None else rewrite(node, facts)
        except RefusedError as reason:
            raise InputError(
                f"operator {describe_node(node)} of {path} (opset {facts.opset}) must be one that "
                f"TVM computes as ONNX says, got {reason}"
            ) from None
        nodes += [node] if new is None else new
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def decides_by_data(node: "onnx.NodeProto", facts: NodeFacts) -> bool:
    """Whether the shape of an operator's output hangs on numbers that are computed."""
    places = _SHAPE_INPUTS.get(node.op_type, ())
    given = [node.input[place] for place in places if place < len(node.input)]
    if any(name and facts.constant(name) is None for name in given):
        return True
    return any(facts.shape(name) is None for name in node.output if name)


_SHAPE_INPUTS: Mapping[str, Sequence[int]] = {
    "CenterCropPad": (1,),
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
}
"""Operator -> which inputs decide the shape of its output."""


def _check_node(node: "onnx.NodeProto", facts: NodeFacts) -> None:
    if node.op_type in _REFUSED:
        raise RefusedError(_REFUSED[node.op_type])
    name, value, hint = _REFUSED_MODES.get(node.op_type, ("", "", ""))
    if name and text_of(attributes_of(node).get(name, b"")) == value:
        raise RefusedError(f"{name}={value}: {hint}")
    for name in (*node.input, *node.output):
        if facts.type(name) in NARROW:
            raise RefusedError(_TOO_NARROW)
    attributes = attributes_of(node)
    if node.op_type == "TopK" and facts.type(node.input[0]) == UINT64:
        raise RefusedError("whole numbers of 64 bits without sign: cast them to INT64")
    if node.op_type in ("Split", "SplitToSequence") and len(node.input) > 1:
        sizes = facts.constant(node.input[1])
        if sizes is not None and sizes.ndim and node.op_type == "Split":
            sizes = sizes[1:-1]  # TVM takes an empty part at an end, as rotary embeddings have it
        if sizes is not None and sizes.ndim and 0 in sizes:
            raise RefusedError("an empty part: leave it out")
    if node.op_type == "Split" and _has_empty_part(attributes, facts.shape(node.input[0])):
        raise RefusedError("an empty part: leave it out")
    if attributes.get("to") in NARROW or attributes.get("output_dtype") in NARROW:
        raise RefusedError(_TOO_NARROW)
    if node.op_type == "BatchNormalization" and attributes.get("training_mode"):
        raise RefusedError("training_mode=1: export the network in eval mode")


def _has_empty_part(attributes: Mapping[str, Any], shape: Sequence[int] | None) -> bool:
    """Whether so many parts, all but the last as long as each other, leave nothing for that."""
    parts = attributes.get("num_outputs")
    if parts is None or shape is None:
        return False
    length = shape[attributes.get("axis", 0)]
    return bool(-(-length // parts) * (parts - 1) >= length)


def _tile(node: "onnx.NodeProto", facts: NodeFacts) -> "list[onnx.NodeProto] | None":
    """LLVM builds some tiles over several axes wrong for AVX-512: one Tile an axis is right."""
    repeats = facts.constant(node.input[1])
    if repeats is None or np.count_nonzero(repeats != 1) < 2:
        return None
    writer = NodeWriter(node, facts)
    name, axes = node.input[0], np.flatnonzero(repeats != 1)
    for axis in axes:
        one = np.ones(len(repeats), np.int64)
        one[axis] = repeats[axis]
        last = node.output[0] if axis == axes[-1] else None
        name = writer.emit("Tile", name, writer.constant(one), output=last)
    return writer.nodes


def _is_inf(node: "onnx.NodeProto", facts: NodeFacts) -> "list[onnx.NodeProto] | None":
    """The importer ignores both attributes."""
    attributes = attributes_of(node)
    positive = attributes.get("detect_positive", 1)
    negative = attributes.get("detect_negative", 1)
    if positive and negative:
        return None
    writer = NodeWriter(node, facts)
    (x,) = node.input
    infinite = writer.emit("IsInf", x)
    if positive or negative:
        zero = writer.constant(np.zeros((), FLOATS.get(facts.type(x), np.float32)))
        kept = writer.emit("Greater" if positive else "Less", x, zero)
    else:
        kept = writer.emit("IsNaN", x)  # never at the same time
    writer.emit("And", infinite, kept, output=node.output[0])
    return writer.nodes


def _space_to_depth(node: "onnx.NodeProto", facts: NodeFacts) -> "list[onnx.NodeProto] | None":
    """The importer knows one order of the new channels only."""
    attributes = attributes_of(node)
    shape = facts.shape(node.input[0])
    if text_of(attributes.get("mode", b"DCR")) != "CRD":
        return None
    if shape is None:
        raise RefusedError("mode=CRD and a shape that is not fixed")
    size = attributes["blocksize"]
    n, c, h, w = shape
    writer = NodeWriter(node, facts)
    parts = writer.constant(np.array([n, c, h // size, size, w // size, size], np.int64))
    split = writer.emit("Reshape", node.input[0], parts)
    moved = writer.emit("Transpose", split, perm=[0, 1, 3, 5, 2, 4])
    final = writer.constant(np.array([n, c * size * size, h // size, w // size], np.int64))
    writer.emit("Reshape", moved, final, output=node.output[0])
    return writer.nodes


def _pow(node: "onnx.NodeProto", facts: NodeFacts) -> "list[onnx.NodeProto] | None":
    """The importer takes the type of either for that of both; TVM raises floats only."""
    base, exponent = (facts.type(name) for name in node.input)
    if not base or not exponent or (base == exponent and base in FLOATS):
        return None
    writer = NodeWriter(node, facts)
    if base in FLOATS:
        raised = writer.cast(node.input[1], base)
        writer.emit("Pow", node.input[0], raised, output=node.output[0])
        return writer.nodes
    common = exponent if exponent in FLOATS else DOUBLE  # doubles hold what is not too large
    parts = [writer.cast(name, common) for name in node.input]
    writer.cast(writer.emit("Pow", *parts), base, output=node.output[0])
    return writer.nodes


def _dropout(node: "onnx.NodeProto", facts: NodeFacts) -> "list[onnx.NodeProto] | None":
    """The importer gives a mask of the wrong type."""
    training = facts.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    ratio = facts.constant(node.input[1]) if len(node.input) > 1 and node.input[1] else None
    is_training = len(node.input) > 2 and node.input[2] and (training is None or bool(training))
    if is_training and (ratio is None or float(ratio) > 0):
        raise RefusedError("training_mode=True, which is random: export the network in eval mode")
    mask = len(node.output) > 1 and node.output[1] in facts.used
    writer = NodeWriter(node, facts)
    if node.output[0]:
        writer.emit("Identity", node.input[0], output=node.output[0])
    if mask:
        shape = facts.shape(node.input[0])
        if shape is None:
            raise RefusedError("a mask that is used, of a shape that is not fixed: drop it")
        writer.emit("Identity", writer.constant(np.ones(shape, bool)), output=node.output[1])
    return writer.nodes


def _bit_shift(node: "onnx.NodeProto", facts: NodeFacts) -> "list[onnx.NodeProto] | None":
    """A shift by the width or more is 0 in ONNX, and anything in LLVM."""
    bits = BITS.get(facts.type(node.input[0]), 64)
    shift = facts.constant(node.input[1])
    if shift is not None and np.all((shift >= 0) & (shift < bits)):
        return None
    if facts.type(node.input[0]) in WITH_SIGN:
        raise RefusedError("a shift of signed numbers that is computed or too far: use unsigned")
    writer = NodeWriter(node, facts)
    dtype = numpy_type(facts.type(node.input[0]))
    limit = writer.constant(np.array(bits - 1, dtype))
    far = writer.emit("Greater", node.input[1], limit)
    near = writer.emit("Where", far, limit, node.input[1])
    direction = attributes_of(node)["direction"]
    shifted = writer.emit("BitShift", node.input[0], near, direction=direction)
    zero = writer.constant(np.array(0, dtype))
    writer.emit("Where", far, zero, shifted, output=node.output[0])
    return writer.nodes


def _one_hot(node: "onnx.NodeProto", facts: NodeFacts) -> "list[onnx.NodeProto] | None":
    """The importer gives the values another type than they have."""
    depth, values = (facts.constant(name) for name in node.input[1:])
    shape = facts.shape(node.input[0])
    if depth is None or values is None or shape is None:
        return None
    count = int(depth.reshape(-1)[0])
    axis = attributes_of(node).get("axis", -1) % (len(shape) + 1)
    writer = NodeWriter(node, facts)
    index = writer.cast(node.input[0], INT64)
    from_end = writer.emit("Add", index, writer.constant(np.array(count)))
    negative = writer.emit("Less", index, writer.constant(np.array(0)))
    wrapped = writer.emit("Where", negative, from_end, index)
    column = writer.emit("Unsqueeze", wrapped, writer.constant(np.array([axis])))
    places = np.arange(count).reshape([-1, *[1] * (len(shape) - axis)])
    is_place = writer.emit("Equal", column, writer.constant(places))
    off, on = (writer.constant(each) for each in values)
    writer.emit("Where", is_place, on, off, output=node.output[0])
    return writer.nodes


def _mod(node: "onnx.NodeProto", facts: NodeFacts) -> "list[onnx.NodeProto] | None":
    """The importer's remainder of a division by infinity is no number."""
    element = facts.type(node.input[0])
    divisor = facts.constant(node.input[1])
    if element not in FLOATS or (divisor is not None and np.all(np.isfinite(divisor))):
        return None
    writer = NodeWriter(node, facts)
    endless = writer.emit("IsInf", node.input[1])
    one = writer.constant(np.ones((), FLOATS[element]))
    finite = writer.emit("Where", endless, one, node.input[1])
    rest = writer.emit("Mod", node.input[0], finite, **attributes_of(node))
    far = node.input[0]
    if not attributes_of(node).get("fmod"):  # the remainder has the sign of the divisor
        zero = writer.constant(np.zeros((), FLOATS[element]))
        signs = [writer.emit("Less", name, zero) for name in node.input]
        positive = [writer.emit("Greater", name, zero) for name in node.input]
        opposite = writer.emit(
            "Or",
            writer.emit("And", signs[0], positive[1]),
            writer.emit("And", positive[0], signs[1]),
        )
        far = writer.emit("Where", opposite, node.input[1], far)
    writer.emit("Where", endless, far, rest, output=node.output[0])
    return writer.nodes


def _conv_transpose(node: "onnx.NodeProto", facts: NodeFacts) -> "list[onnx.NodeProto] | None":
    """The importer ignores output_shape, which says what the padding must be."""
    attributes = attributes_of(node)
    wanted = attributes.pop("output_shape", None)
    if wanted is None:
        return None
    x, weight = facts.shape(node.input[0]), facts.shape(node.input[1])
    if x is None or weight is None:
        raise RefusedError("output_shape and shapes that are not fixed")
    axes = len(x) - 2
    kernel = attributes.get("kernel_shape", weight[2:])
    strides = attributes.get("strides", [1] * axes)
    dilations = attributes.get("dilations", [1] * axes)
    more = list(attributes.get("output_padding", [0] * axes))
    auto = text_of(attributes.pop("auto_pad", b"NOTSET"))
    begin, end = [], []
    for axis in range(axes):
        full = strides[axis] * (x[2 + axis] - 1) + (kernel[axis] - 1) * dilations[axis] + 1
        total = full + more[axis] - wanted[-axes:][axis]
        if total < 0:
            more[axis] -= total
            total = 0
        half = total // 2
        larger_end = auto == "SAME_UPPER"
        begin.append(half if larger_end else total - half)
        end.append(total - half if larger_end else half)
    attributes |= {"pads": [*begin, *end], "output_padding": more}
    writer = NodeWriter(node, facts)
    writer.emit("ConvTranspose", *node.input, output=node.output[0], **attributes)
    return writer.nodes


def _reduce_bool(node: "onnx.NodeProto", facts: NodeFacts) -> "list[onnx.NodeProto] | None":
    """TVM has no least and greatest truth value to begin with."""
    if facts.type(node.input[0]) != BOOL:
        return None
    writer = NodeWriter(node, facts)
    number = writer.cast(node.input[0], INT32)
    found = writer.emit(node.op_type, number, *node.input[1:], **attributes_of(node))
    writer.cast(found, BOOL, output=node.output[0])
    return writer.nodes


def _equal(node: "onnx.NodeProto", facts: NodeFacts) -> "list[onnx.NodeProto] | None":
    """TVM's largest of nothing but -inf is the least finite number, so no row is all masked."""
    for name, other in (node.input, node.input[::-1]):
        made, value = facts.maker(name), facts.constant(other)
        if made is None or made.op_type != "ReduceMax" or value is None:
            continue
        if value.size != 1 or not np.isneginf(float(value.reshape(-1)[0])):
            continue
        writer = NodeWriter(node, facts)
        masked = writer.cast(writer.emit("Equal", made.input[0], other), INT32)
        least = writer.emit("ReduceMin", masked, *made.input[1:], **attributes_of(made))
        writer.cast(least, BOOL, output=node.output[0])
        return writer.nodes
    return None


def _sequence_insert(node: "onnx.NodeProto", facts: NodeFacts) -> "list[onnx.NodeProto] | None":
    """The importer counts a negative position from the wrong end."""
    place = facts.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if place is not None and int(place) < 0:
        raise RefusedError("a negative position: give one from the front")
    return None


_REWRITES: Mapping[str, Rewrite] = {
    "BitShift": _bit_shift,
    "ConvTranspose": _conv_transpose,
    "Dropout": _dropout,
    "Equal": _equal,
    "IsInf": _is_inf,
    "Mod": _mod,
    "OneHot": _one_hot,
    "Pow": _pow,
    "ReduceMax": _reduce_bool,
    "ReduceMin": _reduce_bool,
    "Resize": rewrite_resize,
    "SequenceInsert": _sequence_insert,
    "SpaceToDepth": _space_to_depth,
    "Tile": _tile,
}

_TOO_NARROW = (
    "floats of 8 bits or whole numbers of 4, which TVM rounds or packs another way: use float16 or "
    "int8"
)
_QUANTIZED = (
    "an operator on quantized numbers: export the network as QDQ (QuantizeLinear and "
    "DequantizeLinear around operators on floats)"
)
_DATA_DEPENDENT = (
    "an output whose shape depends on data: cut the network before it with onnx.utils.extract_model"
)
_WHOLE = (
    "a form of it that onnx does not write out in simpler operators: export it for opset 22 or "
    "older, or write it out"
)
_REFUSED: Mapping[str, str] = {
    "Attention": _WHOLE,
    "Compress": _DATA_DEPENDENT,
    "ConvInteger": _QUANTIZED,
    "NonMaxSuppression": _DATA_DEPENDENT,
    "NonZero": _DATA_DEPENDENT,
    "QLinearConv": _QUANTIZED,
    "QLinearMatMul": _QUANTIZED,
    "RotaryEmbedding": _WHOLE,
    "Unique": _DATA_DEPENDENT,
}
"""Operator -> why it is refused whatever its attributes."""
_REFUSED_MODES: Mapping[str, tuple[str, str, str]] = {
    # The importer averages whatever the mode.
    "RoiAlign": ("mode", "max", "use mode=avg, or cut the network before it"),
}
"""Operator -> attribute, the value that is refused, and the way out."""
