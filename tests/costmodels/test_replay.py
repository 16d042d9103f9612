"""The replay memory is bounded, fair to tasks, and keeps what is fast."""

import numpy as np

from costmodels.features.schema import PER_STORE
from costmodels.kernel import concatenate
from costmodels.replay import ReplayMemory
from costmodels.testing.example_data import example_dataset


def test_everything_is_kept_while_there_is_room():
    memory = ReplayMemory(100)
    dataset = example_dataset(np.random.default_rng(0), tasks=2, kernels_per_task=20)
    new = memory.add(dataset, rng=np.random.default_rng(0))
    assert new.tolist() == list(range(40))
    np.testing.assert_array_equal(memory.log_latency, dataset.log_latency)


def test_a_full_memory_is_fair_and_keeps_the_fastest():
    memory = ReplayMemory(60)
    rng = np.random.default_rng(0)
    small = example_dataset(rng, tasks=1, kernels_per_task=12, failures=False)
    large = example_dataset(rng, tasks=2, kernels_per_task=96, first_task=5, failures=False)
    memory.add(small, rng=rng)
    new = memory.add(large, rng=rng)
    assert len(memory) == 60
    keys = [task.key for task in memory.batch.tasks]
    counts = np.bincount(memory.batch.task_index)
    assert dict(zip(keys, counts.tolist(), strict=True)) == {
        "task 0": 12,
        "task 5": 24,
        "task 6": 24,
    }
    assert new.tolist() == list(range(12, 60))
    for number in range(2):
        task = large.batch.tasks[number].key
        kept = memory.log_latency[memory.batch.task_index == keys.index(task)]
        fastest = np.sort(large.log_latency[large.batch.task_index == number])[:6]
        assert set(fastest) <= set(kept)


def test_rows_stay_with_their_latencies():
    memory = ReplayMemory(30)
    rng = np.random.default_rng(1)
    parts = [example_dataset(rng, tasks=1, kernels_per_task=20, first_task=i) for i in range(4)]
    for part in parts:
        memory.add(part, rng=rng)
    everything = concatenate([part.batch for part in parts])
    latencies = np.concatenate([part.log_latency for part in parts])
    for kernel, latency in enumerate(memory.log_latency):
        rows = memory.batch.take([kernel]).rows
        source = [
            k
            for k in range(len(everything))
            if everything.row_counts[k] == len(rows)
            and np.allclose(everything.take([k]).rows, rows, rtol=1e-3)  # kept in half precision
        ]
        assert np.array_equal(latencies[source[0]], latency, equal_nan=True)


def test_state_round_trips_also_when_empty():
    rng = np.random.default_rng(0)
    for kernels in (0, 20):
        memory = ReplayMemory(30)
        if kernels:
            memory.add(example_dataset(rng, tasks=2, kernels_per_task=kernels), rng=rng)
        arrays, settings = memory.state()
        again = ReplayMemory.from_state(30, PER_STORE, arrays, settings)
        assert len(again) == len(memory)
        np.testing.assert_array_equal(again.log_latency, memory.log_latency)
        if kernels:
            assert again.batch.tasks == memory.batch.tasks
