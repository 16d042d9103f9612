#!/usr/bin/env bash
# Guess: TVM's importer of torch.export programs refuses what draws random numbers, as it does rand_like and multinomial: TVM has no such
#        state.
# Seen:  randn and randn_like are drawn once, while importing, and are constants of the network from then on: each call adds the same
#        noise. Dropout in training mode is left out. gumbel_softmax, whose exponential_ is left out, gives NaN. Nothing is said.
# Means: samplers, noise layers and Monte Carlo dropout import, tune and run, and all their samples are one.
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

CASES = {
    "x + randn_like(x)": lambda x: x + torch.randn_like(x),
    "dropout, training": lambda x: F.dropout(x, 0.5, training=True),
    "rand_like(x)": lambda x: torch.rand_like(x),
    "bernoulli(sigmoid(x))": lambda x: torch.bernoulli(x.sigmoid()),
    "randperm(8)": lambda x: x[:, torch.randperm(8)],
    "x + randn(1, 8)": lambda x: x + torch.randn(1, 8),
    "rrelu, training": lambda x: F.rrelu(x, training=True),
    "gumbel_softmax": lambda x: F.gumbel_softmax(x),
    "multinomial": lambda x: torch.multinomial(x.softmax(1), 2),
}

class Net(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)

def tvm_gives(function, x):
    """The outputs of two calls of what was imported once."""
    module = from_exported_program(torch.export.export(Net(function), (x,)))
    machine = relax.VirtualMachine(tvm.compile(module, target="llvm"), tvm.cpu())
    found = [machine["main"](tvm.runtime.tensor(x.numpy())) for _ in range(2)]
    return [torch.from_numpy((y if isinstance(y, tvm.runtime.Tensor) else y[0]).numpy().copy()) for y in found]

print("apache-tvm", tvm.__version__, "torch", torch.__version__)
x, found = torch.linspace(-2, 2, 8)[None], {}
for name, function in CASES.items():
    try:
        first, second = tvm_gives(function, x)
    except Exception as error:
        print(f"{name}: refused, {str(error).strip().splitlines()[-1][:100]}")
        continue
    if first.isnan().any():
        found[name] = "NaN"
    elif torch.equal(first, x):
        found[name] = "x itself"
    else:
        found[name] = "the same in both calls" if torch.equal(first, second) else "drawn anew"
    print(f"{name}: {found[name]}")
sys.exit(found != {
    "x + randn_like(x)": "the same in both calls",
    "x + randn(1, 8)": "the same in both calls",
    "dropout, training": "x itself",
    "gumbel_softmax": "NaN",
})
EOF
venv/bin/python -W ignore check.py 2> /dev/null
echo "as found: drawn once, left out, or NaN"
