"""ONNX's Resize in operators that TVM's importer takes right.

The importer of TVM 0.27 takes scales from rounded sizes, and ignores most attributes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tvm_integration.frontends.onnx_nodes import (
    FLOAT,
    FLOATS,
    NodeFacts,
    NodeWriter,
    RefusedError,
    attributes_of,
    numpy_type,
    text_of,
)

if TYPE_CHECKING:
    import onnx

__all__ = ["rewrite_resize"]

_MAX_TAPS = 4
"""Of an interpolation: with more, a matrix product replaces sums of gathered rows."""


def rewrite_resize(node: "onnx.NodeProto", facts: NodeFacts) -> "list[onnx.NodeProto] | None":
    """Rewrite one, if the importer takes it for something else.

    Resizing is linear and works axis by axis: what onnx's own reference makes of unit vectors says
    which input rows make an output row, and with what weights.
    """
    shape, element = facts.shape(node.input[0]), facts.type(node.input[0])
    out = facts.shape(node.output[0])
    attributes = attributes_of(node)
    given = [facts.constant(name) for name in node.input[2:] if name]
    if shape is None or out is None or any(value is None for value in given):
        raise RefusedError("sizes or scales that are computed: give them as constants")
    if _is_plain_resize(node, facts, attributes, shape, out):
        return None
    if text_of(attributes.get("coordinate_transformation_mode", b"")) == "tf_crop_and_resize":
        return None
    if text_of(attributes.get("mode", b"nearest")) == "cubic" and element not in FLOATS:
        raise RefusedError("mode=cubic on whole numbers: cast them before")
    writer = NodeWriter(node, facts)
    name = node.input[0]
    is_nearest = text_of(attributes.get("mode", b"nearest")) == "nearest"
    work = element if is_nearest or element in FLOATS else FLOAT
    if work != element:
        name = writer.cast(name, work)
    for axis, (before, after) in enumerate(zip(shape, out, strict=True)):
        weights = _axis_weights(node, facts, attributes, axis, shape)
        if weights is None or (before == after and np.array_equal(weights, np.eye(before))):
            continue
        name = _apply_along(writer, name, weights, axis, len(shape), numpy_type(work))
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
    if text_of(attributes.get("keep_aspect_ratio_policy", b"stretch")) != "stretch":
        return False
    if attributes.get("exclude_outside") or tuple(shape[:2]) != tuple(out[:2]) or len(shape) < 3:
        return False
    mode = text_of(attributes.get("mode", b"nearest"))
    place = text_of(attributes.get("coordinate_transformation_mode", b"half_pixel"))
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
        elif text_of(attributes.get("keep_aspect_ratio_policy", b"stretch")) == "stretch":
            pair = np.array([out[axis], size], np.int64)
        else:  # all axes have the scale of one
            ratios = [float(v) / shape[a] for v, a in zip(value, resized, strict=True)]
            policy = text_of(attributes["keep_aspect_ratio_policy"])
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
    writer: NodeWriter, name: str, weights: "np.ndarray[Any, Any]", axis: int, rank: int, dtype: Any
) -> str:
    """Combine rows along an axis."""
    taps = int(np.count_nonzero(weights, axis=1).max(initial=0))
    if taps <= 1:
        rows = writer.constant(np.abs(weights).argmax(axis=1).astype(np.int64))
        return writer.emit("Gather", name, rows, axis=axis)
    if taps <= _MAX_TAPS:
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
