#!/usr/bin/env bash
# Guess: torch.onnx.export keeps the name of a parameter, and stores one that two layers share once.
# Seen:  what a Linear becomes hangs on the rank of its input. On [N, K] its weight keeps its name. On [N, T, K], as in every transformer,
#        it is stored transposed as "val_0"; one tied to an embedding is stored twice where it is small, and where it is large it keeps
#        its name and the file transposes it in every call.
# Means: who looks layers up by the names of initializers finds few of a transformer's, and a tied head costs space or time.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'torch==2.13.0' 'onnx==1.23.2' 'onnxscript==0.7.2' 'numpy==2.4.6'
cd "$folder"
cat > check.py <<'EOF'
import sys
import onnx
import torch

class Head(torch.nn.Module):
    def __init__(self, width, words, tied):
        super().__init__()
        self.embedding = torch.nn.Embedding(words, width)
        self.head = torch.nn.Linear(width, words, bias=False)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.embedding(tokens))

def exported(*shape, width, words, tied):
    tokens = torch.zeros(shape, dtype=torch.long)
    torch.onnx.export(Head(width, words, tied).eval(), (tokens,), "head.onnx", dynamo=True, verbose=False)
    graph = onnx.load("head.onnx").graph
    found = [each.name for each in graph.initializer], [each.op_type for each in graph.node]
    print(f"tokens {list(shape)}, {width} to {words}, {'tied' if tied else 'own weight'}:", *found)
    return found

print("torch", torch.__version__, "onnx", onnx.__version__)
small, large = {"width": 16, "words": 32}, {"width": 768, "words": 768}
sys.exit(not (
    exported(8, **large, tied=False)[0] == ["embedding.weight", "head.weight"]
    and exported(1, 8, **large, tied=False)[0] == ["embedding.weight", "val_0"]
    and exported(8, **small, tied=True) == (["head.weight"], ["Gather", "Gemm"])
    and exported(1, 8, **small, tied=True)[0] == ["head.weight", "val_0"]
    and exported(1, 8, **large, tied=True) == (["head.weight"], ["Gather", "Transpose", "MatMul"])
))
EOF
venv/bin/python -W ignore check.py 2> /dev/null
echo "as found: the rank of the input decides whether a weight keeps its name, and whether it is shared"
