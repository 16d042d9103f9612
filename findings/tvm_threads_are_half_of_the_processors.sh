#!/usr/bin/env bash
# Guess: a kernel compiled by TVM for a target with num-cores=N runs on N threads, or at least on all cores.
# Seen:  on x86 the pool takes half of the logical processors, whatever the target says, because it assumes two
#        hardware threads a core; on a cloud machine of two virtual cores that is one thread. The function that
#        configures the pool cannot raise the number afterwards. TVM_NUM_THREADS, set before the pool starts, does.
# Means: `parallel` brings nothing on such machines, tuning is taught so, and nobody is told.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'apache-tvm==0.27.0.post1' 'apache-tvm-ffi==0.1.14.post1' 'numpy==2.4.6'
cd "$folder"
cat > check.py <<'EOF'
import os, platform, sys
import tvm

print("tvm", tvm.__version__, platform.machine(), "logical processors:", os.cpu_count())
logical = os.cpu_count()
wanted = int(os.environ.get("TVM_NUM_THREADS", 0))
alone = tvm.runtime.num_threads()
tvm.get_global_func("runtime.config_threadpool")(1, logical)
raised = tvm.runtime.num_threads()
print("TVM_NUM_THREADS:", wanted or "not set", "-> threads:", alone, "after config_threadpool:", raised)
if wanted:
    sys.exit(alone != wanted)
expected = max(1, logical // 2) if platform.machine() in ("x86_64", "AMD64") else logical
sys.exit(not (alone == expected and raised == alone))
EOF
unset TVM_NUM_THREADS OMP_NUM_THREADS
venv/bin/python check.py
TVM_NUM_THREADS=$(nproc) venv/bin/python check.py
echo "as found: half of the logical processors, and no way up but the variable"
