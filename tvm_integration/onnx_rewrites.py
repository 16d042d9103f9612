"""ONNX operators that TVM's importer takes for something else -> ones that it takes right.

Each rewrite says what the importer of TVM 0.27 does. What cannot be rewritten is refused by the
attribute at fault.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from costmodels.errors import InputError

if TYPE_CHECKING:
    import onnx

__all__ = ["NodeFacts", "decides_by_data", "describe_node", "rewrite_nodes"]

_MOST_TAPS = 4
"""Of an interpolation: with more, a matrix product replaces sums of gathered rows."""
_NARROW = frozenset(range(17, 27))
"""Element types of ONNX: floats of 8 bits and less, whole numbers of 4 bits and less."""
_FLOATS = {1: np.float32, 10: np.float16, 11: np.float64}
_SIGNED = {2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 12: 32, 13: 64}
"""Whole element types -> bits."""
_WITH_SIGN = frozenset({3, 5, 6, 7})
_BOOL, _INT32, _FLOAT, _DOUBLE, _UINT64 = 9, 6, 1, 11, 13


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


class _Writer:
    """Collects the nodes that replace one."""

    def __init__(self, node: "onnx.NodeProto", facts: NodeFacts) -> None:
        self.node = node
        self.facts = facts
        self.nodes: list[onnx.NodeProto] = []

    def constant(self, value: Any) -> str:
        from onnx import helper, numpy_helper

        name = self.facts.fresh(f"{self.node.output[0]}_constant")
        tensor = numpy_helper.from_array(np.asarray(value), name)
        self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    def emit(
        self, operator: str, *inputs: str, output: str | None = None, **attributes: Any
    ) -> str:
        from onnx import helper

        name = output or self.facts.fresh(f"{self.node.output[0]}_{operator.lower()}")
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def cast(self, name: str, element: int, output: str | None = None) -> str:
        return self.emit("Cast", name, output=output, to=element)


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
        if facts.type(entry.name) in _NARROW:
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
        except _RefusedError as reason:
            raise InputError(
                f"operator {describe_node(node)} of {path} (opset {facts.opset}) must be one that "
                f"TVM computes as ONNX says, got {reason}"
            ) from None
        nodes += [node] if new is None else new
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def describe_node(node: "onnx.NodeProto") -> str:
    """An operator and where it is: its name, or else its first output."""
    where = node.name or next((name for name in node.output if name), "?")
    domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}."
    return f"{domain}{node.op_type} ({where})"


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


class _RefusedError(Exception):
    """An attribute or type that cannot be rewritten; the text says which, and the way out."""


def _attributes(node: "onnx.NodeProto") -> dict[str, Any]:
    from onnx import helper

    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _check_node(node: "onnx.NodeProto", facts: NodeFacts) -> None:
    if node.op_type in _REFUSED:
        raise _RefusedError(_REFUSED[node.op_type])
    name, value, way_out = _REFUSED_MODES.get(node.op_type, ("", "", ""))
    if name and _text(_attributes(node).get(name, b"")) == value:
        raise _RefusedError(f"{name}={value}: {way_out}")
    for name in (*node.input, *node.output):
        if facts.type(name) in _NARROW:
            raise _RefusedError(_TOO_NARROW)
    attributes = _attributes(node)
    if node.op_type == "TopK" and facts.type(node.input[0]) == _UINT64:
        raise _RefusedError("whole numbers of 64 bits without sign: cast them to INT64")
    if node.op_type == "SplitToSequence" and len(node.input) > 1:
        sizes = facts.constant(node.input[1])
        if sizes is not None and sizes.ndim and 0 in sizes:
            raise _RefusedError("an empty part: leave it out")
    if attributes.get("to") in _NARROW or attributes.get("output_dtype") in _NARROW:
        raise _RefusedError(_TOO_NARROW)
    if node.op_type == "BatchNormalization" and attributes.get("training_mode"):
        raise _RefusedError("training_mode=1: export the network in eval mode")


def _tile(node: "onnx.NodeProto", facts: NodeFacts) -> "list[onnx.NodeProto] | None":
    """LLVM builds some tiles over several axes wrong for AVX-512: one Tile an axis is right."""
    repeats = facts.constant(node.input[1])
    if repeats is None or np.count_nonzero(repeats != 1) < 2:
        return None
    writer = _Writer(node, facts)
    name, axes = node.input[0], np.flatnonzero(repeats != 1)
    for axis in axes:
        one = np.ones(len(repeats), np.int64)
        one[axis] = repeats[axis]
        last = node.output[0] if axis == axes[-1] else None
        name = writer.emit("Tile", name, writer.constant(one), output=last)
    return writer.nodes


def _is_inf(node: "onnx.NodeProto", facts: NodeFacts) -> "list[onnx.NodeProto] | None":
    """The importer ignores both attributes."""
    attributes = _attributes(node)
    positive = attributes.get("detect_positive", 1)
    negative = attributes.get("detect_negative", 1)
    if positive and negative:
        return None
    writer = _Writer(node, facts)
    (x,) = node.input
    infinite = writer.emit("IsInf", x)
    if positive or negative:
        zero = writer.constant(np.zeros((), _FLOATS.get(facts.type(x), np.float32)))
        kept = writer.emit("Greater" if positive else "Less", x, zero)
    else:
        kept = writer.emit("IsNaN", x)  # never at the same time
    writer.emit("And", infinite, kept, output=node.output[0])
    return writer.nodes


def _space_to_depth(node: "onnx.NodeProto", facts: NodeFacts) -> "list[onnx.NodeProto] | None":
    """The importer knows one order of the new channels only."""
    attributes = _attributes(node)
    shape = facts.shape(node.input[0])
    if _text(attributes.get("mode", b"DCR")) != "CRD":
        return None
    if shape is None:
        raise _RefusedError("mode=CRD and a shape that is not fixed")
    size = attributes["blocksize"]
    n, c, h, w = shape
    writer = _Writer(node, facts)
    parts = writer.constant(np.array([n, c, h // size, size, w // size, size], np.int64))
    split = writer.emit("Reshape", node.input[0], parts)
    moved = writer.emit("Transpose", split, perm=[0, 1, 3, 5, 2, 4])
    final = writer.constant(np.array([n, c * size * size, h // size, w // size], np.int64))
    writer.emit("Reshape", moved, final, output=node.output[0])
    return writer.nodes


def _pow(node: "onnx.NodeProto", facts: NodeFacts) -> "list[onnx.NodeProto] | None":
    """The importer takes the type of either for that of both; TVM raises floats only."""
    base, exponent = (facts.type(name) for name in node.input)
    if not base or not exponent or (base == exponent and base in _FLOATS):
        return None
    writer = _Writer(node, facts)
    if base in _FLOATS:
        raised = writer.cast(node.input[1], base)
        writer.emit("Pow", node.input[0], raised, output=node.output[0])
        return writer.nodes
    common = exponent if exponent in _FLOATS else _DOUBLE  # doubles hold what is not too large
    parts = [writer.cast(name, common) for name in node.input]
    writer.cast(writer.emit("Pow", *parts), base, output=node.output[0])
    return writer.nodes


def _dropout(node: "onnx.NodeProto", facts: NodeFacts) -> "list[onnx.NodeProto] | None":
    """The importer gives a mask of the wrong type."""
    training = facts.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    ratio = facts.constant(node.input[1]) if len(node.input) > 1 and node.input[1] else None
    is_training = len(node.input) > 2 and node.input[2] and (training is None or bool(training))
    if is_training and (ratio is None or float(ratio) > 0):
        raise _RefusedError("training_mode=True, which is random: export the network in eval mode")
    mask = len(node.output) > 1 and node.output[1] in facts.used
    writer = _Writer(node, facts)
    if node.output[0]:
        writer.emit("Identity", node.input[0], output=node.output[0])
    if mask:
        shape = facts.shape(node.input[0])
        if shape is None:
            raise _RefusedError("a mask that is used, of a shape that is not fixed: drop it")
        writer.emit("Identity", writer.constant(np.ones(shape, bool)), output=node.output[1])
    return writer.nodes


def _bit_shift(node: "onnx.NodeProto", facts: NodeFacts) -> "list[onnx.NodeProto] | None":
    """A shift by the width or more is 0 in ONNX, and anything in LLVM."""
    bits = _SIGNED.get(facts.type(node.input[0]), 64)
    shift = facts.constant(node.input[1])
    if shift is not None and np.all((shift >= 0) & (shift < bits)):
        return None
    if facts.type(node.input[0]) in _WITH_SIGN:
        raise _RefusedError("a shift of signed numbers that is computed or too far: use unsigned")
    writer = _Writer(node, facts)
    dtype = _numpy_type(facts.type(node.input[0]))
    limit = writer.constant(np.array(bits - 1, dtype))
    far = writer.emit("Greater", node.input[1], limit)
    near = writer.emit("Where", far, limit, node.input[1])
    direction = _attributes(node)["direction"]
    shifted = writer.emit("BitShift", node.input[0], near, direction=direction)
    zero = writer.constant(np.array(0, dtype))
    writer.emit("Where", far, zero, shifted, output=node.output[0])
    return writer.nodes


def _mod(node: "onnx.NodeProto", facts: NodeFacts) -> "list[onnx.NodeProto] | None":
    """The importer's remainder of a division by infinity is no number."""
    element = facts.type(node.input[0])
    divisor = facts.constant(node.input[1])
    if element not in _FLOATS or (divisor is not None and np.all(np.isfinite(divisor))):
        return None
    writer = _Writer(node, facts)
    endless = writer.emit("IsInf", node.input[1])
    one = writer.constant(np.ones((), _FLOATS[element]))
    finite = writer.emit("Where", endless, one, node.input[1])
    rest = writer.emit("Mod", node.input[0], finite, **_attributes(node))
    far = node.input[0]
    if not _attributes(node).get("fmod"):  # the remainder has the sign of the divisor
        zero = writer.constant(np.zeros((), _FLOATS[element]))
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
    attributes = _attributes(node)
    wanted = attributes.pop("output_shape", None)
    if wanted is None:
        return None
    x, weight = facts.shape(node.input[0]), facts.shape(node.input[1])
    if x is None or weight is None:
        raise _RefusedError("output_shape and shapes that are not fixed")
    axes = len(x) - 2
    kernel = attributes.get("kernel_shape", weight[2:])
    strides = attributes.get("strides", [1] * axes)
    dilations = attributes.get("dilations", [1] * axes)
    more = list(attributes.get("output_padding", [0] * axes))
    auto = _text(attributes.pop("auto_pad", b"NOTSET"))
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
    writer = _Writer(node, facts)
    writer.emit("ConvTranspose", *node.input, output=node.output[0], **attributes)
    return writer.nodes


def _resize(node: "onnx.NodeProto", facts: NodeFacts) -> "list[onnx.NodeProto] | None":
    """The importer takes scales from rounded sizes, and ignores most attributes.

    Resizing is linear and works axis by axis: what onnx's own reference makes of unit vectors says
    which input rows make an output row, and with what weights.
    """
    shape, element = facts.shape(node.input[0]), facts.type(node.input[0])
    out = facts.shape(node.output[0])
    attributes = _attributes(node)
    given = [facts.constant(name) for name in node.input[2:] if name]
    if shape is None or out is None or any(value is None for value in given):
        raise _RefusedError("sizes or scales that are computed: give them as constants")
    if _is_plain_resize(node, facts, attributes, shape, out):
        return None
    if _text(attributes.get("coordinate_transformation_mode", b"")) == "tf_crop_and_resize":
        return None
    if _text(attributes.get("mode", b"nearest")) == "cubic" and element not in _FLOATS:
        raise _RefusedError("mode=cubic on whole numbers: cast them before")
    writer = _Writer(node, facts)
    name = node.input[0]
    is_nearest = _text(attributes.get("mode", b"nearest")) == "nearest"
    work = element if is_nearest or element in _FLOATS else _FLOAT
    if work != element:
        name = writer.cast(name, work)
    for axis, (before, after) in enumerate(zip(shape, out, strict=True)):
        weights = _axis_weights(node, facts, attributes, axis, shape)
        if weights is None or (before == after and np.array_equal(weights, np.eye(before))):
            continue
        name = _apply_along(writer, name, weights, axis, len(shape), _numpy_type(work))
    if work != element:
        name = writer.cast(name, element)
    writer.emit("Identity", name, output=node.output[0])
    return writer.nodes


def _is_plain_resize(
    node: "onnx.NodeProto",
    facts: NodeFacts,
    attributes: Mapping[str, Any],
    shape: Sequence[int],
    out: Sequence[int],
) -> bool:
    """Whether the importer takes it right: whole sizes by exact scales, and few attributes."""
    if attributes.get("antialias") or "axes" in attributes:
        return False
    if _text(attributes.get("keep_aspect_ratio_policy", b"stretch")) != "stretch":
        return False
    if attributes.get("exclude_outside") or tuple(shape[:2]) != tuple(out[:2]) or len(shape) < 3:
        return False
    mode = _text(attributes.get("mode", b"nearest"))
    place = _text(attributes.get("coordinate_transformation_mode", b"half_pixel"))
    if mode == "cubic" or place not in ("half_pixel", "asymmetric", "align_corners"):
        return False
    if mode == "nearest" and place != "asymmetric":
        return False
    scales = facts.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if scales is not None and scales.size:
        exact = [n * float(scale) for n, scale in zip(shape, scales, strict=True)]
        return all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(exact, out, strict=True))
    return True


def _axis_weights(
    node: "onnx.NodeProto",
    facts: NodeFacts,
    attributes: Mapping[str, Any],
    axis: int,
    shape: Sequence[int],
) -> "np.ndarray[Any, Any] | None":
    """[out, in] of one axis: what onnx's reference makes of the unit vectors; None if it stays."""
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    size = shape[axis]
    resized = list(attributes.get("axes", range(len(shape))))
    resized = [each % len(shape) for each in resized]
    if axis not in resized:
        return None
    place = resized.index(axis)
    inputs, weights = ["x", "", ""], []
    kept = {k: v for k, v in attributes.items() if k not in ("axes", "keep_aspect_ratio_policy")}
    out = facts.shape(node.output[0])
    assert out is not None
    for position, what in ((2, "scales"), (3, "sizes")):
        value = facts.constant(node.input[position]) if len(node.input) > position else None
        if value is None or not value.size:
            continue
        inputs += [""] * (position + 1 - len(inputs))
        inputs[position] = what
        if what == "scales":
            pair = np.array([value[place], 1.0], np.float32)
        elif _text(attributes.get("keep_aspect_ratio_policy", b"stretch")) == "stretch":
            pair = np.array([out[axis], size], np.int64)
        else:  # all axes have the scale of one
            ratios = [float(v) / shape[a] for v, a in zip(value, resized, strict=True)]
            policy = _text(attributes["keep_aspect_ratio_policy"])
            scale = min(ratios) if policy == "not_larger" else max(ratios)
            inputs = ["x", "", "scales"]
            what, pair = "scales", np.array([scale, 1.0], np.float32)
        weights.append(numpy_helper.from_array(pair, what))
        break
    one = helper.make_node("Resize", inputs, ["y"], **kept)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [size, size])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([one], "axis", [x], [y], weights)
    version = helper.make_opsetid("", max(facts.opset, 13))
    model = helper.make_model(graph, opset_imports=[version])
    (found,) = ReferenceEvaluator(model).run(None, {"x": np.eye(size, dtype=np.float32)})
    return np.asarray(found)


def _apply_along(
    writer: _Writer, name: str, weights: "np.ndarray[Any, Any]", axis: int, rank: int, dtype: Any
) -> str:
    """Combine rows along an axis."""
    taps = int(np.count_nonzero(weights, axis=1).max(initial=0))
    if taps <= 1:
        rows = writer.constant(np.abs(weights).argmax(axis=1).astype(np.int64))
        return writer.emit("Gather", name, rows, axis=axis)
    if taps <= _MOST_TAPS:
        order = np.argsort(-np.abs(weights), axis=1, kind="stable")[:, :taps]
        total = ""
        for tap in range(taps):
            rows = writer.constant(order[:, tap].astype(np.int64))
            share = np.take_along_axis(weights, order[:, tap : tap + 1], axis=1).astype(dtype)
            share = share.reshape([-1, *[1] * (rank - axis - 1)])
            part = writer.emit(
                "Mul", writer.emit("Gather", name, rows, axis=axis), writer.constant(share)
            )
            total = part if not total else writer.emit("Add", total, part)
        return total
    last = [*(each for each in range(rank) if each != axis), axis]
    moved = writer.emit("Transpose", name, perm=last)
    product = writer.emit("MatMul", moved, writer.constant(weights.T.astype(dtype)))
    return writer.emit("Transpose", product, perm=[int(each) for each in np.argsort(last)])


def _reduce_bool(node: "onnx.NodeProto", facts: NodeFacts) -> "list[onnx.NodeProto] | None":
    """TVM has no least and greatest truth value to begin with."""
    if facts.type(node.input[0]) != _BOOL:
        return None
    writer = _Writer(node, facts)
    number = writer.cast(node.input[0], _INT32)
    found = writer.emit(node.op_type, number, *node.input[1:], **_attributes(node))
    writer.cast(found, _BOOL, output=node.output[0])
    return writer.nodes


def _equal(node: "onnx.NodeProto", facts: NodeFacts) -> "list[onnx.NodeProto] | None":
    """TVM's largest of nothing but -inf is the least finite number, so no row is all masked."""
    for name, other in (node.input, node.input[::-1]):
        made, value = facts.maker(name), facts.constant(other)
        if made is None or made.op_type != "ReduceMax" or value is None:
            continue
        if value.size != 1 or not np.isneginf(float(value.reshape(-1)[0])):
            continue
        writer = _Writer(node, facts)
        masked = writer.cast(writer.emit("Equal", made.input[0], other), _INT32)
        least = writer.emit("ReduceMin", masked, *made.input[1:], **_attributes(made))
        writer.cast(least, _BOOL, output=node.output[0])
        return writer.nodes
    return None


def _sequence_insert(node: "onnx.NodeProto", facts: NodeFacts) -> "list[onnx.NodeProto] | None":
    """The importer counts a negative position from the wrong end."""
    place = facts.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if place is not None and int(place) < 0:
        raise _RefusedError("a negative position: give one from the front")
    return None


def _numpy_type(element: int) -> Any:
    from onnx import helper

    return helper.tensor_dtype_to_np_dtype(element)


_REWRITES: Mapping[str, Rewrite] = {
    "BitShift": _bit_shift,
    "ConvTranspose": _conv_transpose,
    "Dropout": _dropout,
    "Equal": _equal,
    "IsInf": _is_inf,
    "Mod": _mod,
    "Pow": _pow,
    "ReduceMax": _reduce_bool,
    "ReduceMin": _reduce_bool,
    "Resize": _resize,
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
_REFUSED: Mapping[str, str] = {
    "Compress": _DATA_DEPENDENT,
    "ConvInteger": _QUANTIZED,
    "NonMaxSuppression": _DATA_DEPENDENT,
    "NonZero": _DATA_DEPENDENT,
    "QLinearConv": _QUANTIZED,
    "QLinearMatMul": _QUANTIZED,
    "Unique": _DATA_DEPENDENT,
}
"""Operator -> why it is refused whatever its attributes."""
_REFUSED_MODES: Mapping[str, tuple[str, str, str]] = {
    # The importer averages whatever the mode.
    "RoiAlign": ("mode", "max", "use mode=avg, or cut the network before it"),
}
"""Operator -> attribute, the value that is refused, and the way out."""
