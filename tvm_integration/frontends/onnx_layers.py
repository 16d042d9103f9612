"""Names of layers from an ONNX file, also where its exporter left a weight without its own name.

Exporters of torch transpose the weights of linear layers and fold norms into convolutions, and name
the result `val_13` or `onnx::MatMul_137`. The operator that reads it says of which module it is.
"""

import ast
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from tvm_integration.frontends.layer_names import LayerNames, layer_names

if TYPE_CHECKING:
    import onnx

ANONYMOUS = re.compile(r"val_\d+|onnx::\w+_\d+|\d+")
SCOPES = "pkg.torch.onnx.name_scopes"
"""Key of an operator's modules, outermost first, and its own name: of torch's newer exporter."""


def onnx_layers(model: "onnx.ModelProto", prepared: "onnx.ModelProto") -> LayerNames:
    """Names of layers by the content of the weights, as they are handed to TVM.

    Parameters
    ----------
    model : ModelProto
        As exported; preparing it drops what its operators say.
    prepared : ModelProto
        Whose weights TVM gets.
    """
    return layer_names(_named_weights(model, prepared))


def module_of(node: "onnx.NodeProto") -> str:
    """The module that an operator is of, as torch's exporters tell it; empty where they do not."""
    for entry in node.metadata_props:
        if entry.key == SCOPES:
            return _innermost(entry.value)
    # The older exporter: "/layer1/layer1.0/conv1/Conv", a Sequential's name also in its parts.
    parts: list[str] = []
    if node.name.startswith("/"):
        for part in node.name.split("/")[1:-1]:
            if parts and part.startswith(f"{parts[-1]}."):
                parts.pop()
            parts.append(part)
    return ".".join(parts)


def _innermost(scopes: str) -> str:
    try:
        found = ast.literal_eval(scopes)
    except (ValueError, SyntaxError):
        return ""
    return str(found[-2]) if isinstance(found, list) and len(found) > 1 else ""


def _named_weights(
    model: "onnx.ModelProto", prepared: "onnx.ModelProto"
) -> Iterator[tuple[str, np.ndarray]]:
    import onnx

    modules: dict[str, dict[str, None]] = {}
    for node in model.graph.node:
        for name in node.input:
            if ANONYMOUS.fullmatch(name):
                modules.setdefault(name, {})[module_of(node)] = None
    for tensor in prepared.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if not ANONYMOUS.fullmatch(tensor.name):
            yield tensor.name, array
            continue
        for module in modules.get(tensor.name, {"": None}):
            yield (f"{module}.weight" if module else ""), array
