#!/usr/bin/env bash
# Guess: `max_jobs_per_core` of MetaSchedule's ParallelizeVectorizeUnroll, which becomes the annotation `meta_schedule.parallel`, is what its
#        documentation says: an upper limit of CPU parallelism; where the outermost loop has more iterations, nothing is parallel.
# Seen:  it is nearer to a lower limit. The outermost loop becomes parallel whatever it is, and loops are fused with it until there are more
#        iterations than the number says, whole loops at a time: with outer loops of 64, 2, 4 and 128 iterations 2 gives 64, 64 gives 128 and
#        4096 gives 65536.
# Means: a small number does not keep TVM from making thousands of jobs, nor does it make a program serial; a search that varies it changes
#        how many loops are fused.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  'apache-tvm==0.27.0.post1' 'apache-tvm-ffi==0.1.14.post1' 'numpy==2.4.6' 'scipy==1.17.1' 'psutil==7.1.3' 'cloudpickle==3.1.2' \
  'xgboost==3.1.2' 'tornado==6.5.2' 'pandas==2.3.3'
cd "$folder"
cat > check.py <<'EOF'
import re
import sys
import tvm
from tvm import te
from tvm.s_tir import meta_schedule as ms

SIZE, OUTER, INNER = 256, 64, 2
a, b = (te.placeholder((SIZE, SIZE), name=name) for name in "AB")
k = te.reduce_axis((0, SIZE), name="k")
c = te.compute((SIZE, SIZE), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="C")
rewrite = ms.postproc.RewriteParallelVectorizeUnroll()
context = ms.TuneContext(
    mod=te.create_prim_func([a, b, c]), target=tvm.target.Target({"kind": "llvm", "num-cores": 2}),
    space_generator=ms.space_generator.PostOrderApply(postprocs=[rewrite], mutator_probs={}), search_strategy="evolutionary", num_threads=1,
).clone()


def parallel_loops(jobs):
    """Iterations of the parallel loops of the matrix product, its outer loops of OUTER and INNER iterations."""
    schedule = tvm.s_tir.Schedule(context.mod)
    block = schedule.get_sblock("C")
    i, j, k = schedule.get_loops(block)
    i0, i1 = schedule.split(i, [OUTER, None])
    j0, j1 = schedule.split(j, [INNER, None])
    schedule.reorder(i0, j0, i1, j1, k)
    root = schedule.get_sblock("root")
    schedule.annotate(root, "meta_schedule.parallel", jobs)
    schedule.enter_postproc()
    assert context.space_generator.postprocs[0].apply(schedule)
    return [int(extent) for extent in re.findall(r"T\.parallel\((\d+)\)", schedule.mod.script())]


print("apache-tvm", tvm.__version__)
seen = {jobs: parallel_loops(jobs) for jobs in (2, 32, OUTER, OUTER * INNER, 4096)}
for jobs, loops in seen.items():
    print(f"outer loops of {OUTER} and {INNER} iterations, {jobs} jobs: parallel loops of {loops} iterations")
sys.exit(list(seen.values()) != [[64], [64], [128], [512], [65536]])
EOF
venv/bin/python -W ignore check.py 2>&1 | grep -vE "^\[|Warning"
test "${PIPESTATUS[0]}" -eq 0
echo "as found: more iterations than the upper limit says"
