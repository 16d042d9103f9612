"""Fusing, building with a database, and the tuning pipeline."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sampled_database import TARGET, commit, fused, network, sampled_database

from costmodels.errors import CostModelError, InputError
from tvm_integration.compat import Target, meta_schedule, relax, structural_equal, tvm
from tvm_integration.compile import build as pipeline
from tvm_integration.compile import fusion
from tvm_integration.compile.build import build, fuse
from tvm_integration.compile.execution import compare_outputs, run
from tvm_integration.frontends.torch_program import from_torch
from tvm_integration.tune import relax_pass
from tvm_integration.tune.relax_pass import tuning_pipeline

CONVOLUTIONAL = "zoo:resnet18,image=32"
DEPTHWISE = "zoo:mobilenet_v2,image=32"
TRANSFORMER = "zoo:bert_tiny,sequence=16"
PERCEPTRON = "zoo:mlp"


def called_kernels(module) -> list[str]:
    """Return the kernels that `main` calls, one entry a call."""
    names = []
    for block in module["main"].body.blocks:
        for binding in block.bindings:
            call = getattr(binding, "value", None)
            if isinstance(call, relax.Call) and call.op == tvm.ir.Op.get("relax.call_tir"):
                names.append(call.args[0].name_hint)
    return names


def from_function(function, shape=(8, 8)):
    """Fuse a network made of one product with weights and a function."""

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.eye(shape[1]))

        def forward(self, x):
            return function(x @ self.weight)

    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    loaded = from_torch("net", Net().eval(), (x,), {})
    return loaded, fuse(loaded.module, TARGET)


# Fusing


@pytest.mark.parametrize("model", [CONVOLUTIONAL, TRANSFORMER, PERCEPTRON])
def test_tasks_cover_every_call(model):
    network_of_kernels = fused(model)
    calls = called_kernels(network_of_kernels.module)
    assert network_of_kernels.untunable == ()
    assert sum(t.weight for t in network_of_kernels.tasks) == len(calls)
    for task in network_of_kernels.tasks:
        assert task.weight == sum(calls.count(name) for name in task.kernels)
        assert task.name in task.kernels
    firsts = [min(calls.index(name) for name in t.kernels) for t in network_of_kernels.tasks]
    assert firsts == sorted(firsts)
    assert len({t.name for t in network_of_kernels.tasks}) == len(network_of_kernels.tasks)


def test_resnet18_is_cut_at_its_convolutions():
    tasks = fused(CONVOLUTIONAL).tasks
    convolutions = [t for t in tasks if "conv2d" in t.name]
    assert sum(t.weight for t in convolutions) == 20
    # Each with its normalization and activation: nothing else but pooling and the classifier.
    assert sum(t.weight for t in tasks) == 23
    # 2 flop a multiply-add, 36.8 M of them at 32 pixels (1.81 G at 224, over 49).
    assert sum(t.weight * t.flop for t in convolutions) == pytest.approx(2 * 1.81e9 / 49, rel=0.05)


def test_what_a_network_touches_is_its_input_its_weights_and_its_largest_kernel():
    _, small = from_function(torch.relu, shape=(8, 16))
    one_array, weight = 4 * 8 * 16, 4 * 16 * 16
    kernel = one_array + weight + one_array
    assert small.footprint_bytes == one_array + weight + kernel
    # 11.7 M parameters, of which only the normalizations' are folded.
    assert 4 * 11.6e6 < fused(CONVOLUTIONAL).footprint_bytes < 4 * 11.7e6 + 10e6


def test_what_users_give_to_a_pass_may_have_any_parameters():
    count = tvm.tirx.Var("n", "int64")
    types = [
        relax.TensorType((4, 2), "float16"),
        relax.TensorType((count, 4), "float32"),
        relax.TensorType(ndim=2, dtype="float32"),
        relax.TupleType([relax.TensorType((3, 4), "float32")]),
    ]
    builder = relax.BlockBuilder()
    parameters = [relax.Var(f"x{number}", each) for number, each in enumerate(types)]
    with builder.function("main", parameters):
        builder.emit_func_output(parameters[0])
    assert fusion.footprint_bytes(builder.get(), []) == 2 * 4 * 2


def test_a_reshape_is_no_task():
    # As stock tuning does it, reshapes are tuned, and copied at run time.
    stock = tvm.transform.Sequential(
        [
            p
            for p in fusion.fusion_passes(TARGET, prepack_weights=False)
            if p.info.name != "RewriteDataflowReshape"
        ]
    )
    with TARGET:
        module = stock(network(TRANSFORMER).module)
    stock_names = set(called_kernels(module))
    assert any(name.startswith("reshape") for name in stock_names)
    assert not any(t.name.startswith("reshape") for t in fused(TRANSFORMER).tasks)
    assert len(fused(TRANSFORMER).tasks) < len(stock_names)


def test_tasks_are_the_keys_of_tunes_own_extraction():
    ours = fused(PERCEPTRON)
    theirs = meta_schedule.relax_integration.extract_tasks(ours.module, TARGET)
    database = meta_schedule.database.MemoryDatabase()
    for task in theirs:
        database.commit_workload(task.dispatched[0])
    assert all(database.has_workload(task.mod) for task in ours.tasks)


def test_both_branches_of_a_condition_have_tasks():
    builder = relax.BlockBuilder()
    c = relax.Var("c", relax.TensorType([], "bool"))
    x = relax.Var("x", relax.TensorType([4], "float32"))
    with builder.function("main", [c, x], pure=True):
        branches = [relax.SeqExpr([], relax.op.exp(x)), relax.SeqExpr([], relax.op.sin(x))]
        builder.emit_func_output(builder.emit(relax.If(c, *branches)))
    cut = fuse(builder.get(), TARGET)
    assert len(cut.tasks) == 2
    built = build(cut)
    value = np.float32([0, 1, 2, 3])
    for condition, function in [(True, np.exp), (False, np.sin)]:
        (got,) = run(built, [np.array(condition), value])
        np.testing.assert_allclose(got, function(value), rtol=1e-5)


def test_kernels_that_cannot_be_tuned_are_named_with_the_reason():
    _, library = from_function(lambda x: torch.cumsum(x, 1))
    assert [t.name for t in library.tasks] == ["matmul1"]
    assert [(k.name, k.weight) for k in library.untunable] == [("cumsum1", 1)]
    assert (
        library.untunable[0].reason == "its body is a library call or plain loops without a block"
    )


def test_scheduled_kernels_and_library_functions_are_untunable():
    base = fused(PERCEPTRON)
    variable = base.module.get_global_var(base.tasks[0].name)
    module = tvm.IRModule(dict(base.module.functions))
    module.update_func(variable, base.module[variable].with_attr("tirx.is_scheduled", True))
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType([4], "float32"))
    with builder.function("main", [x]):
        y = builder.emit(relax.call_dps_packed("their.kernel", (x,), x.ty))
        builder.emit_func_output(y)
    again = fuse(module, TARGET, prepack_weights=False)
    assert (base.tasks[0].name, 1, "it is scheduled already") in {
        (k.name, k.weight, k.reason) for k in again.untunable
    }
    assert base.tasks[0].name not in {t.name for t in again.tasks}
    library = fuse(builder.get(), TARGET)
    assert library.tasks == ()
    assert [(k.name, k.reason) for k in library.untunable] == [
        ("their.kernel", "a library function")
    ]


def test_a_shape_that_depends_on_data_is_refused():
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType([4], "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit_output(relax.op.nonzero(x))
        builder.emit_func_output(y)
    with pytest.raises(InputError) as error:
        fuse(builder.get(), TARGET)
    text = str(error.value)
    assert text.startswith("shapes inside the network must be fixed, got ")
    assert text.endswith(": take out the operators whose output shape depends on data")


# Building


@pytest.mark.parametrize(
    "model",
    [
        CONVOLUTIONAL,
        TRANSFORMER,
        PERCEPTRON,
        "zoo:vit_tiny,image=32",
        "zoo:mixer_s32,image=64",
    ],
)
def test_untuned_outputs_equal_torch(model):
    built = build(fused(model))
    assert built.tuned == frozenset()
    assert built.untuned == tuple(t.name for t in fused(model).tasks)
    inputs = network(model).inputs
    check = compare_outputs(run(built, inputs), network(model).reference.run(inputs))
    assert check.match, check.reason
    assert check.max_rel < 1e-4


@pytest.mark.parametrize(
    "model",
    [CONVOLUTIONAL, TRANSFORMER, PERCEPTRON, pytest.param(DEPTHWISE, marks=pytest.mark.exhaustive)],
)
def test_every_tuned_kernel_is_found_and_outputs_equal_torch(model):
    built = build(fused(model), sampled_database(model))
    assert built.tuned == {t.name for t in fused(model).tasks}
    assert built.untuned == ()
    inputs = network(model).inputs
    check = compare_outputs(run(built, inputs), network(model).reference.run(inputs))
    assert check.match, check.reason
    assert check.max_rel < 1e-4


def test_a_database_of_some_kernels_tunes_those():
    cut = fused(PERCEPTRON)
    database = meta_schedule.database.MemoryDatabase()
    commit(database, cut.tasks[1])
    built = build(cut, database)
    assert built.tuned == {cut.tasks[1].name}
    assert built.untuned == (cut.tasks[0].name, cut.tasks[2].name)


def test_a_task_whose_every_run_failed_is_untuned():
    cut = fused(PERCEPTRON)
    database = meta_schedule.database.MemoryDatabase()
    commit(database, cut.tasks[0], run_s=1e10)  # how TVM writes a failure
    assert build(cut, database).tuned == frozenset()


@pytest.fixture(params=[True, False], ids=["prepacked", "plain"])
def lowered(request, monkeypatch):
    """Build the perceptron and catch the module that is lowered."""
    caught = []
    compile_module = pipeline._compile

    def catch(module, target):
        caught.append(module)
        return compile_module(module, target)

    monkeypatch.setattr(pipeline, "_compile", catch)
    cut = fuse(network(PERCEPTRON).module, TARGET, prepack_weights=request.param)
    database = meta_schedule.database.MemoryDatabase()
    for task in cut.tasks:
        commit(database, task)
    built = build(cut, database)
    return request.param, cut, built, caught[0]


def test_weights_are_rearranged_at_compile_time(lowered):
    prepacked, cut, built, module = lowered
    expected = {f"{t.name}_prepacked" if prepacked else t.name for t in cut.tasks}
    assert set(called_kernels(module)) == expected
    inputs = network(PERCEPTRON).inputs
    assert compare_outputs(run(built, inputs), network(PERCEPTRON).reference.run(inputs)).match


def test_records_with_and_without_prepacking_are_not_interchangeable():
    cut = fuse(network(PERCEPTRON).module, TARGET, prepack_weights=False)
    assert build(cut, sampled_database(PERCEPTRON)).tuned == frozenset()


def test_lowering_keeps_the_kernels(monkeypatch):
    """Neither fusing nor legalizing again: the kernels compiled are the tasks, no more."""
    compiled = []
    build_module = tvm.tirx.build

    def catch(module, *args, **kwargs):
        if len(module.functions) > 1:  # constant folding builds single functions
            compiled.append({v.name_hint for v in module.get_global_vars()})
        return build_module(module, *args, **kwargs)

    monkeypatch.setattr(tvm.tirx, "build", catch)
    cut = fused(TRANSFORMER)
    build(cut)
    # TVM adds functions that compute shapes; they are no kernels.
    assert {n for n in compiled[-1] if not n.startswith("shape_func")} == {
        t.name for t in cut.tasks
    }


def test_a_lost_schedule_is_an_error(monkeypatch):
    # As `compile_relax` can do it in silence.
    monkeypatch.setattr(
        relax.transform, "MetaScheduleApplyDatabase", lambda: tvm.transform.Sequential([])
    )
    name = fused(PERCEPTRON).tasks[0].name
    with pytest.raises(CostModelError) as error:
        build(fused(PERCEPTRON), sampled_database(PERCEPTRON))
    assert str(error.value) == (
        f"kernel {name} must be built with its best schedule, got none for {name}: "
        "report this as a defect of costmodels"
    )


def test_kernels_that_tvm_cannot_compile_are_named():
    # LLVM cannot add booleans.
    block = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((3, 4), "bool"))
    with block.function("main", [x]):
        with block.dataflow():
            output = block.emit_output(relax.op.cumsum(x, 1))
        block.emit_func_output(output)
    cut = fuse(block.get(), TARGET)
    with pytest.raises(InputError) as error:
        build(cut)
    text = str(error.value)
    assert text.startswith("kernels of the network must compile for llvm, got InternalError")
    assert " in cumsum1: TVM cannot build this network" in text
    assert "\n" not in text


def test_a_gpu_target_schedules_what_the_database_does_not():
    # No GPU here: up to code generation.
    target = Target(
        {
            "kind": "cuda",
            "arch": "sm_80",
            "max_threads_per_block": 1024,
            "max_shared_memory_per_block": 49152,
            "thread_warp_size": 32,
        }
    )
    cut = fuse(network(TRANSFORMER).module, target, prepack_weights=False)
    with target:
        module = pipeline._lowering(target)(cut.module)
    functions = [f for f in module.functions.values() if isinstance(f, tvm.tirx.PrimFunc)]
    kernels = [f for f in functions if "layout" not in str(f.attrs.get("global_symbol", ""))]
    assert all(f.attrs.get("tirx.is_scheduled", False) for f in kernels if _is_kernel(f))
    assert {t.name for t in cut.tasks} <= {v.name_hint for v in module.get_global_vars()}


def _is_kernel(function) -> bool:
    return isinstance(function.body, tvm.s_tir.SBlockRealize)


# The pass


def compile_and_run(module, inputs) -> list[np.ndarray]:
    executable = tvm.compile(module, target=TARGET)
    machine = relax.VirtualMachine(executable, tvm.cpu())
    result = machine["main"](*(tvm.runtime.tensor(x) for x in inputs))
    return [x.numpy() for x in ([result] if isinstance(result, tvm.runtime.Tensor) else result)]


def test_tuning_pipeline_tunes_with_our_workers_and_resumes(tmp_path):
    loaded, _ = from_function(torch.relu)
    work_dir = str(tmp_path / "work")
    options = {"cost_model": "random", "cpu_weight_prepack": True}
    tune = tuning_pipeline(4, TARGET, work_dir, num_trials_per_iter=4, seed=1, **options)
    module = tune(loaded.module)
    assert len(meta_schedule.database.JSONDatabase(work_dir=work_dir)) == 4
    (name,) = called_kernels(module)
    assert name == "fused_matmul_relu1_prepacked"
    expected = loaded.reference.run(loaded.inputs)
    assert compare_outputs(compile_and_run(module, loaded.inputs), expected).match

    # Without trials the records are used as they are.
    again = tuning_pipeline(0, TARGET, work_dir, **options)(loaded.module)
    tvm.ir.assert_structural_equal(module[name], again[name])
    assert len(meta_schedule.database.JSONDatabase(work_dir=work_dir)) == 4


def test_tuning_pipeline_by_default_takes_our_three_objects(tmp_path):
    module = fused(PERCEPTRON).module
    objects = relax_pass._measuring(module, TARGET, str(tmp_path), None, None, None)
    assert objects["runner"].network_bytes == fused(PERCEPTRON).footprint_bytes
    assert {key: type(value).__name__ for key, value in objects.items()} == {
        "cost_model": "MetaScheduleCostModel",
        "builder": "WarmBuilder",
        "runner": "WarmRunner",
    }


def test_tuning_pipeline_takes_a_mapping_and_no_prepacking(tmp_path):
    loaded = network(PERCEPTRON)
    cut = fuse(loaded.module, TARGET, prepack_weights=False)
    database = meta_schedule.database.JSONDatabase(work_dir=str(tmp_path))
    for task in cut.tasks:
        commit(database, task)
    tune = tuning_pipeline(0, dict(TARGET.export()), str(tmp_path))
    module = tune(loaded.module)
    assert [module[n].attrs["tirx.is_scheduled"] for n in called_kernels(module)] == [True] * 3
    expected = loaded.reference.run(loaded.inputs)
    assert compare_outputs(compile_and_run(module, loaded.inputs), expected).match


def test_tuning_pipeline_with_weights_as_parameters(tmp_path):
    """Prepacking then gives the function that stock TVM gives, to be called once."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType([4, 64], "float32"))
    w = relax.Var("w", relax.TensorType([64, 32], "float32"))
    with builder.function("main", [x, w], attrs={"num_input": 1}):
        with builder.dataflow():
            y = builder.emit_output(relax.op.matmul(x, w))
        builder.emit_func_output(y)
    database = meta_schedule.database.JSONDatabase(work_dir=str(tmp_path))
    for task in fuse(builder.get(), TARGET).tasks:
        commit(database, task)
    tune = tuning_pipeline(0, TARGET, str(tmp_path), cpu_weight_prepack=True)
    executable = tvm.compile(tune(builder.get()), target=TARGET)
    machine = relax.VirtualMachine(executable, tvm.cpu())
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype("float32") for s in ((4, 64), (64, 32)))
    weights = machine["main_transform_params"]((tvm.runtime.tensor(b),))
    got = machine["main"](tvm.runtime.tensor(a), *weights).numpy()
    np.testing.assert_allclose(got, a @ b, rtol=1e-4, atol=1e-4)


def test_tuning_pipeline_of_a_network_without_tasks(tmp_path):
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType([4], "float32"))
    with builder.function("main", [x]):
        y = builder.emit(relax.call_dps_packed("their.kernel", (x,), x.ty))
        builder.emit_func_output(y)
    module = tuning_pipeline(8, TARGET, str(tmp_path / "work"), cost_model="random")(builder.get())
    assert called_kernels(module) == []


def test_tuning_pipeline_is_as_stocks_where_there_is_nothing_to_tune(tmp_path):
    """The same kernels as `static_shape_tuning` makes, reshapes aside."""
    stock = relax.get_pipeline(
        "static_shape_tuning", total_trials=0, target=TARGET, work_dir=str(tmp_path / "stock")
    )(network(TRANSFORMER).module)
    ours = tuning_pipeline(0, TARGET, str(tmp_path / "ours"))(network(TRANSFORMER).module)
    assert [n for n in called_kernels(stock) if not n.startswith("reshape")] == called_kernels(ours)


def test_built_network_is_frozen():
    built = build(fused(PERCEPTRON))
    assert replace(built, untuned=()).untuned == ()
    with pytest.raises(AttributeError):
        built.untuned = ()


def test_what_cannot_be_lowered_is_named_in_one_line():
    with pytest.raises(InputError, match=r"fuse the network, got .*ivide by zero") as error:
        from_function(lambda x: x / 0)
    assert "\n" not in str(error.value)


def test_kernels_are_matched_with_tasks_by_hash(monkeypatch):
    """An unrolled LSTM has a kernel a step, which compared with every task took minutes."""
    compared = []

    def counted(a, b):
        compared.append(1)
        return structural_equal(a, b)

    monkeypatch.setattr(fusion, "structural_equal", counted)
    lstm = torch.nn.LSTM(4, 8).eval()
    module = from_torch("lstm", lstm, (torch.zeros(12, 1, 4),), {}).module
    cut = fuse(module, TARGET)
    kernels = sum(len(task.kernels) for task in cut.tasks)
    assert kernels > 12
    assert kernels <= len(compared) <= kernels + 2
