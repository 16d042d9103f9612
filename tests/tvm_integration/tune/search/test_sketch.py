"""Decisions as numbers, and the programs that they become."""

import numpy as np
import pytest
from search_tasks import TARGET, matmul, relu

from tvm_integration.compat import Schedule, Target, meta_schedule
from tvm_integration.identity import program_hash
from tvm_integration.tune.search.programs import ProgramMaker
from tvm_integration.tune.search.sketch import Sketch, sketch_key, sketches_of
from tvm_integration.tune.search.variables import Choice, Tiling


def context_of(mod, target=TARGET):
    return meta_schedule.TuneContext(
        mod=mod,
        target=target,
        space_generator="post-order-apply",
        search_strategy="evolutionary",
        task_name="matmul",
        rand_state=1,
        num_threads=2,
    ).clone()


@pytest.fixture(scope="module")
def context():
    return context_of(matmul())


@pytest.fixture(scope="module")
def sketches(context):
    return sketches_of(context.generate_design_space(), 2)


@pytest.fixture
def maker(context):
    rng = np.random.default_rng(0)
    return ProgramMaker(context.mod, context.space_generator.postprocs, 2, rng)


def test_decisions_become_a_trace_and_come_back(context, sketches):
    rng = np.random.default_rng(1)
    assert len(sketches) > 1
    for key, sketch in sketches.items():
        for decisions in sketch.mutate(sketch.draw(8, rng), rng):
            trace = sketch.trace(decisions)
            assert sketch_key(trace) == key
            assert sketch.read(trace).tolist() == decisions.tolist()
            schedule = Schedule(context.mod, seed=1)
            trace.apply_to_schedule(schedule, remove_postproc=True)
            schedule.enter_postproc()
            assert all(each.apply(schedule) for each in context.space_generator.postprocs)
            assert sketch.read(schedule.trace).tolist() == decisions.tolist()
            assert sketch_key(schedule.trace) == key, "what post-processors add does not count"


def test_tile_sizes_and_parallel_jobs_are_open(sketches):
    for sketch in sketches.values():
        assert sum(isinstance(each, Tiling) for each in sketch.variables) == 3
        jobs, unroll = (each for each in sketch.variables if isinstance(each, Choice))
        assert {8, 32, 512} <= set(jobs.numbers)
        assert unroll.numbers == (0, 16, 64, 512)


def test_vectors_are_open_where_nothing_is_tiled():
    (sketch,) = sketches_of(context_of(relu()).generate_design_space(), 2).values()
    assert (1, 8, 16, 32, 64) in [variable.values for variable in sketch.variables]
    found = {str(sketch.trace(row)) for row in sketch.draw(200, np.random.default_rng(0))}
    assert len(found) > 5


def test_a_sketch_is_the_same_for_other_shapes_and_cores(sketches):
    other = context_of(matmul(48), Target({"kind": "llvm", "num-cores": 8}))
    assert sketches_of(other.generate_design_space(), 8).keys() == sketches.keys()


def test_features_tell_decisions_apart_and_sizes_of_levels(sketches):
    rng = np.random.default_rng(0)
    sketch = next(iter(sketches.values()))
    decisions = np.unique(sketch.draw(300, rng), axis=0)
    features = sketch.features(decisions)
    assert len(np.unique(features, axis=0)) == len(decisions)
    sizes = [
        each.options[decisions[:, number]]
        for number, each in enumerate(sketch.variables)
        if isinstance(each, Tiling) and each.parts == 4
    ]
    np.testing.assert_allclose(features[:, -4:], np.log2(sizes[0] * sizes[1]), rtol=1e-6)


def test_programs_are_made_in_order_and_once(sketches, maker):
    rng = np.random.default_rng(2)
    sketch = next(iter(sketches.values()))
    rows = np.unique(sketch.draw(12, rng), axis=0)
    made = maker.make([(sketch, row) for row in rows])
    assert [each.decisions.tolist() for each in made] == rows.tolist()
    assert [program_hash(each.candidate.sch) for each in made] == [each.identity for each in made]
    assert maker.make([(sketch, row) for row in rows]) == []
    assert (maker.repeated, maker.refused) == (len(rows), 0)


def test_decisions_that_do_not_fit_are_left_out(context, maker):
    wide = Sketch(context.generate_design_space()[0].trace, 2)
    wide.variables[0] = Tiling(7, 4, 64)  # the loop has 64 iterations
    assert maker.make([(wide, wide.draw(1, np.random.default_rng(0))[0])]) == []
    assert maker.refused == 1
