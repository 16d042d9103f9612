#!/usr/bin/env bash
# Guess: pad_einsum, which pads the loops of a block with zeros, refuses to pad a reduction that zeros change: schedule primitives keep
#        what is computed, or raise.
# Seen:  it looks at indices alone. A sum of products is right; a sum of (x - 1)² over 13 numbers, padded to 16, is too large by the three
#        padded ones, and a maximum of negative numbers becomes 0. Nothing is said, with the schedule's checks on.
# Means: whoever pads more than products of tensors must check the block's body, or pad loops that are no reductions alone.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  'apache-tvm==0.27.0.post1' 'apache-tvm-ffi==0.1.14.post1' 'numpy==2.4.6'
cd "$folder"
cat > check.py <<'EOF'
import sys
import numpy as np
import tvm
from tvm import te

DEPTH, MULTIPLE = 13, 8
CASES = {
    "sum of x * x": (lambda x, k: te.sum(x * x, axis=k), lambda x: (x * x).sum(1)),
    "sum of (x - 1)²": (
        lambda x, k: te.sum((x - 1.0) * (x - 1.0), axis=k),
        lambda x: ((x - 1) ** 2).sum(1),
    ),
    "max of x": (lambda x, k: te.max(x, axis=k), lambda x: x.max(1)),
}

def gives(reduce, data, pad):
    given = te.placeholder(data.shape, name="given")
    k = te.reduce_axis((0, data.shape[1]), "k")
    result = te.compute(data.shape[:1], lambda i: reduce(given[i, k], k), name="result")
    schedule = tvm.s_tir.Schedule(te.create_prim_func([given, result]))
    if pad:
        schedule.pad_einsum(schedule.get_sblock("result"), [1, MULTIPLE])
    out = tvm.runtime.tensor(np.zeros(len(data), "float32"))
    tvm.compile(schedule.mod, target="llvm")["main"](tvm.runtime.tensor(data), out)
    return out.numpy()

print("apache-tvm", tvm.__version__)
data = -1 - np.random.default_rng(0).random((4, DEPTH), np.float32)
found = {}
for name, (reduce, right) in CASES.items():
    wanted = right(data)
    assert np.allclose(gives(reduce, data, False), wanted, rtol=1e-5)
    try:
        padded = gives(reduce, data, True)
    except Exception as error:
        found[name] = f"refused: {str(error).strip().splitlines()[-1][:80]}"
    else:
        same = np.allclose(padded, wanted, rtol=1e-5)
        found[name] = "right" if same else f"off by {np.round(padded - wanted, 2).tolist()}"
    print(f"{name}: {found[name]}")
is_wrong = found["sum of (x - 1)²"].startswith("off by [3.0") and found["max of x"].startswith("off by")
sys.exit(not (found["sum of x * x"] == "right" and is_wrong))
EOF
venv/bin/python -W ignore check.py 2> /dev/null
echo "as found: padded zeros count in reductions that are no products"
