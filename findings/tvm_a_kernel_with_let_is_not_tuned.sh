#!/usr/bin/env bash
# Guess: a kernel whose expression names a part of itself (tirx.Let) is tuned like any other: it compiles, runs, can be scheduled, and the
#        task scheduler only prints its count of operations.
# Seen:  tune_tir ends with an InternalError before the first trial: the counter of operations knows no Let, and the task scheduler counts
#        whatever is tuned. With an attribute `estimated_flops` on the function nothing is counted, and the same kernel is tuned.
# Means: formulas that use a value several times are written out each time, or carry that attribute, which no page of TVM names.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  'apache-tvm==0.27.0.post1' 'apache-tvm-ffi==0.1.14.post1' 'numpy==2.4.6' 'scipy==1.17.1' 'psutil==7.1.3' 'cloudpickle==3.1.2' \
  'xgboost==3.1.2' 'tornado==6.5.2' 'pandas==2.3.3'
cd "$folder"
cat > check.py <<'EOF'
import sys
import numpy as np
import tvm
from tvm import te, tirx
from tvm.s_tir import meta_schedule as ms

SIZE = 256


def fourth_power(value):
    square = tirx.Var("square", "float32")
    return tirx.Let(square, value * value, square * square)


def trials(function):
    try:
        database = ms.tune_tir(
            tvm.IRModule({"main": function}), target={"kind": "llvm", "num-cores": 1}, work_dir="work",
            max_trials_global=4, num_trials_per_iter=4, cost_model="random",
        )
    except tvm.error.InternalError as error:
        return str(error).splitlines()[0]
    return len(database.get_all_tuning_records())


if __name__ == "__main__":
    data = te.placeholder((SIZE,), name="data")
    result = te.compute((SIZE,), lambda i: fourth_power(data[i]), name="result")
    function = te.create_prim_func([data, result]).with_attr("global_symbol", "main")
    got = tvm.runtime.tensor(np.zeros(SIZE, "float32"))
    tvm.compile(function, target="llvm")(tvm.runtime.tensor(np.full(SIZE, 2, "float32")), got)
    plain, told = trials(function), trials(function.with_attr("estimated_flops", 2 * SIZE))
    print("apache-tvm", tvm.__version__)
    print(f"2 to the fourth is {got.numpy()[0]:g}; tuned: {plain}")
    print(f"tuned with estimated_flops: {told} trials")
    sys.exit(not (got.numpy()[0] == 16 and "Let" in str(plain) and told))
EOF
venv/bin/python -W ignore check.py > log 2>&1 || { tail -5 log; exit 1; }
grep -E "^(apache|2 to|tuned with)" log
echo "as found: a kernel with Let cannot be tuned unless it tells its operations"
