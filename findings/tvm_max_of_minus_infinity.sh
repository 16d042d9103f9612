#!/usr/bin/env bash
# Guess: the largest of a row of -inf is -inf, as in numpy, torch and ONNX.
# Seen:  TVM's max begins with the least finite number, so it is -3.4e38; the same for ONNX's ReduceMax and torch's amax.
# Means: "is the whole row masked?", asked as max == -inf in attention, is never true, and the row becomes NaN.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'apache-tvm==0.27.0.post1' 'apache-tvm-ffi==0.1.14.post1' 'numpy==2.4.6' 'scipy==1.17.1'
cd "$folder"
cat > check.py <<'EOF'
import sys
import numpy as np
import tvm
from tvm import relax

block = relax.BlockBuilder()
x = relax.Var("x", relax.TensorType((2, 3), "float32"))
with block.function("main", [x]):
    block.emit_func_output(block.emit(relax.op.max(x, axis=1)))
program = tvm.compile(block.get(), target="llvm")
array = np.array([[-np.inf] * 3, [1, -np.inf, 2]], np.float32)
machine = relax.VirtualMachine(program, tvm.cpu())
got = machine["main"](tvm.runtime.tensor(array)).numpy()
print("tvm", tvm.__version__, "numpy:", array.max(axis=1), "tvm:", got)
sys.exit(not (got[0] == np.finfo(np.float32).min and got[1] == 2))
EOF
venv/bin/python check.py
echo "as found: the least finite number instead of -inf"
