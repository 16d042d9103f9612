#!/usr/bin/env bash
# Guess: a record of MetaSchedule's JSON database, read back from its file, is the record that was committed: its trace gives the same program.
# Seen:  where weights are rearranged (a function with `layout_free_buffers`) it is not: the annotation `meta_schedule.layout_rewrite_preproc`
#        is true in the trace that was measured and 1 in the one that was read, and so the two programs have different structural hashes.
# Means: whatever knows measured programs by their hash, as TVM's evolution does, does not know those of an earlier process with weight
#        prepacking, and measures them again.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  'apache-tvm==0.27.0.post1' 'apache-tvm-ffi==0.1.14.post1' 'numpy==2.4.6' 'scipy==1.17.1' 'psutil==7.1.3' 'cloudpickle==3.1.2' \
  'xgboost==3.1.2' 'tornado==6.5.2' 'pandas==2.3.3'
cd "$folder"
cat > check.py <<'EOF'
import os
import sys
import tvm
from tvm import te
from tvm.s_tir import meta_schedule as ms
from tvm_ffi import structural_hash

TARGET = tvm.target.Target({"kind": "llvm", "num-cores": 1})


def hashes(layout_free):
    """Structural hash of the program that was committed, and of the one that its record gives when it is read."""
    a, b = (te.placeholder((64, 64), name=name) for name in "AB")
    k = te.reduce_axis((0, 64), name="k")
    c = te.compute((64, 64), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="C")
    function = te.create_prim_func([a, b, c])
    if layout_free:
        function = function.with_attr("layout_free_buffers", [1])
    module = tvm.IRModule({"main": function})
    context = ms.TuneContext(
        mod=module, target=TARGET, space_generator="post-order-apply", search_strategy="replay-trace", num_threads=1, rand_state=1,
    ).clone()
    context.pre_tuning(1, 1, context.generate_design_space(), ms.database.MemoryDatabase(), ms.cost_model.RandomModel())
    (candidate,) = context.generate_measure_candidates()
    folder = f"database-{layout_free}"
    os.mkdir(folder)
    database = ms.database.JSONDatabase(work_dir=folder)
    workload = database.commit_workload(module)
    database.commit_tuning_record(ms.database.TuningRecord(candidate.sch.trace, workload, [1e-3], TARGET, candidate.args_info))
    (record,) = ms.database.JSONDatabase(work_dir=folder).get_all_tuning_records()
    read = record.as_measure_candidate().sch
    annotations = [
        str(instruction[1][1]) for trace in (candidate.sch.trace, read.trace) for instruction in trace.as_json()[0]
        if instruction[0] == "Annotate" and instruction[2][0] == "meta_schedule.layout_rewrite_preproc"
    ]
    return structural_hash(candidate.sch.mod) == structural_hash(read.mod), annotations


print("apache-tvm", tvm.__version__)
plain, _ = hashes(False)
prepacked, annotations = hashes(True)
print(f"same program when read back: {plain}; with weights that are rearranged: {prepacked}; the annotation: {' then '.join(annotations)}")
sys.exit(not (plain and not prepacked and annotations == ["True", "1"]))
EOF
venv/bin/python -W ignore check.py > log 2>&1 || { tail -5 log; exit 1; }
grep -vE "^\[|Warning|INFO" log | tail -4
echo "as found: with weight prepacking a record that is read back is another program"
