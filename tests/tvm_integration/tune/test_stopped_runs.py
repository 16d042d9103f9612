"""`costmodels tune` goes on after kill and Ctrl-C, a full disk and the end of its time."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from command_line import COMMAND, costmodels
from work_dirs import SMALL, learned, records

from costmodels.errors import InputError
from tvm_integration.frontends.load import load_network
from tvm_integration.targets import host_target
from tvm_integration.tune.session import tune_network
from tvm_integration.tune.state import TuneOptions


def wait_for(condition, process, timeout=200):
    end = time.monotonic() + timeout
    while not condition():
        assert process.poll() is None, "it ended before it was stopped"
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.2)


def children_of(marker):
    """Processes whose environment holds the marker."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def start(work_dir, marker, *arguments):
    return subprocess.Popen(
        [*COMMAND, "tune", *SMALL, "--work-dir", str(work_dir), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COSTMODELS_TEST": marker},
    )


def test_kill_9_loses_at_most_the_batch_in_flight_and_no_training(tmp_path):
    work_dir, marker = tmp_path / "work", f"kill-{os.getpid()}"
    process = start(work_dir, marker, "--trials", "400")
    wait_for(lambda: len(records(work_dir)) >= 12, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept, trained = records(work_dir), learned(work_dir)
    assert len(kept) - trained <= 8
    end = time.monotonic() + 20
    while children_of(f"COSTMODELS_TEST={marker}".encode()) and time.monotonic() < end:
        time.sleep(0.2)
    assert children_of(f"COSTMODELS_TEST={marker}".encode()) == []

    wanted = len(kept) + 8
    done = costmodels(
        "tune", *SMALL, "--trials", str(wanted), "--work-dir", str(work_dir), "--json"
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    whole = [line for line in kept if line.endswith("]")]
    after = records(work_dir)
    assert after[: len(whole)] == whole, "nothing of the first part is lost"
    assert document["trials"] == len(after) <= wanted
    assert document["trials_by_model"] == len(after) - len(whole), "the model started warm"
    assert learned(work_dir) == len(after)


def test_ctrl_c_ends_in_order_and_the_same_command_goes_on(tmp_path):
    work_dir, marker = tmp_path / "work", f"interrupt-{os.getpid()}"
    process = start(work_dir, marker, "--trials", "400")
    wait_for(lambda: len(records(work_dir)) >= 8, process)
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"Ctrl-C did not end it: {process.communicate()}")
    assert process.returncode == 130, err
    assert "the same command goes on from here" in out
    assert "Traceback" not in err
    kept = records(work_dir)
    assert learned(work_dir) == len(kept)


@pytest.mark.exhaustive
def test_a_second_ctrl_c_ends_at_once(tmp_path):
    """An exception would have to cross TVM's C++ code, which ends in a crash."""
    work_dir, marker = tmp_path / "work", f"twice-{os.getpid()}"
    process = start(work_dir, marker, "--trials", "400")
    wait_for(lambda: len(records(work_dir)) >= 8, process)
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        process.send_signal(signal.SIGINT)  # those that arrive within one C++ call are one
        time.sleep(0.5)
    _, err = process.communicate(timeout=60)
    # The latter when one arrives while the interpreter is ending already.
    assert process.returncode in (130, -signal.SIGINT), err
    assert "Segfault" not in err
    assert "Traceback" not in err
    assert len(records(work_dir)) >= 8
    while left := children_of(f"COSTMODELS_TEST={marker}".encode()):
        assert time.monotonic() < end, left
        time.sleep(0.2)


def test_a_full_disk_ends_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr("tvm_integration.tune.run.MIN_FREE_BYTES", 1 << 62)
    options = TuneOptions(tmp_path / "work", trials=16, trials_per_iter=8)
    with pytest.raises(InputError, match="nothing is lost"):
        tune_network(load_network("zoo:mlp"), host_target(), options)
