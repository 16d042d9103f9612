#!/usr/bin/env bash
# Guess: static_shape_tuning with cpu_weight_prepack=True searches every kernel; a constant table of indices is an input
#        like others, and a kernel that cannot be searched is skipped while the others are tuned.
# Seen:  AttachAttrLayoutFreeBuffers marks every constant argument of a kernel as weights whose layout is free, so also the
#        indices of a scatter. Drawing schedules of that kernel raises in the layout rewrite (buffer_index != -1), and the
#        error ends the whole pass: no kernel of the network is tuned. Without prepacking, or with the indices as an input
#        of the network, the same network is tuned.
# Means: a network with a constant scatter must be tuned without weight prepacking, or that kernel left out.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  'apache-tvm==0.27.0.post1' 'apache-tvm-ffi==0.1.14.post1' 'numpy==2.4.6' 'scipy==1.17.1' 'xgboost==3.2.0' 'cloudpickle==3.1.2' 'psutil==7.2.2'
cd "$folder"
cat > check.py <<'PYTHON'
import sys

import numpy as np
import tvm
from tvm import relax


def network(constant):
    """A scatter of two rows, and a product that has nothing to do with it."""
    builder = relax.BlockBuilder()
    table = np.array([[1], [5]], np.int64)
    data = relax.Var("data", relax.TensorType((8, 16), "float32"))
    updates = relax.Var("updates", relax.TensorType((2, 16), "float32"))
    given = relax.Var("indices", relax.TensorType((2, 1), "int64"))
    weight = relax.const(np.ones((16, 16), np.float32))
    with builder.function("main", [data, updates, given]):
        with builder.dataflow():
            indices = relax.const(table) if constant else given
            scattered = builder.emit(relax.op.scatter_nd(data, indices, updates))
            result = builder.emit(relax.op.nn.relu(scattered))
            product = builder.emit(relax.op.matmul(data, weight))
            output = builder.emit_output(relax.Tuple([result, product]))
        builder.emit_func_output(output)
    return builder.get()


def tuned(constant, prepack, number):
    target = tvm.target.Target({"kind": "llvm", "num-cores": 1})
    tune = relax.get_pipeline(
        "static_shape_tuning",
        total_trials=8,
        target=target,
        work_dir=f"tuning{number}",
        cpu_weight_prepack=prepack,
        max_trials_per_task=4,
    )
    try:
        with target:
            tune(network(constant))
    except Exception as error:
        return "buffer_index != -1" in str(error) or f"{type(error).__name__}: {error}"
    return "tuned"


if __name__ == "__main__":
    found = [tuned(True, True, 1), tuned(True, False, 2), tuned(False, True, 3)]
    print("tvm", tvm.__version__)
    print("constant indices, prepacking: ends with buffer_index != -1:", found[0])
    print("constant indices, no prepacking:", found[1])
    print("indices as input, prepacking:", found[2])
    sys.exit(found != [True, "tuned", "tuned"])
PYTHON
venv/bin/python check.py > out.txt 2> log.txt || { cat out.txt; tail -5 log.txt; exit 1; }
cat out.txt
echo "as found: constant indices are taken for weights, and their kernel ends the tuning of all"
