"""The search finds what a cost model likes with few programs, repeats none and keeps to budgets."""

from itertools import pairwise

import numpy as np
import pytest
from sampled_database import fused
from search_tasks import TARGET, matmul, relu
from test_evolution import scatter

from costmodels.errors import InputError
from tvm_integration.compat import (
    PyCostModel,
    RunnerResult,
    derived_object,
    meta_schedule,
    tvm,
)
from tvm_integration.identity import program_hash, record_hash
from tvm_integration.tune.search.programs import ProgramMaker
from tvm_integration.tune.search.strategy import Effort, SketchSearch
from tvm_integration.tune.search.task_search import TaskSearch

SMALL = Effort(first=16, rounds=2, per_round=8, rows=200, parents=8)


@derived_object
class LikesTiles(PyCostModel):
    """Scores by the innermost tiles, in place of a machine: 16 by 8 with a reduction of 4."""

    def __init__(self):
        super().__init__()
        self.asked = 0

    def predict(self, context, candidates):
        self.asked += len(candidates)
        return np.array([speed(each.sch.trace) for each in candidates])

    def update(self, context, candidates, results):
        pass

    def load(self, path):
        pass

    def save(self, path):
        pass


def speed(trace):
    tiles = [
        [int(n) for n in trace.get_decision(each)]
        for each in trace.insts
        if each.kind.name == "SamplePerfectTile"
    ]
    wanted = zip(tiles, (16, 8, 4), strict=False)
    return 2.0 ** -sum(abs(np.log2(tile[-1] / best)) for tile, best in wanted)


def search_for(mod=None, effort=SMALL, model=None, trials=1000, database=None, **options):
    context = meta_schedule.TuneContext(
        mod=mod or matmul(),
        target=TARGET,
        space_generator="post-order-apply",
        search_strategy=SketchSearch(effort, **options),
        task_name="matmul",
        rand_state=7,
        num_threads=2,
    ).clone()
    context.pre_tuning(
        trials,
        8,
        context.generate_design_space(),
        database or meta_schedule.database.MemoryDatabase(),
        model or LikesTiles(),
    )
    return context


def batch_of(context, seconds=None):
    found = context.generate_measure_candidates()
    if found is None:
        return []
    results = [
        RunnerResult([1.0 / speed(c.sch.trace) if seconds is None else seconds], None)
        for c in found
    ]
    context.notify_runner_results(found, results)
    return list(found)


def test_it_finds_what_the_model_likes_with_few_programs():
    model = LikesTiles()
    context = search_for(model=model)
    batches = [batch_of(context) for _ in range(4)]
    best = [max(speed(c.sch.trace) for c in batch) for batch in batches]
    assert best[-1] == 1.0, "a thousandth of the space is as good"
    assert all(later >= earlier for earlier, later in pairwise(best[:2]))
    assert model.asked < 300
    drawn = [speed(c.sch.trace) for c in batch_of(search_for(effort=Effort(first=100, rounds=0)))]
    assert max(drawn) < 1.0


def test_no_program_is_given_twice():
    context = search_for()
    programs = [program_hash(c.sch) for _ in range(5) for c in batch_of(context)]
    assert len(programs) == len(set(programs)) == 40


def test_programs_of_an_earlier_run_are_left_out_by_program_and_by_trace():
    first = batch_of(search_for())
    programs = {program_hash(c.sch) for c in first}
    assert not programs & {program_hash(c.sch) for c in batch_of(search_for(measured=programs))}
    traces = {record_hash(matmul(), c.sch.trace) for c in first}
    again = batch_of(search_for(measured=traces))
    assert not traces & {record_hash(matmul(), c.sch.trace) for c in again}


def test_batches_keep_to_the_trials_and_to_the_time_that_is_left():
    context = search_for(trials=12)
    assert [len(batch_of(context)) for _ in range(3)] == [8, 4, 0]
    assert len(batch_of(search_for(trials_left=lambda: 3))) == 3
    assert batch_of(search_for(trials_left=lambda: 0)) == []


def test_a_model_without_opinion_gets_random_programs_and_is_asked_once():
    @derived_object
    class Even(PyCostModel):
        def __init__(self):
            super().__init__()
            self.asked = 0

        def predict(self, context, candidates):
            self.asked += len(candidates)
            return np.full(len(candidates), 0.5)

    model = Even()
    found = batch_of(search_for(model=model))
    assert len(found) == 8
    assert model.asked <= SMALL.first
    assert len({round(speed(c.sch.trace), 6) for c in found}) > 3


@pytest.mark.parametrize("bad", [np.nan, -1.0, 0.0, 1e30])
def test_scores_that_are_none_do_no_harm(bad):
    @derived_object
    class Bad(PyCostModel):
        def predict(self, context, candidates):
            scores = np.array([speed(each.sch.trace) for each in candidates])
            scores[::3] = bad
            return scores

    assert len(batch_of(search_for(model=Bad()))) == 8


def test_it_begins_with_the_best_of_a_database():
    best = max(batch_of(search_for()) + batch_of(search_for()), key=lambda c: speed(c.sch.trace))
    database = meta_schedule.database.MemoryDatabase()
    workload = database.commit_workload(matmul())
    database.commit_tuning_record(
        meta_schedule.database.TuningRecord(
            best.sch.trace, workload, [1e-3], TARGET, best.args_info
        )
    )
    context = search_for(effort=Effort(first=0, rounds=0), database=database)
    assert program_hash(batch_of(context)[0].sch) == program_hash(best.sch)


def test_a_space_of_few_programs_ends(monkeypatch):
    make, attempts = ProgramMaker.make, []

    def counted(self, wanted):
        attempts.append(len(wanted))
        return make(self, wanted)

    monkeypatch.setattr(ProgramMaker, "make", counted)
    context = search_for(mod=relu(2))
    sizes = []
    while batch := batch_of(context):
        sizes.append(len(batch))
    assert 1 <= sum(sizes) < 200
    assert len(attempts) < 10 * (len(sizes) + 1), "what is exhausted is not drawn for ever"


def test_a_space_of_one_program_gives_it_once():
    te = tvm.te
    a = te.placeholder((), name="A")
    one = tvm.IRModule({"main": te.create_prim_func([a, te.compute((), lambda: a() + 1.0)])})
    context = search_for(mod=one)
    assert [len(batch_of(context)) for _ in range(2)] == [1, 0]


def test_a_kernel_that_cannot_be_searched_is_named_and_left_out(caplog):
    named = []
    assert batch_of(search_for(mod=scatter(), on_failed=named.append)) == []
    assert named == ["matmul"]
    assert "matmul stays unscheduled: TVM cannot search it" in caplog.text


def test_equal_seeds_search_alike():
    programs = [[program_hash(c.sch) for c in batch_of(search_for())] for _ in range(2)]
    assert programs[0] == programs[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": -1}, "first must be at least 0, got -1"),
        ({"apart": float("nan")}, "apart must be at least 0, got nan"),
        ({"rows": 0}, "rows must be at least 1, got 0"),
        ({"far": 1.5}, "far must be from 0 to 1, got 1.5"),
        ({"rounds": "3"}, "rounds must be"),
    ],
)
def test_an_effort_that_is_none_is_told(change, message):
    with pytest.raises(InputError, match=message):
        Effort(**change)


def test_an_effort_of_another_type_is_told():
    with pytest.raises(InputError, match="effort must be"):
        SketchSearch(effort=48)


def test_scores_only_of_programs_that_are_made():
    """A round without effort leaves what was drawn."""
    model = LikesTiles()
    found = batch_of(search_for(model=model, effort=Effort(first=20, rounds=1, per_round=0)))
    assert len(found) == 8
    assert model.asked == 20


def test_a_loop_of_unknown_length_leaves_the_kernel_as_it_is(caplog):
    te = tvm.te
    rows = te.var("n", "int64")
    a, b = te.placeholder((rows, 64), name="A"), te.placeholder((64, 64), name="B")
    k = te.reduce_axis((0, 64), name="k")
    c = te.compute((rows, 64), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="C")
    module = tvm.IRModule({"main": te.create_prim_func([a, b, c])})
    assert batch_of(search_for(mod=module)) == []
    assert "matmul stays unscheduled: TVM cannot search it" in caplog.text


def test_what_a_model_says_of_itself_is_not_taken_for_the_kernel():
    @derived_object
    class Broken(PyCostModel):
        def predict(self, context, candidates):
            raise InputError("the model's file is gone")

    with pytest.raises(InputError, match="the model's file is gone"):
        batch_of(search_for(model=Broken()))


def test_results_in_another_order_or_late_are_of_their_programs():
    context = search_for()
    spaces = list(context.generate_design_space())
    search = TaskSearch(context, spaces, LikesTiles(), SMALL, frozenset())
    batches = [search.batch(8), search.batch(8)]
    for batch in reversed(batches):
        results = [RunnerResult([1.0 / speed(c.sch.trace)], None) for c in batch]
        search.learn(batch[::-1], results[::-1])
    made = {program.identity: program for program in search._programs}
    assert len(search._latency_s) == 16
    for identity, latency_s in search._latency_s.items():
        assert latency_s == pytest.approx(1.0 / speed(made[identity].candidate.sch.trace))


def test_a_space_whose_programs_are_mostly_refused_is_drawn_from_again(monkeypatch):
    """As on GPUs, where post-processors check resources."""
    make = ProgramMaker.make
    calls = []

    def rare(self, wanted):
        calls.append(len(wanted))
        made = make(self, wanted)
        kept = [each for each in made if each.identity % 25 == 0]
        self.refused += len(made) - len(kept)
        return kept

    monkeypatch.setattr(ProgramMaker, "make", rare)
    assert len(batch_of(search_for())) == 8
    assert len(calls) > 3


def test_programs_whose_weights_are_rearranged_are_measured_with_those():
    (task, *_) = fused("zoo:mlp").tasks
    found = batch_of(search_for(mod=task.mod), seconds=1e-3)
    shapes = [[tuple(map(int, info.shape)) for info in c.args_info] for c in found]
    for candidate, own in zip(found, shapes, strict=True):
        parameters = meta_schedule.arg_info.ArgInfo.from_entry_func(candidate.sch.mod)
        assert own == [tuple(map(int, info.shape)) for info in parameters]
    assert len({tuple(own) for own in shapes}) > 1, "the layout hangs on the schedule"
