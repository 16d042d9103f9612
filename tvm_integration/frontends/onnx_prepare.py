"""An ONNX model -> one that TVM's importer takes right: opset, shapes, functions, constants.

Much that the importer refuses or mistakes is gone once shapes are known: exporters compute shapes
in the graph, older opsets have other rules, and newer operators are functions of older ones. The
rest is rewritten operator by operator (`tvm_integration.frontends.onnx_rewrites`) or refused by
name.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from costmodels.errors import InputError
from tvm_integration.frontends.onnx_nodes import NodeFacts, NodeWriter, describe_node
from tvm_integration.frontends.onnx_rewrites import rewrite_nodes

if TYPE_CHECKING:
    import onnx

__all__ = ["OPTIMIZED", "prepare"]

MIN_OPSET = 13
"""Below it the importer has gaps, and axes are attributes where they are inputs now."""
RESIZE_OPSET = 11
"""Since it Resize says which pixels it takes; onnx's converter forgets which it took before."""
MAX_FOLDED = 1 << 20
"""Elements of a tensor that folding reads or makes: shapes and tables, not weights."""
_STANDARD = ("", "ai.onnx")
_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"}
    | {"RandomUniformLike"}
)
OPTIMIZED = ("com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc")
"""Domains of the operators that onnxruntime makes when it optimizes a file."""
_LAYER_NORMS = ("LayerNormalization", "RMSNormalization")
_ALWAYS_INLINED = frozenset({"Attention", "RotaryEmbedding", "GroupNormalization"})
"""Standard operators that the importer takes for others of the same name, or only in part."""


def prepare(
    model: "onnx.ModelProto", path: str, shapes: Mapping[str, Sequence[int]]
) -> "onnx.ModelProto":
    """Make a model that TVM's importer takes right.

    Parameters
    ----------
    model : onnx.ModelProto
        As it was read, its local functions inlined; it stays as it is.
    path : str
        For messages.
    shapes : mapping
        Input -> its fixed shape.

    Returns
    -------
    onnx.ModelProto
        With the same inputs and outputs.

    Raises
    ------
    InputError
        For operators and attributes that TVM cannot take.
    """
    import onnx

    prepared = onnx.ModelProto()
    prepared.CopyFrom(model)
    _check_random(prepared, path)
    _fix_shapes(prepared, shapes)
    _spread_old_slopes(prepared)
    has_old_resizes = 0 < _opset(model) < RESIZE_OPSET
    has_old_maxima = 0 < _opset(model) < MIN_OPSET
    prepared = _converted(prepared)
    if has_old_resizes:
        _spell_out_coordinates(prepared)
    prepared = _inferred(prepared)
    if has_old_maxima:
        _flatten_old_maxima(prepared)
    _spread_scales(prepared)
    prepared = _inlined(prepared)
    prepared = _folded(prepared)
    prepared = _inferred(prepared)
    if has_old_resizes:
        _round_old_resizes(prepared, path)
    rewrite_nodes(prepared, path)
    _check_operators(prepared, path)
    return prepared


def _check_random(model: "onnx.ModelProto", path: str) -> None:
    """Refuse operators that draw numbers: what they give is not the network's own."""
    for node in model.graph.node:
        if node.domain in _STANDARD and node.op_type in _RANDOM:
            raise InputError(
                f"operator {describe_node(node)} of {path} must give the same numbers each time, "
                "got one that draws them: make what it gives an input"
            )


def _opset(model: "onnx.ModelProto") -> int:
    known = [each.version for each in model.opset_import if each.domain in _STANDARD]
    return int(max([0, *known]))


def _fix_shapes(model: "onnx.ModelProto", shapes: Mapping[str, Sequence[int]]) -> None:
    for entry in model.graph.input:
        if entry.name in shapes:
            dims = entry.type.tensor_type.shape.dim
            for dim, size in zip(dims, shapes[entry.name], strict=True):
                dim.Clear()
                dim.dim_value = size
    del model.graph.value_info[:]  # they may hold symbols, or be wrong: they are inferred anew


def _spread_old_slopes(model: "onnx.ModelProto") -> None:
    """Before opset 7 slopes of PRelu lay along the channels; the converter leaves them."""
    from onnx import numpy_helper

    if _opset(model) >= 7:
        return
    weights = {x.name: x for x in model.graph.initializer}
    inputs = {x.name: x for x in model.graph.input}
    for node in model.graph.node:
        if node.op_type != "PRelu":
            continue
        weight, entry = weights.get(node.input[1]), inputs.get(node.input[0])
        if weight is None or len(weight.dims) != 1 or weight.dims[0] == 1 or entry is None:
            continue
        rank = len(entry.type.tensor_type.shape.dim)
        slopes = numpy_helper.to_array(weight).reshape([-1, *[1] * (rank - 2)])
        weight.CopyFrom(numpy_helper.from_array(slopes, weight.name))
        if weight.name in inputs:
            inputs[weight.name].CopyFrom(_described(weight))


def _described(weight: "onnx.TensorProto") -> "onnx.ValueInfoProto":
    from onnx import helper

    return helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims))


def _converted(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """The model in a newer opset; as it is where onnx cannot convert it."""
    from onnx import version_converter

    if not 0 < _opset(model) < MIN_OPSET:
        return model
    try:
        return version_converter.convert_version(model, MIN_OPSET)
    except Exception:  # of C++, for operators without a rule; the importer may know the old one
        return model


def _spell_out_coordinates(model: "onnx.ModelProto") -> None:
    """Pixels of a Resize before opset 11, which counted them from the corner of the image."""
    from onnx import helper

    for node in model.graph.node:
        if node.op_type == "Resize":
            given = {attribute.name for attribute in node.attribute}
            for name, value in (
                ("coordinate_transformation_mode", "asymmetric"),
                ("nearest_mode", "floor"),
            ):
                if name not in given:
                    node.attribute.append(helper.make_attribute(name, value))


def _round_old_resizes(model: "onnx.ModelProto", path: str) -> None:
    """The nearest pixel before opset 11, as onnxruntime takes it: the next one where it shrinks."""
    facts = NodeFacts(model)
    for node in model.graph.node:
        if node.op_type != "Resize" or len(node.input) < 3 or not node.input[2]:
            continue
        scales = facts.constant(node.input[2])
        attributes = {each.name: each for each in node.attribute}
        mode = attributes["mode"].s if "mode" in attributes else b"nearest"
        if scales is None or mode != b"nearest" or np.all(scales >= 1):
            continue
        if np.any(scales > 1):
            raise InputError(
                f"operator {describe_node(node)} of {path} must resize all axes one way, got "
                "mode=nearest that stretches one and shrinks another before opset 11: export it "
                "for opset 11 or newer"
            )
        attributes["nearest_mode"].s = b"ceil"


def _flatten_old_maxima(model: "onnx.ModelProto") -> None:
    """Before opset 13 Hardmax took all axes from its own on as one; the converter forgets it."""
    facts = NodeFacts(model)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        is_old = node.op_type == "Hardmax" and node.domain in _STANDARD
        shape = facts.shape(node.input[0]) if is_old else None
        if shape is None:
            nodes.append(node)
            continue
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        writer = NodeWriter(node, facts)
        flat = writer.emit("Flatten", node.input[0], axis=axis)
        largest = writer.emit("Hardmax", flat, axis=-1)
        wanted = writer.constant(np.array(shape, np.int64))
        writer.emit("Reshape", largest, wanted, output=node.output[0])
        nodes += writer.nodes
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _spread_scales(model: "onnx.ModelProto") -> None:
    """Scales and shifts of layer norms as large as what is normalized, as the importer wants."""
    facts = NodeFacts(model)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        is_norm = node.op_type in _LAYER_NORMS and node.domain in _STANDARD
        x = facts.shape(node.input[0]) if is_norm else None
        if x is not None:
            axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
            wanted = x[axis % len(x) :]
            writer = NodeWriter(node, facts)
            for place, name in enumerate(node.input):
                if place and name and facts.shape(name) not in (wanted, None):
                    shape = writer.constant(np.array(wanted, np.int64))
                    node.input[place] = writer.emit("Expand", name, shape)
            nodes += writer.nodes
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _inferred(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """The model with the shapes and types that onnx infers; as it is where it cannot."""
    import onnx

    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception:  # above 2 GB, or a graph that is wrong: the importer says of what
        return model


def _inlined(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Operators that TVM lacks, written out as the functions that onnx defines them by."""
    from onnx import defs, inliner

    for _ in range(3):  # bodies hold such operators in turn
        wanted = {
            (node.domain, node.op_type)
            for node in model.graph.node
            if node.domain in _STANDARD and _must_be_inlined(node, model)
        }
        known = [
            (domain, name)
            for domain, name in sorted(wanted)
            if defs.has(name, domain) and _has_body(defs.get_schema(name, _opset(model), domain))
        ]
        if not known:
            return model
        _spell_out_defaults(model, known)
        _declare_weights(model)
        try:
            model = inliner.inline_selected_functions(model, known, inline_schema_functions=True)
        except Exception:  # of C++, for a graph that is wrong: the importer says of what
            return model
        model = _inferred(model)
    return model


def _spell_out_defaults(model: "onnx.ModelProto", operators: Sequence[tuple[str, str]]) -> None:
    """Give operators the attributes they leave out: onnx's inliner forgets what they are then."""
    from onnx import defs

    for node in model.graph.node:
        if (node.domain, node.op_type) in operators:
            schema = defs.get_schema(node.op_type, _opset(model), node.domain)
            given = {attribute.name for attribute in node.attribute}
            for name, attribute in schema.attributes.items():
                if name not in given and attribute.default_value.name:
                    node.attribute.append(attribute.default_value)


def _declare_weights(model: "onnx.ModelProto") -> None:
    """Say the types of weights beside them: onnx's inliner looks for them there alone."""
    known = {entry.name for entry in (*model.graph.value_info, *model.graph.input)}
    new = [_described(weight) for weight in model.graph.initializer if weight.name not in known]
    model.graph.value_info.extend(new)


def _has_body(schema: Any) -> bool:
    return bool(schema.has_function or schema.has_context_dependent_function)


def _must_be_inlined(node: "onnx.NodeProto", model: "onnx.ModelProto") -> bool:
    if node.op_type in _ALWAYS_INLINED or node.op_type not in _importable():
        return True
    if node.op_type in _LAYER_NORMS:
        facts = NodeFacts(model)
        more = [name for name in node.output[1:] if name and name in facts.used]
        x, scale = facts.shape(node.input[0]), facts.shape(node.input[1])
        axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
        if more or x is None or scale is None or tuple(x[axis % len(x) :]) != scale:
            return True
        return node.op_type == "RMSNormalization" and axis % len(x) == 0  # of the whole tensor
    return False


def _importable() -> frozenset[str]:
    """Names of the operators that TVM's importer knows, whatever their domain."""
    from tvm_integration.compat import onnx_converters

    return onnx_converters() | {"Constant", "If"}


def _folded(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """The model with what is constant computed, shapes foremost; as it is where that fails."""
    from onnxscript import optimizer

    outputs = [entry.name for entry in model.graph.output]
    quiet = logging.getLogger("onnxscript"), logging.getLogger("onnx_ir")
    levels = [each.level for each in quiet]
    for each in quiet:
        each.setLevel(logging.ERROR)
    try:
        with np.errstate(all="ignore"):
            folded = optimizer.optimize(
                model,
                num_iterations=2,
                onnx_shape_inference=True,
                input_size_limit=MAX_FOLDED,
                output_size_limit=MAX_FOLDED,
                inline=False,
            )
    except Exception:  # of the reference evaluator, on operators it does not know
        return model
    finally:
        for each, level in zip(quiet, levels, strict=True):
            each.setLevel(level)
    if [entry.name for entry in folded.graph.output] != outputs:
        return model
    _spell_out_constants(folded)
    return folded


def _spell_out_constants(model: "onnx.ModelProto") -> None:
    """Constants as tensors: the importer knows no others."""
    from onnx import helper, numpy_helper

    kinds = {
        "value_int": np.int64,
        "value_ints": np.int64,
        "value_float": np.float32,
        "value_floats": np.float32,
    }
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name in kinds:
            held = np.array(helper.get_attribute_value(node.attribute[0]))
            tensor = numpy_helper.from_array(held.astype(kinds[node.attribute[0].name]))
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("value", tensor))


def _check_operators(model: "onnx.ModelProto", path: str) -> None:
    """Refuse operators that the importer does not know, by name, node, opset and way out."""
    importable = _importable()
    unknown: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.domain in OPTIMIZED and node.op_type not in importable:
            raise InputError(
                f"operator {describe_node(node)} of {path} must be one of ONNX, got one that "
                "onnxruntime makes when it optimizes a file: give the file as it was exported"
            )
        if node.op_type not in importable:
            unknown.setdefault(node.op_type, []).append(describe_node(node))
    if unknown:
        named = ", ".join(each[0] for _, each in sorted(unknown.items()))
        raise InputError(
            f"operators of {path} must be ones that TVM's ONNX importer knows, got {named} of "
            f"opset {_opset(model)}: replace them in the graph, or give the network as .pt2"
        )
