"""Features from disk equal those of the search, and come from the cache the second time."""

import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from collected import collect, rows

from costmodels.dataset import feature_cache
from costmodels.dataset.folder import read_dataset
from costmodels.dataset.kernel_rows import TASKS
from costmodels.errors import InputError
from costmodels.kernel import Task
from tvm_integration.collect import featurize as module
from tvm_integration.collect.featurize import featurize, numbered_by_use
from tvm_integration.compat import MeasureCandidate, meta_schedule
from tvm_integration.records.rows import schedule_of, target_of, workload_of
from tvm_integration.tir.features import FeatureExtractor


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("featurized") / "d"
    collect(folder, rows(32, 48), per_task=10, batch=10)
    return read_dataset(folder)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_they_are_those_of_the_search(dataset):
    found = featurize(dataset)
    assert found.records == dataset.records
    batch = found.kernels.batch
    assert found.kernels.measurements == tuple(r.measurement for r in dataset.records)
    for position in (0, 5, len(dataset.records) - 1):
        record = dataset.records[position]
        task = dataset.tasks[record.task]
        mod = workload_of(task)
        context = meta_schedule.TuneContext(mod, target=target_of(task), num_threads=1)
        candidate = MeasureCandidate(schedule_of(mod, record.trace), [])
        own = FeatureExtractor().extract(context, [candidate], Task("t", task.device))
        np.testing.assert_array_equal(batch.take([position]).rows, own.rows)
        assert batch.tasks[batch.task_index[position]].key == record.task


def test_the_second_time_nothing_is_extracted(dataset, monkeypatch):
    first = featurize(dataset)

    def forbidden(*_, **__):
        raise AssertionError("the cache was not used")

    monkeypatch.setattr(module, "extract_features", forbidden)
    second = featurize(dataset)
    np.testing.assert_array_equal(first.kernels.batch.rows, second.kernels.batch.rows)
    for other in (
        replace(dataset, files_digest="of another state"),
        replace(dataset, files_digest=""),
    ):
        with pytest.raises(AssertionError, match="not used"):
            featurize(other)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("damage", [False, True])
def test_a_killed_extraction_goes_on(dataset, monkeypatch, damage):
    def kill(done, total):
        if done > total / 3:
            raise KilledError

    with pytest.raises(KilledError):
        featurize(dataset, on_progress=kill)
    (unfinished,) = feature_cache.cache_folder().iterdir()
    kept = sorted(unfinished.glob("*.npz"))
    assert kept
    if damage:
        kept[0].write_bytes(kept[0].read_bytes()[:50])
    asked = []
    pool_map = module.WorkerPool.map

    def counted(self, jobs, **options):
        asked.extend(jobs)
        return pool_map(self, jobs, **options)

    monkeypatch.setattr(module.WorkerPool, "map", counted)
    told = []
    found = featurize(dataset, on_progress=lambda done, _: told.append(done))
    assert len(asked) == len({each.task for each in dataset.records}) - len(kept) + damage
    assert told[-1] == len(dataset.records)
    (whole,) = feature_cache.cache_folder().iterdir()  # and nothing unfinished
    shutil.rmtree(whole)
    again = featurize(dataset)
    np.testing.assert_array_equal(found.kernels.batch.rows, again.kernels.batch.rows)
    assert found.kernels.batch.graphs == again.kernels.batch.graphs


def test_a_damaged_cache_is_made_again(dataset):
    first = featurize(dataset)
    (path,) = feature_cache.cache_folder().glob("*/rows.npy")
    path.write_bytes(path.read_bytes()[:200])
    second = featurize(dataset)
    np.testing.assert_array_equal(first.kernels.batch.rows, second.kernels.batch.rows)
    assert len(list(feature_cache.cache_folder().iterdir())) == 1


def test_graphs_are_numbered_as_programs_use_them():
    """Whatever the order in which their jobs ended; those of no program are dropped."""
    names = ["of the third", "of nobody", "of the first"]
    graphs, index = numbered_by_use(names, np.array([2, -1, 0, 2]))
    assert graphs == ("of the first", "of the third")
    assert index.tolist() == [0, -1, 1, 0]
    assert numbered_by_use([], np.array([-1]))[0] == ()


def test_a_trace_that_does_not_apply_is_left_out(dataset, caplog):
    broken = replace(dataset.records[1], trace="[[1]]")
    found = featurize(replace(dataset, records=(broken, *dataset.records[2:5]), files_digest=""))
    assert "records.parquet row 2: its trace must apply" in caplog.text
    assert found.records == dataset.records[2:5]
    assert len(found.kernels) == 3


def test_a_worker_that_ends_costs_one_program(dataset, monkeypatch, caplog):
    crashing = "[[],[[99,[1]]]]"
    broken = replace(dataset.records[1], trace=crashing)
    damaged = replace(dataset, records=(broken, *dataset.records[2:5]), files_digest="")
    found = featurize(damaged)
    assert found.records == dataset.records[2:5]
    monkeypatch.setattr("tvm_integration.records.rows.check_trace", lambda _: None)
    caplog.clear()
    assert featurize(damaged).records == dataset.records[2:5]
    assert caplog.text.count("its trace must apply") == 1


def test_a_damaged_copy_does_not_pass_for_the_sound_data_set(dataset, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(dataset.path, copy)
    path = copy / "tasks.parquet"
    rows_of_tasks = pq.read_table(path).to_pylist()
    damaged = [{**row, "target": '"garbage"'} for row in rows_of_tasks]
    pq.write_table(pa.Table.from_pylist(damaged, schema=TASKS), path)
    assert len(featurize(dataset).records) == len(dataset.records)
    with pytest.raises(InputError, match=r"a trace of data set .* must apply to its workload"):
        featurize(read_dataset(copy))
    with pytest.raises(InputError, match="must have records that can be used, got none"):
        featurize(replace(dataset, records=()))
