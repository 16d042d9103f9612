"""Drawn kernels are distinct, of the wanted type, and schedule like those of networks."""

import subprocess
import sys

import numpy as np
import pytest
from search_tasks import TARGET

from costmodels.errors import InputError
from costmodels.testing.example_data import example_device
from tvm_integration.collect.candidates import CandidateSource
from tvm_integration.collect.source import Drawn, check_task_source, parse_drawn
from tvm_integration.collect.synthetic_kernels import MAX_FLOP, synthetic_kernels
from tvm_integration.collect.tasks import tasks_of_networks
from tvm_integration.tir.kernel_graph import kernel_graph


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_kernels_are_drawn_around_those_of_networks(dtype):
    drawn = synthetic_kernels(Drawn(40, dtype))
    assert len({each.name for each in drawn}) == 40
    assert [each.name for each in synthetic_kernels(Drawn(40, dtype))] == [e.name for e in drawn]
    assert {e.name for e in synthetic_kernels(Drawn(40, dtype, seed=1))} != {e.name for e in drawn}
    kinds = {each.name.partition("_")[0] for each in drawn}
    assert {"conv2d", "dense", "batch"} <= kinds
    for each in drawn:
        graph = kernel_graph(each.mod)
        assert graph.operators[0].dtype == dtype
        assert "other" not in graph.kinds


def test_they_become_tasks_of_no_network():
    tasks = tasks_of_networks(["drawn:6,seed=3", "drawn:6,seed=3"], TARGET, example_device())
    assert len(tasks) == 6
    assert all(not task.networks and task.operators for task in tasks)
    assert all(0 <= task.flop <= MAX_FLOP for task in tasks)


def test_they_have_a_design_space():
    for each in synthetic_kernels(Drawn(4, "int8")):
        source = CandidateSource(each.mod, TARGET, name=each.name, rng=np.random.default_rng(0))
        assert len(source.random(4)) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drawn:", "must be drawn:COUNT"),
        ("drawn:0", "must be drawn:COUNT"),
        ("drawn:5,type=int8", "must be drawn:COUNT"),
        ("drawn:5,dtype=int4", "dtype must be one of float32, float16, int8, got 'int4'"),
        ("nothing", "MODEL"),
    ],
)
def test_what_cannot_be_drawn(text, message):
    with pytest.raises(InputError, match=message):
        check_task_source(text)


def test_what_can_be_drawn_and_without_tvm():
    assert parse_drawn("drawn:40,dtype=int8,seed=2") == Drawn(40, "int8", 2)
    code = "import sys, tvm_integration.collect.source; sys.exit('tvm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
