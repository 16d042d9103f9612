#!/usr/bin/env bash
# Guess: tune_tir runs in a Jupyter notebook as it does in a script, with what apache-tvm and MetaSchedule need there.
# Seen:  In a notebook MetaSchedule draws its table of tasks with pandas, which no wheel of TVM depends on and a script never
#        asks for. Tuning ends with "No module named 'pandas'" before the first candidate is measured; the same cell as a
#        script tunes.
# Means: who tunes in a notebook needs pandas as well, or has to tell MetaSchedule that it is in none.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  'apache-tvm==0.27.0.post1' 'apache-tvm-ffi==0.1.14.post1' 'numpy==2.4.6' 'scipy==1.17.1' 'cloudpickle==3.1.2' 'psutil==7.2.2' \
  'nbformat==5.10.4' 'nbclient==0.10.2' 'ipykernel==6.30.1'
cd "$folder"
cat > cell.py <<'PYTHON'
import tvm
from tvm import te
from tvm.s_tir.meta_schedule.tir_integration import tune_tir

a = te.placeholder((64, 64), name="A")
b = te.compute((64, 64), lambda i, j: a[i, j] + 1.0, name="B")


def tune(folder):
    database = tune_tir(
        te.create_prim_func([a, b]),
        target=tvm.target.Target({"kind": "llvm", "num-cores": 1}),
        work_dir=folder,
        max_trials_global=2,
        num_trials_per_iter=2,
        cost_model="random",
    )
    return len(database)
PYTHON
cat > script.py <<'PYTHON'
import cell

if __name__ == "__main__":
    print(cell.tune("of_a_script"))
PYTHON
cat > notebook.py <<'PYTHON'
import sys

import nbformat
import tvm
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

notebook = nbformat.v4.new_notebook()
notebook.cells = [nbformat.v4.new_code_cell("import cell\nprint(cell.tune('of_a_notebook'))")]
try:
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    found = "tuned"
except CellExecutionError as error:
    found = str(error.evalue).strip()
print("tvm", tvm.__version__)
print("in a notebook:", found)
sys.exit("No module named 'pandas'" not in found)
PYTHON
venv/bin/python -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("pandas") is not None)'
echo "records of a script: $(venv/bin/python script.py 2> log.txt | tail -1)"
venv/bin/python notebook.py 2>> log.txt || { tail -5 log.txt; exit 1; }
echo "as found: MetaSchedule tunes in a script, and not in a notebook without pandas"
