"""ONNX file -> network."""

import io
import logging
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from costmodels.errors import InputError
from tvm_integration.foreign_errors import one_line
from tvm_integration.frontends.model_spec import ModelName
from tvm_integration.frontends.network import Network
from tvm_integration.frontends.onnx_layers import onnx_layers
from tvm_integration.frontends.onnx_nodes import NodeFacts, describe_node
from tvm_integration.frontends.onnx_prepare import OPTIMIZED, prepare
from tvm_integration.frontends.onnx_rewrites import decides_by_data
from tvm_integration.frontends.reference import OnnxruntimeReference
from tvm_integration.frontends.reference_process import ReferenceProcess

if TYPE_CHECKING:
    import onnx

    from tvm_integration.compat import IRModule

__all__ = ["import_onnx", "weight_files"]

logger = logging.getLogger(__name__)

STANDARD_DOMAINS = ("", "ai.onnx", "com.microsoft")
"""Of operators that TVM's importer may know: it looks at their names alone."""
MAX_ELEMENTS = 1 << 30
"""Of an input: an example of it must fit memory."""


def import_onnx(name: ModelName, seed: int) -> Network:
    """Import an ONNX file with its weights as constants.

    Parameters
    ----------
    name : ModelName
        The path; its options are the values of symbolic dimensions, by their names in the file or
        as `input[axis]`.
    seed : int
        For the example inputs: normal numbers, and 0 or 1 for integers, which is in range as
        token, mask and index alike; 1 or 2 for those that divide.

    Raises
    ------
    InputError
        A damaged file, operators that TVM's importer does not know, symbolic dimensions without
        a value.
    """
    path = name.name
    model = _load(path)
    shapes = _input_shapes(path, model, name.integer_options())
    _check_domains(path, model)
    _tell_quantized(path, model)
    inputs = _made_up_inputs(path, model, shapes, seed)
    prepared = prepare(model, path, shapes)
    module = _import(path, prepared, shapes)
    _check_outputs(path, prepared, module)
    reference = ReferenceProcess(OnnxruntimeReference(str(Path(path).resolve()), inputs))
    return Network(Path(path).stem, module, inputs, reference, onnx_layers(model, prepared))


def weight_files(path: Path) -> list[Path]:
    """Files of its own that an ONNX file keeps weights in; none where it cannot be read.

    Parameters
    ----------
    path : Path
        Of the ONNX file.
    """
    content = path.read_bytes()
    if b"location" not in content:  # the key of such an entry
        return []
    import onnx
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    try:
        model = onnx.load_from_string(content)
    except Exception:  # protobuf's; importing it says what is wrong
        return []
    places = {
        ExternalDataInfo(tensor).location
        for graph in _graphs(model.graph)
        for tensor in _weights(graph)
        if uses_external_data(tensor)
    }
    return [path.parent / place for place in sorted(places)]


def _load(path: str) -> "onnx.ModelProto":
    import onnx

    damaged = f"{path} must be an ONNX file with its weights"
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf, the file system and onnx each have their own classes
        raise InputError(f"{damaged}, got {one_line(error)}: export it again") from error
    # protobuf takes many other files for an empty message.
    if not model.graph.output:
        raise InputError(f"{damaged}, got one without a graph: export it again")
    if not model.graph.node:
        raise InputError(f"{damaged}, got one without operators: there is nothing to run")
    if model.functions:
        from onnx.inliner import inline_local_functions

        try:
            model = inline_local_functions(model)
        except Exception as error:  # of functions that call each other, or what nobody defines
            raise InputError(f"{damaged}, got {one_line(error)}: inline its functions") from error
    return model


def _graphs(graph: "onnx.GraphProto") -> Iterator["onnx.GraphProto"]:
    """Yield a graph and those inside its operators: branches, bodies of loops."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _graphs(inner)


def _weights(graph: "onnx.GraphProto") -> Iterator["onnx.TensorProto"]:
    """Yield the initializers of a graph, and the constants that its operators hold."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)


def _check_domains(path: str, model: "onnx.ModelProto") -> None:
    """Refuse operators of domains that TVM's importer would take for the standard ones."""
    import onnx

    known = onnx.defs.onnx_opset_version()
    newest = max([0, *(x.version for x in model.opset_import if x.domain in ("", "ai.onnx"))])
    if newest > known:
        raise InputError(
            f"{path} must be of an opset up to {known}, got {newest}: export it again for an older "
            "one, or install a newer release of onnx"
        )

    foreign = {
        f"{node.domain}.{node.op_type}"
        for graph in _graphs(model.graph)
        for node in graph.node
        if node.domain not in STANDARD_DOMAINS
    }
    if foreign:
        raise InputError(
            f"operators of {path} must be of a domain that TVM's ONNX importer knows, got "
            f"{', '.join(sorted(foreign))}: replace them in the graph, or give the network as .pt2"
        )


def _tell_quantized(path: str, model: "onnx.ModelProto") -> None:
    """Say before hours of tuning that whole numbers bring nothing here."""
    steps = sum(
        node.op_type in ("QuantizeLinear", "DequantizeLinear")
        for graph in _graphs(model.graph)
        for node in graph.node
    )
    if steps:
        logger.warning(
            "%s is quantized, but TVM computes its operators in floating point between %d "
            "QuantizeLinear and DequantizeLinear: about as fast as the network before it was "
            "quantized, which is the one to give",
            path,
            steps,
        )


def _graph_inputs(model: "onnx.ModelProto") -> list["onnx.ValueInfoProto"]:
    """Return the inputs that are no weights; old files list the weights too."""
    weights = {x.name for x in model.graph.initializer}
    return [x for x in model.graph.input if x.name not in weights]


def _input_shapes(
    path: str, model: "onnx.ModelProto", values: Mapping[str, int]
) -> dict[str, list[int]]:
    """Return the shape of every input, with `values` for symbolic dimensions."""
    shapes: dict[str, list[int]] = {}
    unknown: dict[str, str] = {}  # what the user would write -> what the message shows
    known: set[str] = set()
    for entry in _graph_inputs(model):
        if not entry.type.tensor_type.HasField("shape"):
            raise InputError(
                f"input {entry.name} of {path} must be a tensor with a shape, got none: "
                "export it again with one"
            )
        shape = shapes[entry.name] = []
        for axis, dim in enumerate(entry.type.tensor_type.shape.dim):
            place = f"{entry.name}[{axis}]"
            if dim.HasField("dim_value") and dim.dim_value == 0 and place not in values:
                raise InputError(
                    f"input {entry.name} of {path} must not be empty, got size 0 along axis "
                    f"{axis}: export it for at least 1, or give {path},{place}=1 if 0 means any"
                )
            if dim.dim_value > 0:
                shape.append(dim.dim_value)
                continue
            key = dim.dim_param or place
            known.update((key, place))
            size = values.get(place, values.get(key, 0))
            if size < 1:
                written = place if set(key) & set(",=") else key  # as an option can name it
                unknown.setdefault(written, f"{key} ({place})" if key != place else key)
            shape.append(size)
    _check_values(path, values, known)
    if unknown:
        example = ",".join(f"{key}=1" for key in unknown)
        raise InputError(
            f"inputs of {path} must have fixed shapes, got the symbolic dimensions "
            f"{', '.join(unknown.values())}: give their values, {path},{example}"
        )
    return shapes


def _check_values(path: str, values: Mapping[str, int], known: set[str]) -> None:
    for key, value in values.items():
        if key not in known:
            names = ", ".join(sorted(known)) or "none: all shapes are fixed"
            raise InputError(
                f"option of {path} must be one of its symbolic dimensions ({names}), got {key!r}: "
                "leave it out"
            )
        if value < 1:
            raise InputError(
                f"{key} of {path} must be at least 1, got {value}: write {key}=1, for example"
            )


def _made_up_inputs(
    path: str, model: "onnx.ModelProto", shapes: Mapping[str, list[int]], seed: int
) -> tuple[np.ndarray, ...]:
    import onnx

    rng = np.random.default_rng(seed)
    # A processor ends what divides whole numbers by 0.
    divisors = {node.input[1] for node in model.graph.node if node.op_type in ("Div", "Mod")}
    arrays = []
    for entry in _graph_inputs(model):
        element = entry.type.tensor_type.elem_type
        try:
            kind = onnx.TensorProto.DataType.Name(element)
            dtype = onnx.helper.tensor_dtype_to_np_dtype(element)
        except (KeyError, ValueError):
            raise InputError(
                f"input {entry.name} of {path} must be of a type that ONNX knows, got number "
                f"{element}: export it again"
            ) from None
        if math.prod(shapes[entry.name]) > MAX_ELEMENTS:
            raise InputError(
                f"input {entry.name} of {path} must have at most {MAX_ELEMENTS:,} elements, got "
                f"{' x '.join(map(str, shapes[entry.name]))}: take smaller dimensions"
            )
        if np.issubdtype(dtype, np.floating) or dtype.name == "bfloat16":
            arrays.append(rng.standard_normal(shapes[entry.name]).astype(dtype))
        elif np.issubdtype(dtype, np.integer) or dtype == np.bool_:
            limits = (1, 3) if entry.name in divisors else (0, 2)
            arrays.append(rng.integers(*limits, shapes[entry.name]).astype(dtype))
        else:
            raise InputError(
                f"input {entry.name} of {path} must hold numbers of a type that numpy has, got "
                f"{kind}: cut the graph after the part that decodes it, or export it for FLOAT"
            )
    return tuple(arrays)


def _import(path: str, model: "onnx.ModelProto", shapes: Mapping[str, list[int]]) -> "IRModule":
    from tvm_integration.compat import from_onnx, tvm

    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            module = from_onnx(model, dict(shapes))
    except tvm.error.OpNotImplemented as error:
        operators = ", ".join(sorted(x.strip() for x in str(error).rpartition(":")[2].split(",")))
        raise InputError(
            f"operators of {path} must be ones that TVM's ONNX importer knows, got {operators}: "
            "replace them in the graph, or give the network as .pt2"
        ) from error
    except Exception as error:  # whatever its converters trip over
        # The importer prints which operator it was converting, and only prints it.
        operator = re.search(r"Error converting operator (\w+)", printed.getvalue())
        where = _place(model, operator[1] if operator else None, str(error))
        damage = _damage(model)
        reason = one_line(error) + (f" (and the file is damaged: {damage})" if damage else "")
        hint = "export it again, replace that operator, or give the network as .pt2"
        if any(f"{domain}." in where for domain in OPTIMIZED):
            hint = "give the file as it was exported, before onnxruntime optimized it"
        raise InputError(
            f"TVM must be able to import {path}, got {reason} at operator {where}: {hint}"
        ) from error
    # Without parameters there is nothing to tell from the inputs, and passes that meet the
    # attribute would look for parameters.
    main = module.get_global_var("main")
    module.update_func(main, module["main"].without_attr("num_input"))
    return module


def _place(model: "onnx.ModelProto", operator: str | None, message: str) -> str:
    """Name an operator that the importer failed at, as well as it can be told."""
    nodes = [node for node in model.graph.node if operator in (None, node.op_type)]
    named = [node for node in nodes if node.name and node.name in message]
    likely = (named or nodes)[:3]
    if not likely:
        return operator or "?"
    text = " or ".join(describe_node(node) for node in likely)
    return text if len(nodes) <= len(likely) or named else f"{text} or another {operator or 'one'}"


def _check_outputs(path: str, model: "onnx.ModelProto", module: "IRModule") -> None:
    """Compare the imported types and shapes of the outputs with the declared ones."""
    import onnx

    from tvm_integration.compat import relax, tvm

    found = module["main"].ret_ty
    types = list(found.fields) if isinstance(found, relax.TupleType) else [found]
    _check_fixed(path, model, module)
    for entry, ty in zip(model.graph.output, types, strict=False):
        tensor = entry.type.tensor_type
        if not isinstance(ty, relax.TensorType) or not tensor.elem_type:
            continue
        wanted = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        if str(ty.dtype) != wanted:
            raise InputError(
                f"output {entry.name} of {path} must be {wanted}, got {ty.dtype} from TVM's "
                "importer: an operator before it mixes types; cast its inputs to one type"
            )
        dims = [dim.dim_value for dim in tensor.shape.dim]
        shape = ty.shape.values if isinstance(ty.shape, relax.ShapeExpr) else None
        if shape is None or not all(isinstance(n, tvm.tirx.IntImm) for n in shape):
            continue
        sizes = [int(n) for n in shape]
        if 0 in sizes:
            raise InputError(
                f"output {entry.name} of {path} must hold numbers, got shape {sizes}: there is "
                "nothing to compute"
            )
        if tensor.HasField("shape") and all(dims) and sizes != dims:
            raise InputError(
                f"output {entry.name} of {path} must have shape {dims}, got {sizes} from TVM's "
                "importer: give the network as .pt2"
            )


def _check_fixed(path: str, model: "onnx.ModelProto", module: "IRModule") -> None:
    """Refuse shapes that depend on data by the operator that makes the first of them."""
    from tvm_integration.frontends.relax_calls import check_fixed_shapes

    try:
        check_fixed_shapes(module)
    except InputError as error:
        facts = NodeFacts(model)
        for node in model.graph.node:
            if decides_by_data(node, facts):
                raise InputError(
                    f"operator {describe_node(node)} of {path} (opset {facts.opset}) must have an "
                    "output of fixed shape, got one that depends on data: give the inputs that "
                    "decide it as constants, or cut the network before it"
                ) from None
        raise error


def _damage(model: "onnx.ModelProto") -> str:
    """Return what onnx's own checker finds wrong, in one line, or nothing."""
    import onnx

    try:
        onnx.checker.check_model(model)
    except Exception as error:  # ValidationError, or ValueError above 2 GB
        return one_line(error)
    return ""
