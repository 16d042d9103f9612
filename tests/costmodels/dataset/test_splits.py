"""A split never puts a workload that judges into what is learned."""

import json

import numpy as np
import pytest
from dataset_rows import record, task
from hypothesis import given
from hypothesis import strategies as st

from costmodels.dataset.folder import read_dataset
from costmodels.dataset.splits import (
    read_split,
    save_split,
    split_by_network,
    split_by_target,
    split_by_task,
)
from costmodels.dataset.writer import DatasetWriter
from costmodels.errors import InputError


def tasks(*rows):
    return {row.key: row for row in rows}


def workloads(known, keys):
    return {known[key].workload_key for key in keys}


def test_a_workload_of_a_test_network_is_learned_nowhere():
    known = tasks(
        task(1, networks={"resnet": 1, "regnet_y": 2}),
        task(1, target="gpu", networks={"resnet": 1}),
        task(2, networks={"resnet": 1}),
        task(3, networks={"regnet_y": 1, "vit": 1}),
        task(3, target="gpu", networks={"vit": 1}),
        task(4),
        task(5, networks={"gpt2": 1, "regnet_y": 1}),
        task(6, networks={"gpt2_small": 1}),
    )
    split = split_by_network(known, name="s", test=["GPT2*"], validation=["regnet*"])
    assert workloads(known, split.test) == {f"{n:016x}" for n in (5, 6)}
    assert workloads(known, split.validation) == {f"{n:016x}" for n in (1, 3)}
    assert workloads(known, split.train) == {f"{n:016x}" for n in (2, 4)}
    assert all(known[key].target == '{"kind": "cpu"}' for key in split.validation)


NETWORKS = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 3), max_size=3)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["cpu", "gpu"]), NETWORKS), min_size=3)
)
def test_no_workload_is_in_two_parts(drawn):
    known = tasks(*(task(n, target=target, networks=nets) for n, target, nets in drawn))
    try:
        by_network = split_by_network(known, name="s", test=["a"], validation=["b"])
    except InputError:
        by_network = None
    by_task = None
    if len({row.workload_key for row in known.values()}) > 4:
        by_task = split_by_task(known, name="t", rng=np.random.default_rng(0))
    for split in filter(None, (by_network, by_task)):
        parts = [workloads(known, split.part(p)) for p in ("train", "validation", "test")]
        assert sum(map(len, parts)) == len(set().union(*parts))


def test_by_task_repeats_under_one_generator():
    known = tasks(*(task(n) for n in range(20)))
    one = split_by_task(known, name="s", rng=np.random.default_rng(1))
    assert one == split_by_task(
        dict(reversed(known.items())), name="s", rng=np.random.default_rng(1)
    )
    assert (len(one.train), len(one.validation), len(one.test)) == (14, 2, 4)


def test_by_target():
    known = tasks(task(1), task(1, target="gpu"), task(2))
    split = split_by_target(known, name="s", test=["gpu"])
    assert (len(split.train), len(split.test)) == (2, 1)
    with pytest.raises(InputError, match="its devices are cpu, gpu"):
        split_by_target(known, name="s", test=["tpu"])


def test_what_cannot_be_split():
    known = tasks(task(1, networks={"a": 1}), task(2, networks={"b": 1}))
    with pytest.raises(InputError, match=r"got 'c\*': it has a, b"):
        split_by_network(known, name="s", test=["c*"])
    with pytest.raises(InputError, match="got a in two"):
        split_by_network(known, name="s", test=["a"], validation=["*"])
    with pytest.raises(InputError, match="must leave tasks for train"):
        split_by_network(known, name="s", test=["*"])
    with pytest.raises(InputError, match="both together below 1"):
        split_by_task(known, name="s", rng=np.random.default_rng(0), test=1.0)


def test_a_split_is_kept_with_its_data_set(tmp_path):
    known = tasks(*(task(n, networks={f"n{n}": 1}) for n in range(4)))
    with DatasetWriter(tmp_path / "d") as writer:
        writer.add([*known.values(), record(task(0))])
    dataset = read_dataset(tmp_path / "d")
    split = split_by_network(dataset.tasks, name="s", test=["n0"], validation=["n1"])
    path = save_split(dataset.path, split)
    assert read_split(dataset, "s") == split
    save_split(dataset.path, split)
    other = split_by_network(dataset.tasks, name="s", test=["n2"])
    with pytest.raises(InputError, match="models may have been trained with it"):
        save_split(dataset.path, other)
    with pytest.raises(InputError, match="must have split 't': it has s"):
        read_split(dataset, "t")
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"train": [*content["train"], "nowhere"]}))
    with pytest.raises(InputError, match="got 1 tasks that it lacks"):
        read_split(dataset, "s")
    path.write_text("{")
    with pytest.raises(InputError, match="got a damaged file"):
        read_split(dataset, "s")
