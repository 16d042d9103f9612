"""One identity of a task everywhere: what tuning taught is used by estimate, evaluate, explain."""

import json

import numpy as np
import pytest
from command_line import costmodels
from search_tasks import TARGET, matmul

from costmodels.dataset.folder import read_dataset
from costmodels.kernel_models.gbt.model import GradientBoostedTrees
from costmodels.load_model import load_kernel_model
from costmodels.task_keys import canonical_key, task_key, with_target
from tvm_integration import identity
from tvm_integration.compat import IRModule, meta_schedule
from tvm_integration.estimate.network_features import describe_network
from tvm_integration.records.database import open_database, replay
from tvm_integration.targets import device_of, host_target, parse_target
from tvm_integration.tune.cost_model import MetaScheduleCostModel
from tvm_integration.tune.network_timing import known_untuned

TARGETS = (
    "host",
    "llvm -mcpu=haswell -num-cores=1",
    "llvm -mcpu=znver4 -mattr=+avx2,-avx512f -num-cores=3",
    "llvm -mtriple=aarch64-linux-gnu -mattr=+neon",
    "nvidia/nvidia-t4",
)


def old_key(mod, target):
    """As checkpoints and work directories had it until 2026-11-28."""
    values = {name: str(value) for name, value in target.export().items() if name != "tag"}
    return f"{identity.workload_hash(mod):016x} {json.dumps(values, sort_keys=True)}"


@pytest.mark.parametrize("text", TARGETS)
def test_keys_of_earlier_releases_are_read(text):
    mod, target = matmul(16), parse_target(text)
    assert canonical_key(old_key(mod, target)) == identity.task_key(mod, target)
    assert canonical_key(identity.task_key(mod, target)) == identity.task_key(mod, target)


def test_another_target_is_another_task_of_the_same_workload():
    mod, (one, two) = matmul(16), map(parse_target, TARGETS[:2])
    keys = [identity.task_key(mod, target) for target in (one, two)]
    assert keys[0] != keys[1]
    assert with_target(keys[0], identity.target_text(two)) == keys[1]
    assert identity.task_key(matmul(24), one) != keys[0]


@pytest.mark.parametrize("text", ["", "a name", "0123 {", "0123456789abcdef {not json"])
def test_what_is_no_key_stays_as_it_is(text):
    assert canonical_key(text) == text


def test_a_checkpoint_with_old_keys_opens(tmp_path):
    """Written as an earlier release did, by giving the model such keys."""
    from costmodels.testing.example_data import example_dataset

    dataset = example_dataset(np.random.default_rng(0), tasks=2, kernels_per_task=12)
    mod, target = matmul(16), host_target()
    model = GradientBoostedTrees().fit(dataset, rng=np.random.default_rng(0))
    first = next(iter(model._anchors))
    model._anchors[old_key(mod, target)] = model._anchors.pop(first)
    model.save(tmp_path / "old.ckpt")
    opened = GradientBoostedTrees.load(tmp_path / "old.ckpt")
    assert identity.task_key(mod, target) in opened._anchors


def test_old_keys_of_a_work_directory_are_read(tmp_path):
    mod, target = matmul(16), host_target()
    (tmp_path / "untuned_kernels.json").write_text(json.dumps({old_key(mod, target): 1e-3}))
    assert known_untuned(tmp_path) == {
        task_key(identity.workload_hash(mod), identity.target_text(target)): 1e-3
    }


def test_estimate_asks_by_the_keys_that_tuning_learned_by(tuned):
    model = load_kernel_model(tuned[0] / "work/cost_model.ckpt", seed=0)
    network = describe_network("zoo:mlp", host_target())
    kernels = network.kernels
    learned = np.array([kernel.key in model._anchors for kernel in kernels])
    assert learned.any()
    assert set(model._anchors) <= {kernel.key for kernel in kernels}
    batch = network.batch(device_of(host_target()))
    seconds = model.predict(batch).latency_s[learned]
    model._anchors = {key: value + np.log(10.0) for key, value in model._anchors.items()}
    np.testing.assert_allclose(model.predict(batch).latency_s[learned], 10 * seconds)


def test_evaluate_asks_by_the_same_keys(tuned, tmp_path):
    work_dir = str(tuned[0] / "work")
    assert costmodels("dataset", "import", work_dir, "--out", str(tmp_path / "d")).returncode == 0
    model = load_kernel_model(tuned[0] / "work/cost_model.ckpt", seed=0)
    assert set(read_dataset(tmp_path / "d").used_tasks) == set(model._anchors)
    judged = costmodels("evaluate", str(tmp_path / "d"), "--model", f"{work_dir}/cost_model.ckpt")
    assert "kendall tau" in judged.stdout


def test_measured_programs_are_predicted_by_what_was_learned_of_their_tasks(tuned):
    """Ten times the latency learned of every task is ten times the prediction of each program."""
    model = MetaScheduleCostModel(tuned[0] / "work/cost_model.ckpt")
    slower = GradientBoostedTrees.load(tuned[0] / "work/cost_model.ckpt")
    slower._anchors = {key: value + np.log(10.0) for key, value in slower._anchors.items()}
    records = open_database(tuned[0] / "work", read_only=True).get_all_tuning_records()
    assert len(records)
    for record, candidate in replay(records):
        context = meta_schedule.TuneContext(record.workload.mod, target=host_target())
        _, seconds = model.tuning.scores.predict(context, [candidate])
        _, ten_times = MetaScheduleCostModel(slower).tuning.scores.predict(context, [candidate])
        np.testing.assert_allclose(ten_times, 10.0 * np.asarray(seconds), rtol=1e-6)


def test_explain_asks_by_the_same_keys(monkeypatch):
    from tvm_integration.compile.fusion import fuse
    from tvm_integration.frontends.load import load_network
    from tvm_integration.learn import explain
    from tvm_integration.targets import device_of

    asked = []
    original = explain.FeatureExtractor.extract

    def extract(self, context, candidates, task, **options):
        asked.append(task.key)
        return original(self, context, candidates, task, **options)

    monkeypatch.setattr(explain.FeatureExtractor, "extract", extract)
    target = host_target()
    task = fuse(load_network("zoo:mlp").module, target).tasks[0]
    explain.explain_task(task, target, device_of(target), model="pretrained:halide")
    assert asked == [identity.task_key(task.mod, target)]


def test_a_program_whose_weights_are_rearranged_is_known_from_its_record(tmp_path):
    """TVM writes an annotation that is true as 1."""
    mod = IRModule({"main": matmul()["main"].with_attr("layout_free_buffers", [1])})
    context = meta_schedule.TuneContext(
        mod, target=TARGET, space_generator="post-order-apply", num_threads=1
    ).clone()
    (schedule, *_) = context.generate_design_space()
    schedule.enter_postproc()
    assert all(each.apply(schedule) for each in context.space_generator.postprocs)
    assert "layout_rewrite_preproc" in str(schedule.trace)
    database = open_database(tmp_path)
    workload = database.commit_workload(mod)
    database.commit_tuning_record(
        meta_schedule.database.TuningRecord(schedule.trace, workload, [1e-3], TARGET)
    )
    (record,) = open_database(tmp_path).get_all_tuning_records()
    texts = [str(identity.plain(each.trace.as_json())) for each in (schedule, record)]
    assert texts[0] != texts[1]
    for same in (identity.trace_text, lambda trace: identity.record_hash(mod, trace)):
        assert same(record.trace) == same(schedule.trace)
