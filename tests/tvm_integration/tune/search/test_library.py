"""Known schedules, fitted to other kernels, come first; the best that are measured are added."""

import numpy as np
import pytest
from search_tasks import TARGET, matmul
from test_sketch import context_of
from test_strategy import LikesTiles, speed

from tvm_integration.compat import RunnerResult, Target
from tvm_integration.records import schedule_library
from tvm_integration.records.schedule_library import ScheduleLibrary, lines_of
from tvm_integration.tune.search import strategy
from tvm_integration.tune.search.library import OTHER_DEVICE, KernelPlace, fitting
from tvm_integration.tune.search.sketch import sketches_of
from tvm_integration.tune.search.strategy import SketchSearch
from tvm_integration.tune.search.task_search import Effort, TaskSearch
from tvm_integration.tune.search.variables import SAMPLED, Choice, Location, Tiling

EFFORT = Effort(first=16, rounds=0)


@pytest.fixture
def library(tmp_path):
    return ScheduleLibrary(tmp_path / "known.jsonl", shipped=False, grows=True)


def sketches(mod):
    return sketches_of(context_of(mod).generate_design_space(), 2)


def known_of(mod, count, library, target=TARGET):
    """Add programs of a kernel, the first drawn the fastest; their decisions."""
    (key, sketch), *_ = sketches(mod).items()
    rows = np.unique(sketch.draw(4 * count, np.random.default_rng(0)), axis=0)[:count]
    for number, row in enumerate(rows, start=1):
        library.add(KernelPlace(mod, target).known(sketch, row, number * 1e-3))
    return key, rows


def test_sizes_are_fitted_to_other_loops():
    tiling, wider = Tiling(64, 3, 64), Tiling(192, 3, 64)
    for value in range(len(tiling.options)):
        assert tiling.nearest(tiling.sizes(value)) == value
    outer, *inner = wider.sizes(wider.nearest((4, 2, 8)))
    assert (outer, inner) == (12, [2, 8]), "what is more goes to the outermost loop"
    assert Tiling(49, 2, 64).sizes(Tiling(49, 2, 64).nearest((8, 8))) == (7, 7)
    choice = Choice((8, 32, 512), (0.3, 0.3, 0.4))
    assert [choice.numbers[choice.nearest((n,))] for n in (1, 16, 30, 4096)] == [8, 8, 32, 512]
    location = Location()
    assert (location.nearest((5,)), location.nearest((SAMPLED,))) == (5, SAMPLED)


def test_a_kernel_finds_its_own_and_those_like_it_nearest_first(library):
    key, rows = known_of(matmul(64), 2, library)
    known_of(matmul(512), 2, library)
    found = fitting(library, KernelPlace(matmul(64), TARGET), sketches(matmul(64)), 10)
    assert found[0][0].key == key
    assert found[0][1].tolist() == rows[0].tolist()
    assert len({row.tobytes() for _, row in found}) == len(found) >= 3
    assert len(fitting(library, KernelPlace(matmul(64), TARGET), sketches(matmul(64)), 2)) == 2


def test_what_a_user_measured_comes_before_what_ships(library, monkeypatch):
    """What ships was measured with all data in the nearest cache, and so looks faster."""
    (key, sketch), *_ = sketches(matmul(64)).items()
    place = KernelPlace(matmul(64), TARGET)
    own, shipped = np.unique(sketch.draw(8, np.random.default_rng(0)), axis=0)[:2]
    line = lines_of([place.known(sketch, shipped, 1e-3)])
    monkeypatch.setattr(schedule_library, "shipped_lines", line.splitlines)
    library = ScheduleLibrary(library.path, grows=True)
    library.add(place.known(sketch, own, 2e-3))
    found = fitting(library, place, {key: sketch}, 2)
    assert [row.tolist() for _, row in found] == [own.tolist(), shipped.tolist()]


def test_distance_counts_loops_devices_and_vectors(library):
    known_of(matmul(64), 1, library)
    (schedule,) = library.of_sketch(next(iter(sketches(matmul(64)))))[0]
    assert KernelPlace(matmul(64), TARGET).distance(schedule) == 0
    assert KernelPlace(matmul(128), TARGET).distance(schedule) == 3
    cross = Target({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "num-cores": 2})
    assert KernelPlace(matmul(64), cross).distance(schedule) > OTHER_DEVICE


def search_of(mod, library):
    context = context_of(mod)
    return TaskSearch(context, context.generate_design_space(), LikesTiles(), EFFORT, (), library)


def test_half_of_the_first_batch_is_known_and_the_best_are_added(library):
    known_of(matmul(128), 3, library)
    search = search_of(matmul(64), library)
    wanted = fitting(library, KernelPlace(matmul(64), TARGET), sketches(matmul(64)), 3)
    batch = search.batch(6)
    for (sketch, row), candidate in zip(wanted, batch, strict=False):
        assert sketch.read(candidate.sch.trace).tolist() == row.tolist()
    seconds = [1e-3 / speed(each.sch.trace) for each in batch]
    search.learn(batch, [RunnerResult([s], None) for s in seconds])
    own = [
        schedule
        for key in sketches(matmul(64))
        for schedule in library.of_sketch(key)[0]
        if schedule.extents == (64, 64, 64)
    ]
    assert own
    assert min(schedule.latency_s for schedule in own) == min(seconds)
    again = search_of(matmul(64), library).batch(2)
    assert 1e-3 / speed(again[0].sch.trace) == min(seconds), "its own best comes first"


def test_failures_are_not_known(library):
    search = search_of(matmul(64), library)
    search.learn(search.batch(4), [RunnerResult(None, "it broke")] * 4)
    assert [library.of_sketch(key) for key in sketches(matmul(64))] == [([], [])] * 3
    assert not library.path.exists()


def test_kernels_of_one_run_learn_from_each_other(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    read = []

    class Counted(ScheduleLibrary):
        def __init__(self):
            read.append(self)
            super().__init__()

    monkeypatch.setattr(strategy, "ScheduleLibrary", Counted)
    first = SketchSearch()
    for each in (first.clone(), first.clone(), SketchSearch(library=False).clone()):
        each.clone()
    assert len(read) == 1
