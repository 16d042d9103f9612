#!/usr/bin/env bash
# Guess: beside other work that keeps all cores busy, training a few trees takes two or three times as long, with any number of threads.
# Seen:  with xgboost's default, as many threads as cores, five to eight times as long, with nthread=1 not twice: what was faster alone is
#        then the slower by far. Threads meet several times for each node, and wait for one that the system has put aside a time slice long.
# Means: models that learn online, as cost models of a tuning run do, slow down on a machine that is not theirs alone: for some hundred rows
#        give nthread=1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'xgboost==3.2.0' 'numpy==2.4.6' 'scipy==1.17.1'
cd "$folder"
cat > check.py <<'EOF'
import os
import statistics
import subprocess
import sys
import time

import numpy as np
import xgboost as xgb

ROWS, COLUMNS, ROUNDS, REPEATS = 400, 40, 50, 5
cores = len(os.sched_getaffinity(0))
if cores < 2:
    sys.exit("this needs two cores")
rng = np.random.default_rng(0)
rows = rng.normal(size=(ROWS, COLUMNS)).astype("float32")
labels = rows[:, :8].sum(axis=1) + rng.normal(size=ROWS)


def seconds(threads):
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        data = xgb.QuantileDMatrix(rows, labels, nthread=threads)
        xgb.train({"tree_method": "hist", "max_depth": 5, "nthread": threads}, data, ROUNDS)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


print("xgboost", xgb.__version__, "on", cores, "cores")
seconds(1), seconds(0)
quiet = {threads: seconds(threads) for threads in (1, 0)}
work = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
try:
    time.sleep(1)
    busy = {threads: seconds(threads) for threads in (1, 0)}
finally:
    for each in work:
        each.kill()
slower = {threads: busy[threads] / quiet[threads] for threads in (1, 0)}
for threads, name in ((1, "one thread"), (0, "default")):
    print(f"{name}: {quiet[threads]:.3f} s alone, {busy[threads]:.3f} s beside other work, {slower[threads]:.1f} times")
# On a machine whose host is busy all of this varies; the two are far apart.
sys.exit(0 if slower[0] > 2.5 * slower[1] and busy[0] > 1.5 * busy[1] else 1)
EOF
"$folder/venv/bin/python" check.py
