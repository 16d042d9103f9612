#!/usr/bin/env bash
# Guess: with the same seed, and a builder, a runner and a cost model that always answer the same, `tune_tir` measures the same candidates
#        each time.
# Seen:  only with num_tuning_cores=1. With four, whose threads draw from generators of their own but share the work as it comes, runs of
#        one seed differ, the first batch too; the default is as many threads as the machine has cores.
# Means: a tuning result is not reproduced by its seed, and two cost models are not compared on the same start; a benchmark of searches
#        needs several seeds, or one thread.
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
import tempfile
from pathlib import Path
import tvm
import tvm_ffi
from tvm import te
from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms

RUNS, TRIALS, BATCH = 4, 16, 8
a, b = (te.placeholder((64, 64), name=name) for name in "AB")
k = te.reduce_axis((0, 64), name="k")
c = te.compute((64, 64), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="C")
target = tvm.target.Target({"kind": "llvm", "num-cores": 4})
seen, folder = [], Path(tempfile.mkdtemp(dir="."))

@derived_object
class Builder(ms.builder.PyBuilder):
    """Builds nothing, and notes what was asked for."""

    def build(self, build_inputs):
        found = []
        for each in build_inputs:
            digest = int(tvm_ffi.structural_hash(each.mod))
            seen.append(digest)
            place = Path(tempfile.mkdtemp(dir=folder)) / "kernel"
            place.write_text(str(digest))
            found.append(ms.builder.BuilderResult(str(place), None))
        return found

@derived_object
class Runner(ms.runner.PyRunner):
    """Seconds that depend on the program alone."""

    def run(self, runner_inputs):
        found = []
        for each in runner_inputs:
            seconds = 1e-3 * (1 + int(Path(str(each.artifact_path)).read_text()) % 1000 / 1000)
            result = ms.runner.RunnerResult([seconds], None)
            found.append(ms.runner.RunnerFuture(lambda: True, lambda result=result: result))
        return found

@derived_object
class Model(ms.cost_model.PyCostModel):
    """A score that depends on the program alone."""

    def update(self, context, candidates, results):
        pass

    def predict(self, context, candidates):
        import numpy
        return numpy.array([1 + int(tvm_ffi.structural_hash(each.sch.mod)) % 1000 for each in candidates], "float64")

def candidates(threads):
    seen.clear()
    with tempfile.TemporaryDirectory() as work_dir:
        ms.tir_integration.tune_tir(
            te.create_prim_func([a, b, c]), target, work_dir, TRIALS, num_trials_per_iter=BATCH,
            builder=Builder(), runner=Runner(), cost_model=Model(), num_tuning_cores=threads, seed=7,
        )
    return tuple(seen)

print("apache-tvm", tvm.__version__)
distinct = {threads: {candidates(threads) for _ in range(RUNS)} for threads in (1, 4)}
for threads, runs in distinct.items():
    firsts = len({run[:BATCH] for run in runs})
    print(f"{RUNS} runs of one seed, {threads} threads: {len(runs)} different lists of candidates, {firsts} different first batches")
sys.exit(not (len(distinct[1]) == 1 and len(distinct[4]) > 1))
EOF
venv/bin/python -W ignore check.py 2>/dev/null | grep -E "apache-tvm|runs of one seed"
test "${PIPESTATUS[0]}" -eq 0
echo "as found: a seed alone does not repeat a search"
