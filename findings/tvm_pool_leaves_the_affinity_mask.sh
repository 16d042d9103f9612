#!/usr/bin/env bash
# Guess: a process that was confined to one processor (taskset) stays there when it runs a kernel of TVM.
# Seen:  starting TVM's thread pool binds the calling thread to the first processors of the machine, outside the mask
#        that it had. All threads made later inherit that, those of torch or onnxruntime in the same process too.
#        TVM_BIND_THREADS=0 leaves the mask alone.
# Means: two processes that were kept apart share a core, and a framework timed beside TVM is timed on one core.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'apache-tvm==0.27.0.post1' 'apache-tvm-ffi==0.1.14.post1' 'numpy==2.4.6'
cd "$folder"
cat > check.py <<'EOF'
import os, sys
import tvm

last = max(os.sched_getaffinity(0))
os.sched_setaffinity(0, {last})
threads = tvm.runtime.num_threads()
after = os.sched_getaffinity(0)
print("tvm", tvm.__version__, "threads:", threads, "mask before:", {last}, "after:", after)
bound = os.environ.get("TVM_BIND_THREADS") != "0"
sys.exit((after == {last}) if bound else (after != {last}))
EOF
[ "$(nproc)" -ge 2 ] || { echo "needs two processors"; exit 0; }
TVM_NUM_THREADS=1 venv/bin/python check.py
TVM_NUM_THREADS=1 TVM_BIND_THREADS=0 venv/bin/python check.py
echo "as found: the pool moves the thread out of its mask unless TVM_BIND_THREADS=0"
