"""Searches over recorded measurements: the same each time, and no kernel is run."""

import numpy as np
import pytest
from collected import collect, rows
from search_tasks import matmul

from costmodels.dataset.folder import read_dataset
from costmodels.errors import InputError
from costmodels.kernel import Failure, Measured
from costmodels.load_model import load_kernel_model
from costmodels.testing.example_data import example_device
from tvm_integration import (
    MeasureLog,
    MetaScheduleCostModel,
    ReplayBuilder,
    ReplayRunner,
    WarmRunner,
)
from tvm_integration.compat import BuilderInput, IRModule, RunnerInput, Target, meta_schedule
from tvm_integration.measure.measure_log import measure_callbacks
from tvm_integration.measure.outcomes import failure_from_message
from tvm_integration.measure.protocol import Builder, Runner
from tvm_integration.records.rows import schedule_of, target_of, workload_of
from tvm_integration.targets import host_target


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("collected") / "d"
    collect(folder, rows(48), per_task=12, batch=12)
    return read_dataset(folder)


def played(builder, stored, record):
    task = stored.tasks[record.task]
    schedule, target = schedule_of(workload_of(task), record.trace), target_of(task)
    (built,) = builder.build([BuilderInput(schedule.mod, target)])
    if built.error_msg is not None:
        return failure_from_message(str(built.error_msg))
    (future,) = ReplayRunner().run([RunnerInput(built.artifact_path, "cpu", [])])
    result = future.result()
    if result.error_msg is not None:
        return failure_from_message(str(result.error_msg))
    return Measured(tuple(float(each) for each in result.run_secs))


def test_what_was_measured_is_played(dataset):
    builder = ReplayBuilder(dataset)
    for record in dataset.records:
        assert played(builder, dataset, record) == record.measurement
    assert builder.asked == {"measured": len(dataset.records)}


def tuned(dataset, work_dir):
    """Tune over records; seconds and the trace of what was found, candidate by candidate."""
    events = []
    builder = ReplayBuilder(dataset, load_kernel_model("pretrained:gbt"))
    database = meta_schedule.tir_integration.tune_tir(
        matmul(48),
        host_target(),
        str(work_dir),
        24,
        num_trials_per_iter=8,
        builder=builder,
        runner=ReplayRunner(),
        cost_model=MetaScheduleCostModel("random", seed=5),
        measure_callbacks=measure_callbacks(MeasureLog(on_event=events.append)),
        strategy=meta_schedule.search_strategy.EvolutionarySearch(
            population_size=32, genetic_num_iters=1
        ),
        num_tuning_cores=1,  # with more, threads draw in an order that differs from run to run
        seed=3,
    )
    assert sum(builder.asked.values()) == len(events) == 24
    return [event.measurement for event in events], len(database)


def test_a_search_repeats(dataset, tmp_path):
    first, second = (tuned(dataset, tmp_path / name) for name in "ab")
    assert first == second
    assert all(isinstance(each, Measured) for each in first[0])


def test_without_a_model_an_unknown_program_fails(dataset):
    builder = ReplayBuilder(dataset)
    (built,) = builder.build([BuilderInput(matmul(56), host_target())])
    (future,) = ReplayRunner().run([RunnerInput(built.artifact_path, "cpu", [])])
    failure = failure_from_message(str(future.result().error_msg))
    assert failure == Failure("run", "nobody has measured this program")
    assert builder.asked == {"unknown": 1}


def test_a_model_does_not_answer_for_another_device(dataset, caplog):
    other = Target({"kind": "llvm", "mcpu": "haswell", "num-cores": 64})
    asked = [BuilderInput(matmul(56), other)]
    builder = ReplayBuilder(dataset, "pretrained:gbt")
    assert builder.build(asked)[0].error_msg is None
    assert builder.asked == {"unknown": 1}
    assert "the data set has nothing for target" in caplog.text
    builder = ReplayBuilder(dataset, "pretrained:gbt", device=example_device())
    builder.build(asked)
    assert builder.asked == {"predicted": 1}


def test_every_candidate_has_an_answer(dataset):
    (built,) = ReplayBuilder(dataset, "pretrained:gbt").build(
        [BuilderInput(IRModule({}), host_target())]
    )
    assert built.artifact_path is None or built.error_msg is None


def test_models_that_cannot_answer_are_refused(dataset):
    with pytest.raises(InputError, match="got one that has learned nothing"):
        ReplayBuilder(dataset, load_kernel_model("gbt"))
    with pytest.raises(InputError, match="got one that needs graphs"):
        ReplayBuilder(dataset, load_kernel_model("pretrained:graphsage"))
    with pytest.raises(InputError, match="got one that only ranks"):
        ReplayBuilder(dataset, load_kernel_model("random"))


def test_another_builders_artifact_is_refused(tmp_path):
    path = tmp_path / "kernel.tar"
    path.write_bytes(np.random.default_rng(0).bytes(64))
    with pytest.raises(InputError, match="must be of a ReplayBuilder to be played"):
        ReplayRunner().run([RunnerInput(str(path), "cpu", [])])


def test_they_keep_the_protocol():
    assert isinstance(ReplayRunner(), Runner)
    assert isinstance(ReplayBuilder("shipped:cpu_one_core"), Builder)
    assert issubclass(WarmRunner, Runner)
