"""Each operator stands with the rows of the stage that computes it; names are the truth here."""

import pytest
from search_tasks import TARGET, draw, matmul, random_candidates, te

from costmodels.dataset.folder import read_dataset
from costmodels.kernel import Task
from costmodels.testing.example_data import example_device
from tvm_integration.compat import (
    IRModule,
    MeasureCandidate,
    Schedule,
    Target,
    meta_schedule,
    normalize_prim_func,
    tvm,
)
from tvm_integration.records.rows import schedule_of, target_of, workload_of
from tvm_integration.tir.blocks import leaf_blocks, stores_of, written_by
from tvm_integration.tir.features import FeatureExtractor
from tvm_integration.tir.kernel_graph import kernel_graph
from tvm_integration.tir.stages import StageExtractor

topi = tvm.topi
TASK = Task("t", example_device())


def rows_of(mod: IRModule, target: Target = TARGET) -> int:
    context = meta_schedule.TuneContext(mod, target=target, num_threads=1)
    (program,) = FeatureExtractor().programs(
        context, [MeasureCandidate(Schedule(mod, enable_check=False), [])]
    )
    return len(program.rows)


def stages_of(mod: IRModule, schedule: Schedule) -> dict[str, list[int]]:
    """Opcode -> rows, of kernels in which each opcode occurs once."""
    found = StageExtractor(mod).extract(schedule.mod).staged
    assert found.rows == rows_of(schedule.mod)
    stages: dict[str, list[int]] = {}
    for operator, row in found.stages:
        stages.setdefault(found.graph.operators[operator].opcode, []).append(row)
    return stages


def two_layers() -> IRModule:
    """transpose -> matrix product -> bias -> relu."""
    x, w, bias = te.placeholder((32, 64)), te.placeholder((48, 64)), te.placeholder((48,))
    product = topi.nn.matmul(x, topi.transpose(w, (1, 0)))
    return normalize_prim_func(
        te.create_prim_func([x, w, bias, topi.nn.relu(topi.add(product, bias))])
    )


def softmax() -> IRModule:
    x = te.placeholder((24, 96))
    return normalize_prim_func(te.create_prim_func([x, topi.nn.softmax(x, axis=-1)]))


def convolution() -> IRModule:
    x, w, other = te.placeholder((1, 16, 14, 14)), te.placeholder((32, 16, 3, 3)), None
    conv = topi.nn.conv2d(x, w, 1, 1, 1)
    other = te.placeholder(conv.shape)
    return normalize_prim_func(
        te.create_prim_func([x, w, other, topi.nn.relu(topi.add(conv, other))])
    )


KERNELS = {
    "matmul": matmul,
    "two_layers": two_layers,
    "softmax": softmax,
    "convolution": convolution,
}


def test_the_unscheduled_program_has_a_stage_for_each_operator():
    for make in KERNELS.values():
        mod = make()
        graph = kernel_graph(mod)
        found = StageExtractor(mod).extract(mod).staged
        assert found.rows == rows_of(mod)
        computed = [n for n, each in enumerate(graph.operators) if each.opcode != "parameter"]
        assert found.stages == tuple(zip(computed, range(len(computed)), strict=True))


def test_an_inlined_operator_stands_with_its_consumer():
    mod = two_layers()
    schedule = Schedule(mod)
    _, add, relu = (block for block in schedule.get_child_blocks(schedule.get_sblock("root"))[1:])
    schedule.reverse_compute_inline(relu)
    transposed = schedule.get_child_blocks(schedule.get_sblock("root"))[0]
    schedule.compute_inline(transposed)
    assert stages_of(mod, schedule) == {"transpose": [0], "matmul": [0], "add": [1], "relu": [1]}
    del add


def test_a_copy_stands_with_what_it_copies():
    mod = matmul(64)
    schedule = Schedule(mod)
    block = schedule.get_sblock("C")
    schedule.cache_write(block, 0, "global")
    schedule.cache_read(block, 0, "global")
    # First the copy of A, then the product, then the copy of the product.
    assert stages_of(mod, schedule) == {"parameter": [0], "matmul": [1, 2]}


def test_both_steps_of_a_split_reduction_stand_with_it():
    mod = matmul(64)
    schedule = Schedule(mod)
    k = schedule.get_loops(schedule.get_sblock("C"))[-1]
    outer, _ = schedule.split(k, [None, 16])
    schedule.rfactor(outer, 0)
    assert stages_of(mod, schedule) == {"matmul": [0, 1]}


def test_setting_a_reduction_to_zero_is_no_stage():
    mod = softmax()
    schedule = Schedule(mod)
    block = schedule.get_child_blocks(schedule.get_sblock("root"))[2]
    schedule.decompose_reduction(block, schedule.get_loops(block)[0])
    assert stages_of(mod, schedule) == {
        "reduce_max": [0],
        "exp": [1],
        "reduce_sum": [2],
        "div": [3],
    }


def test_renaming_changes_nothing():
    for name, inputs in (("softmax", "AB"), ("conv2d_winograd", "yx")):
        found = []
        for mod in (matmul(64), matmul(64, name=name, inputs=inputs)):
            schedule = Schedule(mod)
            (block,) = schedule.get_child_blocks(schedule.get_sblock("root"))
            schedule.cache_write(block, 0, "global")
            found.append(StageExtractor(mod).extract(schedule.mod))
        assert found[0] == found[1]


def test_a_program_of_another_kernel_gets_no_stage():
    extractor = StageExtractor(matmul(64))
    found = extractor.checked(extractor.extract(softmax()), 7)
    assert (found.staged.stages, found.staged.rows) == ((), 7)
    assert found.nests == (None,) * 7


def names_of_rows(mod: IRModule) -> list[str]:
    """Name of the block that first writes each stage; those of TVM keep the operator's name."""
    found: dict = {}
    for realize in leaf_blocks(mod["main"].body):
        if "meta_schedule.layout_rewrite_preproc" in realize.block.annotations:
            continue  # TVM takes it out before it extracts features
        stores = [] if realize.block.init is None else list(stores_of(realize.block.init))
        for store in [*stores, *stores_of(realize.block.body)]:
            constant = isinstance(store.value, tvm.tirx.IntImm | tvm.tirx.FloatImm)
            if not constant and store.buffer in written_by(realize.block):
                found.setdefault(store.buffer, str(realize.block.name_hint))
    return list(found.values())


@pytest.mark.parametrize("name", KERNELS)
def test_what_the_search_makes_of_a_kernel(name):
    mod = KERNELS[name]()
    graph = kernel_graph(mod)
    parameters = graph.kinds and len(graph.operators) - len(graph.kinds)
    names = [str(realize.block.name_hint) for realize in leaf_blocks(mod["main"].body)]
    extractor = FeatureExtractor()
    drawn = draw(mod, count=48)
    batch = extractor.extract(drawn.context, drawn.candidates, TASK, graphs=True)
    assert batch.graph_index is not None
    for candidate, index in zip(drawn.candidates, batch.graph_index, strict=True):
        found = batch.graphs[index]
        placed = {operator for operator, _ in found.stages}
        assert placed >= set(range(parameters, len(graph.operators)))
        for row, written in enumerate(names_of_rows(candidate.sch.mod)):
            operators = {operator for operator, each in found.stages if each == row}
            truth = [n for n, each in enumerate(names) if written.startswith(each)]
            assert any(parameters + n in operators for n in truth), (written, operators)
        assert StageExtractor(mod).extract(candidate.sch.mod).staged == found


def test_gpu_programs_have_a_stage_for_each_row():
    """Reductions across threads have two rows; copies into shared memory have one."""
    target = Target("nvidia/nvidia-a100")
    for make in (softmax, matmul):
        drawn = draw(make(), target, count=16)
        extractor = FeatureExtractor()
        batch = extractor.extract(drawn.context, drawn.candidates, TASK, graphs=True)
        for graph in batch.graphs:
            assert {row for _, row in graph.stages} == set(range(graph.rows))


def test_cached_and_uncached_extraction_agree_on_the_shipped_programs():
    dataset = read_dataset("shipped:h200")
    unstaged = untold = 0
    for key in list(dataset.tasks)[::40]:
        task = dataset.tasks[key]
        mod, target = workload_of(task), target_of(task)
        programs = [
            schedule_of(mod, record.trace).mod for record in dataset.records if record.task == key
        ]
        shared = StageExtractor(mod)
        for program in programs:
            rows = rows_of(program, target)
            cached = shared.checked(shared.extract(program), rows)
            assert cached == StageExtractor(mod).extract(program)
            unstaged += not cached.staged.stages
            untold += cached.nests.count(None)
    assert unstaged == 0
    assert untold == 0


def test_extraction_with_graphs_keeps_the_rows():
    task = random_candidates()
    plain = FeatureExtractor().extract(task.context, task.candidates, TASK)
    both = FeatureExtractor().extract(task.context, task.candidates, TASK, graphs=True)
    assert (plain.rows == both.rows).all()
    assert plain.graph_index is None
    assert both.take([3, 5]).graphs[0].graph is both.graphs[0].graph
