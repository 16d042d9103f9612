"""ONNX file -> network."""

import io
import re
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from costmodels.errors import InputError
from tvm_integration.foreign_errors import one_line
from tvm_integration.model_name import ModelName
from tvm_integration.network import Network
from tvm_integration.reference import onnxruntime_reference

if TYPE_CHECKING:
    import onnx

    from tvm_integration.compat import IRModule

__all__ = ["import_onnx"]


def import_onnx(name: ModelName, seed: int) -> Network:
    """Import an ONNX file with its weights as constants.

    Parameters
    ----------
    name : ModelName
        The path; its options are the values of symbolic dimensions, by their names in the file or
        as `input[axis]`.
    seed : int
        For the example inputs: normal numbers, and 0 or 1 for integers, which is in range as
        token, mask and index alike.

    Raises
    ------
    InputError
        A damaged file, operators that TVM's importer does not know, symbolic dimensions without
        a value.
    """
    path = name.name
    model = _load(path)
    shapes = _input_shapes(path, model, name.integer_options())
    inputs = _made_up_inputs(path, model, shapes, seed)
    module = _import(path, model, shapes)
    return Network(Path(path).stem, module, inputs, onnxruntime_reference(path, inputs))


def _load(path: str) -> "onnx.ModelProto":
    import onnx

    damaged = f"{path} must be an ONNX file with its weights"
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf, the file system and onnx each have their own classes
        raise InputError(f"{damaged}, got {one_line(error)}: export it again") from error
    # protobuf takes many other files for an empty message.
    if not (model.graph.node and model.graph.output):
        raise InputError(f"{damaged}, got one without a graph: export it again")
    return model


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
            if dim.dim_value > 0:
                shape.append(dim.dim_value)
                continue
            key = dim.dim_param or place
            known.update((key, place))
            size = values.get(place, values.get(key, 0))
            if size < 1:
                unknown.setdefault(key, f"{key} ({place})" if key != place else key)
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
    arrays = []
    for entry in _graph_inputs(model):
        element = entry.type.tensor_type.elem_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(element)
        if np.issubdtype(dtype, np.floating):
            arrays.append(rng.standard_normal(shapes[entry.name]).astype(dtype))
        elif np.issubdtype(dtype, np.integer) or dtype == np.bool_:
            arrays.append(rng.integers(0, 2, shapes[entry.name]).astype(dtype))
        else:
            raise InputError(
                f"input {entry.name} of {path} must hold numbers, got "
                f"{onnx.TensorProto.DataType.Name(element)}: "
                "cut the graph after the part that decodes it"
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
        where = f" at operator {operator[1]}" if operator else ""
        raise InputError(
            f"TVM must be able to import {path}, got {_damage(model) or one_line(error)}{where}: "
            "export it again, or give the network as .pt2"
        ) from error
    # Without parameters there is nothing to tell from the inputs, and passes that meet the
    # attribute would look for parameters.
    main = module.get_global_var("main")
    module.update_func(main, module["main"].without_attr("num_input"))
    return module


def _damage(model: "onnx.ModelProto") -> str:
    """Return what onnx's own checker finds wrong, in one line, or nothing."""
    import onnx

    try:
        onnx.checker.check_model(model)
    except Exception as error:  # ValidationError, or ValueError above 2 GB
        return one_line(error)
    return ""
