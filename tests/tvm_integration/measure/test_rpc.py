"""Measuring on devices of an RPC tracker; one that dies costs nothing."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress

import pytest
from matmul_task import build_inputs, runner_input
from typer.testing import CliRunner

from costmodels.cores import core_count
from costmodels.dataset.folder import read_dataset
from costmodels.errors import InputError
from costmodels.kernel import Measured
from costmodels.testing.example_data import example_device
from tvm_integration import WarmBuilder, WarmRPCRunner
from tvm_integration.cli.app import app
from tvm_integration.compat import (
    EvaluatorConfig,
    RPCConfig,
    connect_rpc_tracker,
    meta_schedule,
)
from tvm_integration.measure.rpc_runner import count_devices, parse_rpc

KEY = "testdevice"
START_TIMEOUT_S = 90
WAIT_S = 3.0


class Tracker:
    """A tracker and servers, each in a process group of its own."""

    def __init__(self, folder, threads):
        self._folder = folder
        self._threads = threads
        self._processes = []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.config = RPCConfig("127.0.0.1", port, KEY, session_timeout_sec=60)
        where = ["--host", "127.0.0.1", "--port", str(port), "--port-end", str(port + 1)]
        self._start("tvm.exec.rpc_tracker", where)
        self._await(lambda: count_devices(self.config) == 0)

    @property
    def address(self) -> str:
        return f"{self.config.tracker_host}:{self.config.tracker_port}"

    def _start(self, module, arguments):
        command = [sys.executable, "-m", module, "--silent", *arguments]
        process = subprocess.Popen(
            command,
            cwd=self._folder,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TVM_NUM_THREADS": str(self._threads)},
        )
        self._processes.append(process)
        return process

    def _await(self, is_so):
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                if is_so():
                    return
            except InputError:
                pass
            time.sleep(0.3)
        raise AssertionError("tracker or server did not start")

    def add_servers(self, count):
        arguments = ["--host", "127.0.0.1", "--tracker", self.address, "--key", KEY]
        servers = [self._start("tvm.exec.rpc_server", arguments) for _ in range(count)]
        self._await(lambda: count_devices(self.config) == count)
        return servers

    def close(self):
        for process in reversed(self._processes):
            kill(process)


def kill(process):
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _release_later(sessions):
    """Hold a device for longer than a program waits for one at a time."""
    time.sleep(3 * WAIT_S)
    sessions.clear()


@contextmanager
def tracker(folder, threads=2):
    found = Tracker(folder, threads)
    try:
        yield found
    finally:
        found.close()


@pytest.mark.slow
def test_two_devices_measure_and_one_dies(tmp_path):
    """What the dead server was measuring is measured by the other."""
    built = WarmBuilder(max_workers=2).build(build_inputs(12))
    paths = [str(each.artifact_path) for each in built]
    with tracker(tmp_path) as devices:
        first, _ = devices.add_servers(2)
        runner = WarmRPCRunner(
            devices.config, EvaluatorConfig(number=1, repeat=3, min_repeat_ms=200)
        )
        threading.Timer(4.0, kill, [first]).start()
        start = time.monotonic()
        results = [future.result() for future in runner.run([runner_input(p) for p in paths])]
        assert time.monotonic() - start > 4.0, "the server died after the run"
        assert [each.error_msg for each in results] == [None] * 12
        assert all(len(each.run_secs) == 3 and min(each.run_secs) > 0 for each in results)
        assert count_devices(devices.config) == 1
        runner.close()


@pytest.fixture(scope="module")
def device_elsewhere(tmp_path_factory):
    """A tracker with one server; first it had none."""
    with tracker(tmp_path_factory.mktemp("rpc")) as devices:
        with pytest.raises(InputError, match=f"must have a server of key '{KEY}', got none"):
            WarmRPCRunner(devices.config)
        devices.add_servers(1)
        yield devices


@pytest.mark.slow
def test_collect_on_devices_elsewhere(device_elsewhere, tmp_path):
    device = tmp_path / "device.toml"
    device.write_text(example_device("far away").to_toml())
    arguments = ["collect", "zoo:mlp", "--out", str(tmp_path / "d"), "--per-task", "3"]
    arguments += ["--rpc-tracker", device_elsewhere.address, "--rpc-key", KEY]
    arguments += ["--device", str(device)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = read_dataset(tmp_path / "d")
    assert len(found.records) >= 3
    assert all(isinstance(record.measurement, Measured) for record in found.records)
    assert {record.processor for record in found.records} == {
        f"far away, RPC key {KEY}, {core_count()} threads"
    }
    assert {task.device.name for task in found.tasks.values()} == {"far away"}


@pytest.mark.exhaustive
def test_a_server_with_too_few_threads_and_one_that_others_hold(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("tvm_integration.measure.rpc_runner._START_ALLOWANCE_S", WAIT_S)
    built = [str(each.artifact_path) for each in WarmBuilder().build(build_inputs(2))]
    config = EvaluatorConfig(number=1, repeat=2, min_repeat_ms=0)
    with tracker(tmp_path, threads=1) as devices:
        devices.add_servers(1)
        runner = WarmRPCRunner(devices.config, config, threads=2)
        with pytest.raises(InputError) as error:
            runner.run([runner_input(built[0])])
        runner.close()
        assert "must have 2 threads, the cores of the target, got 1" in str(error.value)
        assert "`TVM_NUM_THREADS=2 python -m tvm.exec.rpc_server`" in str(error.value)

        held = connect_rpc_tracker(devices.config.tracker_host, devices.config.tracker_port)
        session = held.request(KEY)
        runner = WarmRPCRunner(devices.config, config)
        release = threading.Thread(target=_release_later, args=([session],))
        del session  # the thread's list holds it now
        release.start()
        with caplog.at_level("WARNING"):
            results = [future.result() for future in runner.run([runner_input(p) for p in built])]
        release.join()
        runner.close()
    assert [each.error_msg for each in results] == [None, None], "waiting is no failure"
    assert "waiting for a device of key 'testdevice'" in caplog.text


@pytest.mark.slow
def test_stock_rpc_runner_runs_our_artifacts(device_elsewhere):
    (built,) = WarmBuilder(max_workers=1).build(build_inputs(1))
    assert built.error_msg is None
    runner = meta_schedule.runner.RPCRunner(
        rpc_config=device_elsewhere.config,
        evaluator_config=EvaluatorConfig(number=1, repeat=2, min_repeat_ms=0),
    )
    (future,) = runner.run([runner_input(str(built.artifact_path))])
    result = future.result()
    assert result.error_msg is None
    assert len(result.run_secs) == 2
    assert all(float(t) > 0 for t in result.run_secs)


def test_what_cannot_be():
    with pytest.raises(InputError, match="must be given together"):
        parse_rpc("here:9190", None)
    with pytest.raises(InputError, match="must be HOST:PORT, got 'here'"):
        parse_rpc("here", "key")
    assert parse_rpc(None, None) is None
    with pytest.raises(InputError, match=r"an RPC tracker must answer at 127\.0\.0\.1:1, got"):
        WarmRPCRunner(parse_rpc("127.0.0.1:1", "key"))
    with pytest.raises(InputError, match="must name a tracker"):
        WarmRPCRunner(RPCConfig("127.0.0.1", 1, None))
    with pytest.raises(InputError, match="rpc_config must be an RPCConfig, got 3"):
        WarmRPCRunner(3)
    with pytest.raises(InputError, match="--device must be given"):
        CliRunner().invoke(
            app,
            ["collect", "zoo:mlp", "--out", "d", "--rpc-tracker", "a:1", "--rpc-key", "k"],
            catch_exceptions=False,
        )
