"""No program is measured twice, not even after a restart; budgets hold."""

import numpy as np
import pytest
from search_tasks import TARGET, matmul

from tvm_integration.collect.candidates import CandidateSource
from tvm_integration.compat import meta_schedule, relax
from tvm_integration.compile.fusion import fuse
from tvm_integration.identity import program_hash
from tvm_integration.tune.search.asking import search_candidates
from tvm_integration.tune.search.evolution import UnrepeatedSearch


def scatter():
    """TVM fails when it draws schedules: it would rewrite the layout of the constant, in vain."""
    x = relax.Var("x", relax.TensorType((8, 16), "float32"))
    rows = relax.const(np.array([[1], [3], [5], [7]], "int64"))
    updates = relax.Var("updates", relax.TensorType((4, 16), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x, updates]):
        with builder.dataflow():
            scattered = builder.emit(relax.op.scatter_nd(x, rows, updates, "update"))
            out = builder.emit_output(scattered)
        builder.emit_func_output(out)
    (task,) = fuse(builder.get(), TARGET).tasks
    return task.mod


def search_for(measured=(), informed=False, left=1000, mod=None, **options):
    context = meta_schedule.TuneContext(
        mod=mod or matmul(),
        target=TARGET,
        space_generator="post-order-apply",
        search_strategy=UnrepeatedSearch(
            set(measured),
            lambda: informed,
            lambda: left,
            **options,
            population_size=64,
            genetic_num_iters=1,
        ),
        task_name="matmul",
        rand_state=7,
        num_threads=2,
    ).clone()
    context.pre_tuning(
        1000,
        16,
        context.generate_design_space(),
        meta_schedule.database.MemoryDatabase(),
        meta_schedule.cost_model.RandomModel(),
    )
    return context


def batch_of(context):
    candidates = context.generate_measure_candidates()
    context.notify_runner_results(candidates, [None] * 0)
    return [program_hash(candidate.sch) for candidate in candidates]


def test_batches_hold_distinct_new_programs():
    for informed in (False, True):
        context = search_for(informed=informed)
        first, second = batch_of(context), batch_of(context)
        assert len(first) == len(set(first)) > 4
        assert not set(first) & set(second)


def test_programs_of_an_earlier_run_are_left_out():
    earlier = batch_of(search_for(informed=False))
    again = batch_of(search_for(measured=earlier, informed=False))
    assert not set(earlier) & set(again)


def test_a_batch_is_cut_to_the_budget():
    assert len(batch_of(search_for(left=3))) == 3


def test_a_kernel_that_cannot_be_searched_is_named_and_left_out(caplog):
    named = []
    assert search_for(mod=scatter(), on_failed=named.append).generate_measure_candidates() is None
    assert named == ["matmul"]
    assert "matmul stays unscheduled: TVM cannot search it (RuntimeError: " in caplog.text
    source = CandidateSource(scatter(), TARGET, name="scatter", rng=np.random.default_rng(0))
    assert source.random(4) == []
    assert "scatter stays unscheduled" in caplog.text


def test_other_errors_of_a_search_stay_errors():
    class Failing:
        def generate_measure_candidates(self):
            raise RuntimeError("the cost model divided by zero")

    with pytest.raises(RuntimeError, match="divided by zero"):
        search_candidates(Failing().generate_measure_candidates, "matmul")
