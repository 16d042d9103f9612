#!/usr/bin/env bash
# Guess: onnx.version_converter gives a model that computes what the old one computed, or refuses.
# Seen:  a linear Resize or Upsample of opset 10 or 9 comes out as a Resize of opset 11 that says nothing of coordinates. Its default,
#        "half_pixel", is new there; the old operators counted from the corner, as "asymmetric" does, and onnxruntime runs them so. And
#        Hardmax of opset 12, which takes all axes from its own on as one, comes out as it is, where opset 13 takes one axis; Softmax,
#        which changed the same way in the same release, is rewritten as it must be.
# Means: converted models differ by whole pixels, or choose in other places, and nothing is said. Compare outputs after a conversion, and
#        set coordinate_transformation_mode="asymmetric" on what was a Resize before opset 11.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'onnx==1.23.2' 'onnxruntime==1.31.1' 'numpy==2.4.6'
cd "$folder"
cat > check.py <<'EOF'
import sys
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper, version_converter

def model(node, shape, opset, weights=()):
    def entry(name, dims):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)

    tensors = [numpy_helper.from_array(array, name) for name, array in weights]
    graph = helper.make_graph([node], "g", [entry("x", shape)], [entry("y", None)], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=6)

def run(network, x):
    session = onnxruntime.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]

def off(name, network, shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    new = version_converter.convert_version(network, 13)
    far = float(np.abs(run(network, x) - run(new, x)).max())
    print(f"{name}: to opset 13 by {[each.op_type for each in new.graph.node]}, off by at most {far:.3g}")
    return far

image, scales = [1, 1, 3, 4], [("s", np.array([1, 1, 2, 2], np.float32))]
print("onnx", onnx.__version__, "onnxruntime", onnxruntime.__version__)
resized = [
    off(f"{operator} of opset {opset}, {mode}", model(helper.make_node(operator, ["x", "s"], ["y"], mode=mode), image, opset, scales), image)
    for operator, opset in (("Upsample", 9), ("Resize", 10))
    for mode in ("linear", "nearest")
]
chosen = [
    off(f"{operator} of opset 12, axis 1", model(helper.make_node(operator, ["x"], ["y"], axis=1), [2, 3, 4], 12), [2, 3, 4])
    for operator in ("Hardmax", "Softmax")
]
sys.exit(not (min(resized[0], resized[2]) > 0.1 and resized[1] == resized[3] == 0 and chosen[0] == 1 and chosen[1] < 1e-6))
EOF
venv/bin/python -W ignore check.py 2> /dev/null
echo "as found: the converter changes what linear resizes and Hardmax compute, and says nothing"
