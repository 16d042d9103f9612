#!/usr/bin/env bash
# Guess: TVM's FoldConstant keeps the kernels that it has built, so that folding twelve batch norms of one size takes about as long as
#        folding one.
# Seen:  each call with constant arguments is built anew, with LLVM: twelve batch norms of 8 channels are 72 builds of 3 distinct kernels,
#        though the module has them once each.
# Means: lowering a convolutional network spends most of its time there (MobileNetV2: 14 of 15 seconds on a busy machine). Building each
#        distinct kernel once gave the same constants in 2 seconds. An error while folding is swallowed, and the call stays.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  'apache-tvm==0.27.0.post1' 'apache-tvm-ffi==0.1.14.post1' 'numpy==2.4.6' 'scipy==1.17.1'
cd "$folder"
cat > check.py <<'EOF'
import sys
import time
import numpy as np
import tvm
import tvm_ffi
from tvm import relax

NORMS, CHANNELS = 12, 8

def network(norms):
    """Batch norms one after the other, each with weights of its own."""
    rng, builder = np.random.default_rng(0), relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType([1, CHANNELS, 4, 4], "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = x
            for _ in range(norms):
                weights = [relax.const(rng.uniform(0.5, 2, CHANNELS).astype("float32")) for _ in range(4)]
                y = builder.emit(relax.op.nn.batch_norm(y, *weights, axis=1, training=False))
                y = builder.emit(relax.TupleGetItem(y, 0))
            y = builder.emit_output(y)
        builder.emit_func_output(y)
    return builder.get()

original, built = tvm.get_global_func("tirx.build"), []

def counted(function, *rest):
    built.append(tvm_ffi.structural_hash(function))
    return original(function, *rest)

def fold(norms):
    """Builds, distinct builds and seconds of folding."""
    built.clear()
    transform = relax.transform
    before = [transform.DecomposeOpsForInference(), transform.CanonicalizeBindings(), transform.LegalizeOps()]
    with tvm.target.Target("llvm"):
        module = tvm.transform.Sequential(before)(network(norms))
        start = time.perf_counter()
        folded = transform.FoldConstant()(module)
        seconds = time.perf_counter() - start
    kernels = [f for f in module.functions.values() if isinstance(f, tvm.tirx.PrimFunc)]
    print(f"{norms} batch norms: {len(kernels)} kernels in the module, {len(built)} builds, {len(set(built))} distinct, {seconds:.2f} s")
    return len(built), len(set(built))

print("apache-tvm", tvm.__version__)
tvm.register_global_func("tirx.build", counted, override=True)
one, one_distinct = fold(1)
many, many_distinct = fold(NORMS)
sys.exit(not (many == NORMS * one and many_distinct == one_distinct < one))
EOF
venv/bin/python -W ignore check.py
echo "as found: each call is a build of its own"
