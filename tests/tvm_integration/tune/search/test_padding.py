"""Sketches that pad the loops of matrix products which do not tile."""

import numpy as np
import pytest
import torch
from sampled_database import TARGET as UNOPTIMIZED
from search_tasks import TARGET, matmul, relu
from test_sketch import context_of
from test_strategy import LikesTiles

from tvm_integration.compat import IRModule, Schedule, Target, meta_schedule, tvm
from tvm_integration.compile.build import build, fuse
from tvm_integration.compile.execution import compare_outputs, run
from tvm_integration.frontends.torch_program import from_torch
from tvm_integration.identity import program_hash
from tvm_integration.tune.search import padding
from tvm_integration.tune.search.padding import padded_spaces
from tvm_integration.tune.search.programs import ProgramMaker
from tvm_integration.tune.search.sketch import sketches_of
from tvm_integration.tune.search.strategy import Effort, SketchSearch

te = tvm.te
GPU = Target("nvidia/nvidia-a100")


def product(rows: int, columns: int, depth: int = 16, batch: int = 0, dtype: str = "float32"):
    """A matrix product, of several matrices with a batch, and what is added to it."""
    front = (batch,) if batch else ()
    left = te.placeholder((*front, rows, depth), dtype, name="A")
    right = te.placeholder((*front, depth, columns), dtype, name="B")
    k = te.reduce_axis((0, depth), name="k")

    def body(*place):
        first, (i, j) = place[:-2], place[-2:]
        return te.sum(left[(*first, i, k)] * right[(*first, k, j)], axis=k)

    result = te.compute((*front, rows, columns), body, name="C")
    added = te.compute(result.shape, lambda *place: result[place] + 1, name="D")
    return IRModule({"main": te.create_prim_func([left, right, added])})


def convolution():
    data, weight = te.placeholder((1, 4, 13, 13)), te.placeholder((8, 4, 3, 3))
    result = tvm.topi.nn.conv2d_nchw(data, weight, 1, 0, 1)
    return IRModule({"main": te.create_prim_func([data, weight, result])})


def softmax():
    data = te.placeholder((53, 53))
    return IRModule({"main": te.create_prim_func([data, tvm.topi.nn.softmax(data, axis=-1)])})


def paddings(mod) -> list:
    """To what loops are padded, way by way."""
    return [next(iter(each.values())) for each in padding._options(mod)]


@pytest.mark.parametrize(
    ("mod", "expected"),
    [
        (product(197, 192), [(8, 1, 1), (16, 1, 1)]),  # rows of a ViT
        (product(197, 197, batch=3), [(1, 8, 8, 1), (1, 16, 16, 1)]),  # its attention
        (product(64, 50257), [(1, 8, 1), (1, 16, 1)]),  # columns that make no vectors
        (product(53, 49), [(8, 8, 1), (8, 16, 1)]),  # 64 rows would waste a fifth
        (product(17, 64), []),  # and 24 of them a third
        (product(49, 512), []),  # 7 rows are a tile
        (product(128, 256), []),
        (product(1, 1000), []),
        (product(7, 64), []),
        (product(197, 192, dtype="int8"), []),
        (relu(197), []),
        (softmax(), []),
    ],
)
def test_loops_are_padded_that_do_not_tile(mod, expected):
    assert paddings(mod) == expected


def test_a_reduction_is_left_alone():
    assert paddings(product(64, 64, depth=197)) == []


@pytest.mark.parametrize(
    ("mod", "target"),
    [(convolution(), TARGET), (product(128, 256), TARGET), (product(197, 192), GPU)],
)
def test_of_other_kernels_and_devices_there_are_no_further_sketches(mod, target):
    assert padded_spaces(context_of(mod, target)) == []


@pytest.fixture(scope="module")
def programs():
    """Of each padded sketch of a product some programs."""
    context = context_of(product(53, 49, batch=2))
    sketches = sketches_of(padded_spaces(context), 2)
    rng = np.random.default_rng(0)
    maker = ProgramMaker(context.mod, context.space_generator.postprocs, 2, rng)
    found = {
        key: maker.make([(sketch, row) for row in sketch.draw(4, rng)])
        for key, sketch in sketches.items()
    }
    return context.mod, sketches, found


def test_each_way_has_sketches_of_its_own_that_are_programs(programs):
    _, sketches, found = programs
    assert len(sketches) == 2 * len(context_of(matmul()).generate_design_space())
    assert all(found.values())


def test_padded_programs_compute_the_same(programs):
    _, _, found = programs
    rng = np.random.default_rng(0)
    left, right = rng.random((2, 53, 16), np.float32), rng.random((2, 16, 49), np.float32)
    for made in found.values():
        library = tvm.compile(made[0].candidate.sch.mod, target=UNOPTIMIZED)
        arrays = [tvm.runtime.tensor(each) for each in (left, right)]
        result = tvm.runtime.tensor(np.full((2, 53, 49), np.nan, np.float32))
        library["main"](*arrays, result)
        np.testing.assert_allclose(result.numpy(), left @ right + 1, rtol=1e-5)


def test_decisions_are_read_back_and_a_trace_applies_to_the_kernel_as_it_was(programs):
    mod, sketches, found = programs
    for key, made in found.items():
        for program in made:
            schedule = program.candidate.sch
            assert sketches[key].read(schedule.trace).tolist() == program.decisions.tolist()
            again = Schedule(mod)
            schedule.trace.apply_to_schedule(again, remove_postproc=False)
            assert program_hash(again) == program_hash(schedule)


def test_a_search_gives_padded_programs_too(programs):
    mod, _, _ = programs
    context = meta_schedule.TuneContext(
        mod=mod,
        target=TARGET,
        space_generator="post-order-apply",
        search_strategy=SketchSearch(Effort(first=24, rounds=0), library=False),
        task_name="product",
        rand_state=1,
        num_threads=2,
    ).clone()
    context.pre_tuning(24, 24, context.generate_design_space(), None, LikesTiles())
    given = context.generate_measure_candidates()
    names = [{str(one.kind.name) for one in each.sch.trace.insts} for each in given]
    padded = sum("PadEinsum" in each for each in names)
    assert 0 < padded < len(given)


def test_a_network_is_built_with_a_padded_program():
    """With weights rearranged when it is built, as the program asks."""

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.product = torch.nn.Linear(16, 24)

        def forward(self, x):
            return torch.relu(self.product(x))

    x = torch.randn((53, 16), generator=torch.Generator().manual_seed(0))
    loaded = from_torch("net", Net().eval(), (x,), {})
    fused = fuse(loaded.module, UNOPTIMIZED)
    (task,) = fused.tasks
    context = context_of(task.mod, UNOPTIMIZED)
    sketches = sketches_of(padded_spaces(context), 2)
    rng = np.random.default_rng(0)
    maker = ProgramMaker(context.mod, context.space_generator.postprocs, 2, rng)
    wanted = [(sketch, row) for sketch in sketches.values() for row in sketch.draw(2, rng)]
    database = meta_schedule.database.MemoryDatabase()
    workload = database.commit_workload(task.mod)
    made = maker.make(wanted)[-1].candidate
    database.commit_tuning_record(
        meta_schedule.database.TuningRecord(
            made.sch.trace, workload, [1e-3], UNOPTIMIZED, made.args_info
        )
    )
    built = build(fused, database)
    assert built.tuned == {task.name}
    expected = loaded.reference.run(loaded.inputs)
    assert compare_outputs(run(built, loaded.inputs), expected).match
