"""Whole networks in a data set: their table is there when they are."""

from dataclasses import replace

import pytest
from dataset_rows import TIME, record, task

from costmodels.dataset.folder import read_dataset
from costmodels.dataset.network_rows import MeasuredKernel, NetworkRow
from costmodels.dataset.writer import DatasetWriter
from costmodels.errors import InputError
from costmodels.networks.fused_graph import FusedGraph, Launch


def network(*tasks, name="zoo:residual,number=7", **changes) -> NetworkRow:
    launches = tuple(Launch(each.key, "kernel", (), 4, 4) for each in tasks)
    values = {
        "network": name,
        "target": tasks[0].target,
        "device": tasks[0].device,
        "schedules": "default",
        "fused": True,
        "graph": FusedGraph(launches),
        "run_s": (3e-3, 2e-3, 4e-3),
        "kernels": tuple(MeasuredKernel(each.key, 1, (1e-3,)) for each in tasks),
        "measured_at": TIME,
        "processor": "test",
    }
    return NetworkRow(**{**values, **changes})


def test_a_network_comes_back(tmp_path):
    row = network(task(1), task(2))
    with DatasetWriter(tmp_path / "d") as writer:
        writer.add([task(1), task(2), record(task(1))])
        assert not (tmp_path / "d" / "networks.parquet").exists()
        writer.add([row])
    assert (tmp_path / "d" / "networks.parquet").exists()
    (found,) = read_dataset(tmp_path / "d").networks
    assert found == row
    assert (found.family, found.latency_s) == ("residual", 3e-3)


def test_the_newest_measurement_of_a_network_stays(tmp_path):
    first, second = network(task(1)), network(task(1), run_s=(1e-3,))
    with DatasetWriter(tmp_path / "d") as writer:
        writer.add([task(1), first])
        writer.add([second, replace(second, schedules="model")])
    found = read_dataset(tmp_path / "d").networks
    assert [(row.schedules, row.run_s) for row in found] == [
        ("default", (1e-3,)),
        ("model", (1e-3,)),
    ]


def test_a_data_set_without_networks_is_as_before(tmp_path):
    with DatasetWriter(tmp_path / "d") as writer:
        writer.add([task(1), record(task(1))])
    assert read_dataset(tmp_path / "d").networks == ()
    digest = read_dataset(tmp_path / "d").digest()
    with DatasetWriter(tmp_path / "d") as writer:
        writer.add([network(task(1))])
    assert read_dataset(tmp_path / "d").digest() != digest


def test_its_tasks_must_be_there(tmp_path):
    with (
        DatasetWriter(tmp_path / "d") as writer,
        pytest.raises(InputError, match="the task of a network must be added before it"),
    ):
        writer.add([network(task(1))])


def test_bad_values_are_named():
    with pytest.raises(
        InputError, match="schedules must be one of default, model, tuned, got 'best'"
    ):
        network(task(1), schedules="best")
    with pytest.raises(InputError, match="run_s must be positive"):
        network(task(1), run_s=(0.0,))
    values = network(task(1)).as_values()
    with pytest.raises(InputError, match="a network must have every column in its type"):
        NetworkRow.from_values({**values, "launches": "["})
    with pytest.raises(InputError, match="must have every column"):
        NetworkRow.from_values({key: v for key, v in values.items() if key != "run_s"})
