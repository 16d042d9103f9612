"""A collection is a stated mixture, balanced, on the disk after each batch, and goes on."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest
from collected import collect, rows

from costmodels.dataset.folder import read_dataset
from costmodels.errors import InputError
from costmodels.kernel import Measured
from tvm_integration.collect.acquisition import deficits, parse_mixture, wanted

HELPERS = Path(__file__).parent.parent


def test_a_collection_has_its_mixture(tmp_path):
    tasks = rows(32, 48)
    state = collect(tmp_path / "d", tasks, per_task=24, batch=8)
    stored = read_dataset(tmp_path / "d")
    assert state.measured + state.failed == len(stored.records)
    by_task = Counter(record.task for record in stored.records)
    assert [by_task[task.key] for task in tasks[:2]] == [24, 24]
    origins = Counter(r.origin for r in stored.records if r.task == tasks[0].key)
    assert origins["default"] == 1
    assert origins["random"] >= 11
    assert origins["mutation"] + origins["model"] + origins["disagreement"] >= 8
    ran = [r for r in stored.records if isinstance(r.measurement, Measured)]
    assert len(ran) >= 0.9 * len(stored.records)
    assert {r.evaluator for r in ran} == {"1 x 3, 25 ms"}
    assert stored.reference
    assert len({r.identity for r in stored.records}) == len(stored.records)
    # A second call has nothing to do but what failed to exist.
    assert collect(tmp_path / "d", tasks, per_task=24, batch=8).measured == state.measured
    more = collect(tmp_path / "d", tasks, per_task=32, batch=8)
    assert Counter(r.task for r in read_dataset(tmp_path / "d").records)[tasks[0].key] == 32
    assert more.measured > state.measured


def test_tasks_take_turns(tmp_path):
    tasks = rows(32, 40, 48)
    states = []

    from costmodels.dataset.writer import DatasetWriter
    from tvm_integration.collect.kernels import CollectOptions, Collector
    from tvm_integration.records.rows import target_of

    with DatasetWriter(tmp_path / "d") as writer:
        writer.add(tasks)
        options = CollectOptions(per_task=8, batch=4)
        collector = Collector(
            writer,
            target_of(tasks[0]),
            tasks[0].device,
            options,
            states.append,
            lambda: len(states) > 4,
        )
        try:
            collector.run([task.key for task in tasks])
        finally:
            collector.close()
        assert {task for task, _ in writer.records} == {task.key for task in tasks}


@pytest.mark.exhaustive
def test_killed_and_gone_on(tmp_path):
    code = f"""
        import sys
        sys.path.insert(0, {str(HELPERS)!r})
        from collected import collect, rows
        collect({str(tmp_path / "d")!r}, rows(32, 48), per_task=200, batch=4)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    journal = tmp_path / "d" / "journal.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if journal.exists() and journal.read_bytes().count(b'["records"') >= 8:
            break
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = read_dataset(tmp_path / "d").records
    assert len(before) >= 8
    collect(tmp_path / "d", rows(32, 48), per_task=12, batch=4)
    after = read_dataset(tmp_path / "d").records
    assert after[: len(before)] == before


def test_what_is_still_wanted():
    mixture = {"random": 0.5, "mutation": 0.5}
    assert wanted(9, mixture) == {
        "default": 1,
        "random": 4,
        "mutation": 4,
        "model": 0,
        "disagreement": 0,
    }
    assert sum(wanted(64, parse_mixture("random=0.3,model=0.7")).values()) == 64
    missing = deficits(Counter(default=1, random=6), 9, mixture)
    assert (missing["random"], missing["mutation"]) == (0, 2)
    assert not any(deficits(Counter(random=9), 9, mixture).values())


@pytest.mark.parametrize("text", ["random=2", "luck=1", "random", "random=0.5", "random=x"])
def test_a_mixture_that_cannot_be(text):
    with pytest.raises(InputError, match="mixture"):
        parse_mixture(text)
