#!/usr/bin/env bash
# Guess: an exported torch.nn.TransformerEncoder in eval mode gives what the module gives, at each place.
# Seen:  with a src_key_padding_mask the module takes a fast path by nested tensors, which writes zeros where inputs are hidden; the export
#        follows the slow path, which computes something there. The places that are not hidden are equal.
# Means: a mean over all places after the encoder differs between torch and what was exported (TVM, ONNX). Multiply by the mask, or turn the
#        fast path off (torch.backends.mha.set_fastpath_enabled) to compare.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'torch==2.13.0' 'numpy==2.4.6'
cd "$folder"
cat > check.py <<'EOF'
import sys
import torch

torch.manual_seed(0)
layer = torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.TransformerEncoder(layer, 2)

    def forward(self, x, hidden):
        return self.encoder(x, src_key_padding_mask=hidden)

net, x = Net().eval(), torch.randn(2, 6, 32)
hidden = torch.arange(6)[None] >= torch.tensor([[6], [4]])
exported = torch.export.export(net, (x, hidden)).module()
with torch.no_grad():
    module, export = net(x, hidden), exported(x, hidden)
    torch.backends.mha.set_fastpath_enabled(False)
    slow = net(x, hidden)
shown = float((module - export)[~hidden].abs().max())
print("torch", torch.__version__)
print(f"not hidden: differ by {shown:.2g}; hidden: the module has at most {float(module[hidden].abs().max()):.2g},",
      f"the export {float(export[hidden].abs().max()):.2g}; without the fast path they differ by {float((slow - export).abs().max()):.2g}")
sys.exit(not (shown < 1e-5 and module[hidden].abs().max() == 0 and export[hidden].abs().max() > 0.1 and (slow - export).abs().max() < 1e-5))
EOF
venv/bin/python -W ignore check.py 2> /dev/null
echo "as found: zeros from the module, numbers from its export"
