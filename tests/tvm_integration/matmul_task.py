"""A small task for the tests of builder, runner and log."""

from tvm_integration.compat import BuilderInput, IRModule, RunnerInput, Target, meta_schedule, tvm

SIZE = 64
TARGET = Target({"kind": "llvm", "num-cores": 2})


def matmul(repeats: int = 1) -> IRModule:
    """A matrix product whose sum is taken `repeats` times over: slower, with the same arguments."""
    te = tvm.te
    a, b = (te.placeholder((SIZE, SIZE), name=name) for name in "AB")
    k = te.reduce_axis((0, SIZE * repeats), name="k")
    c = te.compute(
        (SIZE, SIZE),
        lambda i, j: te.sum(a[i, k % SIZE] * b[k % SIZE, j], axis=k),
        name="C",
    )
    return IRModule({"main": te.create_prim_func([a, b, c])})


def build_inputs(count: int) -> list[BuilderInput]:
    return [BuilderInput(matmul(1 + index), TARGET) for index in range(count)]


def runner_input(artifact_path: str) -> RunnerInput:
    info = meta_schedule.arg_info.TensorInfo("float32", [SIZE, SIZE])
    return RunnerInput(artifact_path, "cpu", [info] * 3)


def tune(module: IRModule, work_dir: str, **options) -> meta_schedule.database.Database:
    """Tune with schedules drawn at random."""
    return meta_schedule.tir_integration.tune_tir(
        module, TARGET, work_dir, strategy="replay-trace", cost_model="random", seed=1, **options
    )
