#!/usr/bin/env bash
# Guess: runtime.num_threads() says on how many threads the next kernel of this thread runs.
# Seen:  it says how many the pool of this thread has. A launch asks the environment again, and where that means one
#        thread it runs the kernel on the caller alone: after TVM_NUM_THREADS=2 and num_threads() == 2, with the
#        variable taken away, a parallel kernel keeps one core busy, while num_threads() still says 2.
# Means: checking num_threads() is not enough; processor time over wall time tells what ran.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'apache-tvm==0.27.0.post1' 'apache-tvm-ffi==0.1.14.post1' 'numpy==2.4.6'
cd "$folder"
cat > check.py <<'EOF'
import os, resource, sys, time
import numpy as np
import tvm
from tvm import te
from tvm.s_tir import Schedule

n = 768
a, b = (te.placeholder((n, n), name=name) for name in "ab")
k = te.reduce_axis((0, n), name="k")
c = te.compute((n, n), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="c")
schedule = Schedule(te.create_prim_func([a, b, c]))
i, j, k = schedule.get_loops(schedule.get_sblock("c"))
schedule.reorder(i, k, j)
schedule.parallel(i)
kernel = tvm.compile(schedule.mod, target="llvm").jit()["main"]
arrays = [tvm.runtime.tensor(np.ones((n, n), "float32")) for _ in range(3)]


def cores_busy():
    kernel(*arrays)
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for _ in range(8):
        kernel(*arrays)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / wall


os.environ["TVM_NUM_THREADS"] = "2"
said, busy = tvm.runtime.num_threads(), cores_busy()
os.environ["TVM_NUM_THREADS"] = "1"
time.sleep(1)  # until the other thread of the pool has ceased to spin
still_said, then_busy = tvm.runtime.num_threads(), cores_busy()
print(f"tvm {tvm.__version__}: with 2 in the environment it says {said}, {busy:.2f} cores busy;")
print(f"with 1 put there afterwards it says {still_said}, {then_busy:.2f} cores busy")
sys.exit(not (said == 2 and busy > 1.5 and still_said == 2 and then_busy < 1.5))
EOF
[ "$(nproc)" -ge 2 ] || { echo "needs two processors"; exit 0; }
venv/bin/python check.py
echo "as found: the number that is told is not the number that runs"
