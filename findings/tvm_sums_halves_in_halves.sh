#!/usr/bin/env bash
# Guess: a sum of float16 is kept in float32 until it is done, as torch does on a CPU; at least a mean of ones is one.
# Seen:  TVM adds halves in halves: from 2,048 on a half takes no further one, so the sum of 20,000 ones is 2,048 and their mean 0.1; the
#        same for cumsum and average pooling. torch's importer leaves it so. A matrix product of the same ones is right.
# Means: norms and global pooling of a network in float16 lose digits, or all of them. Cast to float32 before a long sum.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  'apache-tvm==0.27.0.post1' 'apache-tvm-ffi==0.1.14.post1' 'torch==2.13.0' 'numpy==2.4.6' 'scipy==1.17.1'
cd "$folder"
cat > check.py <<'EOF'
import sys
import torch
import tvm
from torch.nn import functional as F
from tvm import relax
from tvm.relax.frontend.torch import from_exported_program

COUNT = 20_000
CASES = {
    "sum": lambda x: x.sum(1),
    "mean": lambda x: x.mean(1),
    "cumsum, its last": lambda x: x.cumsum(1)[:, COUNT - 1],
    "avg_pool1d over all": lambda x: F.avg_pool1d(x[:, None], COUNT)[:, 0, 0],
    "matmul with ones": lambda x: x @ x.T,
}

class Net(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)

def tvm_gives(function, x):
    module = from_exported_program(torch.export.export(Net(function).eval(), (x,)))
    machine = relax.VirtualMachine(tvm.compile(module, target="llvm"), tvm.cpu())
    found = machine["main"](tvm.runtime.tensor(x.numpy()))
    found = found if isinstance(found, tvm.runtime.Tensor) else found[0]
    return float(found.numpy().reshape(-1)[0])

print("apache-tvm", tvm.__version__, "torch", torch.__version__, f": {COUNT} ones in float16")
ones, found = torch.ones(1, COUNT, dtype=torch.float16), {}
for name, function in CASES.items():
    expected = float(function(ones).reshape(-1)[0])
    found[name] = tvm_gives(function, ones), expected
    print(f"{name}: tvm {found[name][0]:g}, torch {expected:g}")
product, _ = found.pop("matmul with ones")
sys.exit(not (product == COUNT and all(abs(a / b - 2048 / COUNT) < 0.01 for a, b in found.values())))
EOF
venv/bin/python -W ignore check.py 2> /dev/null
echo "as found: 2,048 of 20,000"
