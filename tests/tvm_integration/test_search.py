"""No program is measured twice, not even after a restart; budgets hold."""

from search_tasks import TARGET, matmul

from tvm_integration.compat import meta_schedule
from tvm_integration.identity import program_hash
from tvm_integration.search import UnmeasuredSearch


def search_for(measured=(), informed=False, left=1000):
    context = meta_schedule.TuneContext(
        mod=matmul(),
        target=TARGET,
        space_generator="post-order-apply",
        search_strategy=UnmeasuredSearch(
            set(measured),
            lambda: informed,
            lambda: left,
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
