import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from costmodels.errors import InputError
from tvm_integration.workers.fork_server_client import Session, shared_session
from tvm_integration.workers.pool import WorkerError, WorkerPool

MARKER = "COSTMODELS_TEST_MARKER"


def make_pool(job, **settings):
    """A pool whose job is a local function, so that it travels by value as a user's would."""
    return WorkerPool(lambda: job, stage="run", **settings)


def processes_with(marker: str) -> list[int]:
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if marker.encode() in Path("/proc", entry, "environ").read_bytes():
                found.append(int(entry))
    return found


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def wait_until(condition, limit_s: float = 15.0) -> bool:
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_results_come_in_order_from_at_most_max_workers():
    with make_pool(lambda x: [x * x, os.getpid()], max_workers=2) as pool:
        results = pool.map(list(range(20)))
    assert [result.value[0] for result in results] == [x * x for x in range(20)]
    assert all(result.failure is None and result.wall_s > 0 for result in results)
    assert 1 <= len({result.value[1] for result in results}) <= 2
    assert {result.value[1] for result in results} == {result.pid for result in results}


def test_workers_stay_between_maps_and_an_empty_map_is_allowed():
    with make_pool(lambda _: os.getpid()) as pool:
        assert pool.map([]) == []
        assert pool.map([0])[0].value == pool.map([0])[0].value


def test_the_constructor_returns_at_once():
    start = time.perf_counter()
    make_pool(lambda x: x)
    assert time.perf_counter() - start < 0.5


def test_the_forking_process_is_single_threaded_and_has_no_torch():
    def job(_):
        import importlib.util

        return ["torch" in sys.modules, importlib.util.find_spec("torch") is not None]

    with make_pool(job) as pool:
        assert pool.map([0])[0].value == [False, True]
    assert len(os.listdir(f"/proc/{shared_session().forker_pid}/task")) == 1


def test_a_worker_has_the_users_surroundings_and_its_own_temporary_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TVM_NUM_THREADS", "3")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "users_module.py").write_text("ANSWER = 42")

    def job(_):
        import tempfile

        import users_module

        variables = [os.environ.get(name) for name in ("TVM_NUM_THREADS", "OPENBLAS_NUM_THREADS")]
        return [users_module.ANSWER, *variables, os.getcwd(), tempfile.mkdtemp(), os.getpgid(0)]

    with make_pool(job) as pool:
        (result,) = pool.map([0])
        answer, threads, blas_threads, directory, temporary, group = result.value
        assert (answer, threads, blas_threads) == (42, "3", os.environ.get("OPENBLAS_NUM_THREADS"))
        assert directory == str(tmp_path)
        assert group == result.pid != os.getpgid(0)
        assert Path(temporary).is_relative_to(pool.root())
    assert wait_until(lambda: not Path(temporary).exists())


def test_a_worker_is_replaced_after_its_jobs():
    with make_pool(lambda _: os.getpid(), jobs_per_worker=3) as pool:
        pids = [result.value for result in pool.map([0] * 7)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 1]


def test_a_job_that_hangs_is_killed_with_its_children():
    def job(kind):
        if kind == "hang":
            print("about to hang")
            # It leaves the worker's process group, and its parent will be gone.
            child = subprocess.Popen(["sleep", "600"], start_new_session=True)
            print("child", child.pid)
            while True:
                pass
        return kind

    with make_pool(job, max_workers=2, timeout_sec=0.5) as pool:
        start = time.perf_counter()
        results = pool.map(["a", "hang", "b", "c"])
        assert time.perf_counter() - start < 5
    assert [result.value for result in results] == ["a", None, "b", "c"]
    failure = results[1].failure
    assert failure.kind == "timeout"
    assert failure.reason.startswith("killed after 0.5 seconds")
    assert "about to hang" in failure.reason
    child = int(failure.reason.split()[-1])
    assert wait_until(lambda: not is_running(child))
    assert not is_running(results[1].pid)


def crash(kind):
    if kind == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == "out of memory":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "exit":
        os._exit(3)
    if kind == "close":
        os.closerange(0, 200)
        time.sleep(60)
    if kind == "forged":  # as by a wild pointer: bytes on every line the worker has
        for entry in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                os.write(int(entry), b"\x00garbage" * 50)
    if kind == "unfinished":
        for entry in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                os.write(int(entry), b"cmW1" + b"\xff" * 12)
    return kind


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("segfault", "its process was killed by signal SIGSEGV"),
        ("out of memory", "killed by signal SIGKILL (out of memory, or killed by hand)"),
        ("exit", "its process exited with status 3 before it answered"),
        ("close", "it closed its channel without an answer"),
        ("forged", "it wrote to its channel: bytes b'\\x00garbage"),
        ("unfinished", "it wrote to its channel: an answer of"),
    ],
)
def test_a_crash_costs_one_failure(kind, reason):
    with make_pool(crash) as pool:
        before, crashed, after, last = pool.map(["before", kind, "after", "last"])
    assert (before.value, after.value, last.value) == ("before", "after", "last")
    assert crashed.value is None
    assert crashed.failure.kind == "crash"
    assert reason in crashed.failure.reason
    # It was tried again in a worker of its own: `before` might have been to blame.
    assert len({before.pid, crashed.pid, after.pid}) == 3
    assert after.pid == last.pid


def test_a_crash_that_an_earlier_job_is_to_blame_for_is_no_failure():
    def job(kind):
        global spoilt
        if "spoilt" in globals():
            os.kill(os.getpid(), signal.SIGSEGV)
        if kind == "spoil":
            spoilt = True
        return kind

    with make_pool(job) as pool:
        results = pool.map(["spoil", "innocent", "innocent"])
    assert [result.value for result in results] == ["spoil", "innocent", "innocent"]


def test_a_segmentation_fault_comes_with_the_stack():
    with make_pool(crash) as pool:
        assert "in crash" in pool.map(["segfault"])[0].failure.reason


def test_an_exception_costs_no_worker_and_keeps_its_text():
    def job(kind):
        if kind == "raise":
            raise ValueError("no such loop")
        if kind == "exit":
            sys.exit("enough")
        if kind == "strange":
            return object()
        return kind

    with make_pool(job) as pool:
        results = pool.map(["raise", "exit", "strange", "fine"])
    reasons = [result.failure.reason for result in results[:3]]
    assert reasons[0].startswith("ValueError: no such loop\nTraceback")
    assert reasons[1].startswith("SystemExit: enough")
    assert "not JSON serializable" in reasons[2]
    assert {result.failure.kind for result in results[:3]} == {"run"}
    assert results[3].value == "fine"
    assert len({result.pid for result in results}) == 1


def test_an_input_that_cannot_be_pickled_is_a_failure():
    with make_pool(lambda x: str(x)) as pool:
        bad, good = pool.map([lambda: 0, 1])
    assert "cannot be sent" in bad.failure.reason
    assert good.value == "1"


def test_output_goes_nowhere_and_is_bounded(capfd):
    def job(x):
        for _ in range(20_000):
            print("garbage " * 10)
            print("\x00\xff", file=sys.stderr)
        os.system("echo from a child")
        return x

    with make_pool(job) as pool:
        assert pool.map([7])[0].value == 7
        hang = make_pool(lambda _: [print("spam" * 100) for _ in iter(int, 1)], timeout_sec=0.3)
        (result,) = hang.map([0])
        hang.close()
    assert result.failure.kind == "timeout"
    assert 100 < len(result.failure.reason) < 5000
    assert capfd.readouterr() == ("", "")


def test_large_messages_arrive_whole():
    with make_pool(lambda text: text[::-1]) as pool:
        text = "abc" * 1_500_000
        assert pool.map([text])[0].value == text[::-1]


def test_many_open_files_do_not_matter():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(1500):
                stack.enter_context(open(os.devnull))
            with make_pool(lambda x: x) as pool:
                assert pool.map([1])[0].value == 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_initializer_runs_in_each_new_worker(tmp_path):
    def initialize():
        (tmp_path / str(os.getpid())).touch()

    with make_pool(lambda x: x, initializer=initialize, jobs_per_worker=2) as pool:
        pids = {result.pid for result in pool.map([0] * 6)}
    assert {int(path.name) for path in tmp_path.iterdir()} == pids
    assert len(pids) == 3


def test_an_initializer_that_raises_is_an_error():
    def initialize():
        raise ImportError("no module named users_passes")

    pool = make_pool(lambda x: x, initializer=initialize)
    for _ in range(2):
        with pytest.raises(WorkerError, match="ImportError: no module named users_passes"):
            pool.map([0])


def test_an_initializer_that_kills_its_process_is_an_error():
    pool = make_pool(lambda x: x, initializer=lambda: os._exit(5))
    with pytest.raises(WorkerError, match="3 in a row did not: its process exited with status 5"):
        pool.map([0])


def test_a_worker_that_died_while_idle_is_replaced():
    with make_pool(lambda x: x) as pool:
        first = pool.map([1])[0]
        os.kill(first.pid, signal.SIGKILL)
        assert wait_until(lambda: not is_running(first.pid))
        second = pool.map([2])[0]
    assert second.value == 2
    assert second.pid != first.pid


def test_close_ends_the_workers_and_may_be_called_twice():
    pool = make_pool(lambda x: x)
    pid = pool.map([1])[0].pid
    pool.close()
    assert not is_running(pid)
    pool.close()
    with pytest.raises(WorkerError, match="the pool of workers must be open"):
        pool.map([1])


def test_a_pool_that_is_dropped_ends_its_workers():
    pool = make_pool(lambda x: x)
    pid = pool.map([1])[0].pid
    del pool
    assert wait_until(lambda: not is_running(pid))


def test_ctrl_c_ends_the_job_and_the_pool_stays_usable():
    def job(kind):
        if kind == "interrupt":
            os.kill(users_pid, signal.SIGINT)
            time.sleep(600)
        return kind

    users_pid = os.getpid()
    with make_pool(job) as pool:
        with pytest.raises(KeyboardInterrupt):
            pool.map(["a", "interrupt", "b"])
        assert pool.map(["c"])[0].value == "c"


def test_the_forking_process_is_started_again_when_killed(tmp_path):
    def job(kind):
        if kind == "kill" and not flag.exists():
            flag.touch()
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)
        return kind

    flag = tmp_path / "killed"

    session = shared_session()
    with make_pool(job) as pool:
        root = pool.root()
        (root / "artifacts" / "kept").touch()
        old = session.forker_pid
        results = pool.map(["a", "kill", "b"])
        assert [result.value for result in results] == ["a", "kill", "b"]
        assert session.forker_pid != old
        assert pool.root() == root
        assert (root / "artifacts" / "kept").exists()
        assert wait_until(lambda: not is_running(results[0].pid))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_workers": 0}, "max_workers must be a whole number of at least 1, got 0"),
        ({"jobs_per_worker": 1.5}, "jobs_per_worker must be a whole number"),
        ({"timeout_sec": float("inf")}, "timeout_sec must be a positive, finite number"),
        ({"timeout_sec": -1}, "timeout_sec must be a positive, finite number of seconds, got -1"),
        ({"initializer": "x"}, "initializer must be a function, got 'x'"),
    ],
)
def test_parameters_are_checked(settings, message):
    with pytest.raises(InputError, match=message):
        make_pool(lambda x: x, **settings)


def test_functions_that_cannot_be_pickled_are_refused():
    lock = __import__("threading").Lock()
    with pytest.raises(InputError, match="functions for the workers must be picklable"):
        make_pool(lambda x: [x, lock])


def test_other_systems_are_refused(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(InputError, match="the system must be Linux for warm workers, got darwin"):
        Session()


SCRIPT = """
import os, sys, time
from tvm_integration.workers.pool import WorkerPool

def job(what):
    if what == "hang":
        os.system("sleep 600")
    return what

pool = WorkerPool(lambda: job, stage="run", max_workers=2)
print([result.value for result in pool.map([1, 2, 3])], flush=True)
if len(sys.argv) > 1:
    print(pool.root(), flush=True)
    pool.map(["hang", "hang"])
"""


@pytest.fixture
def script(tmp_path, tmp_path_factory):
    """Start the script above, piped to ``python -``, in a session of its own."""
    marker = uuid.uuid4().hex
    environ = {**os.environ, "TMPDIR": str(tmp_path), MARKER: marker}
    source = tmp_path_factory.mktemp("script") / "script.py"
    source.write_text(SCRIPT)
    with contextlib.ExitStack() as stack:

        def start(*arguments):
            process = subprocess.Popen(
                [sys.executable, "-", *arguments],
                stdin=stack.enter_context(source.open()),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environ,
                start_new_session=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process, marker

        yield start


def left_over(marker: str, folder: Path) -> bool:
    return bool(processes_with(marker) or list(folder.iterdir()))


def test_nothing_is_left_after_a_normal_exit_nor_of_sessions_that_were_killed(script, tmp_path):
    (tmp_path / "costmodels-killed").mkdir()
    (tmp_path / "costmodels-killed" / "lock").touch()  # which nobody holds
    process, marker = script()
    assert process.stdout.read() == "[1, 2, 3]\n"
    assert process.wait(20) == 0
    assert process.stderr.read() == ""
    assert not left_over(marker, tmp_path)  # at once: the exit waits for it


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_after_a_kill(script, tmp_path, number):
    process, marker = script("hang")
    assert process.stdout.readline() == "[1, 2, 3]\n"
    assert Path(process.stdout.readline().strip()).parent == tmp_path
    # The script, the forking process, two workers; their shells and sleeps.
    assert wait_until(lambda: len(processes_with(marker)) >= 6)
    os.killpg(process.pid, number)
    assert process.wait(20) != 0
    assert wait_until(lambda: not left_over(marker, tmp_path))


def test_a_script_that_ends_before_its_workers_are_ready_does_not_wait(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv(MARKER, marker := uuid.uuid4().hex)
    source = (
        "from tvm_integration.workers.fork_server_client import shared_session; shared_session()"
    )
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", source], check=True)
    assert time.perf_counter() - start < 2.5
    assert not left_over(marker, tmp_path)


def test_workers_and_errors_without_standard_streams(tmp_path):
    script = tmp_path / "daemon.py"
    script.write_text(
        "from pathlib import Path\n"
        "from tvm_integration.workers.pool import WorkerPool\n"
        "def job(x):\n"
        "    return x + 1\n"
        "with WorkerPool(lambda: job, stage='run', max_workers=1) as pool:\n"
        "    Path('answer').write_text(str(pool.map([41])[0].value))\n"
    )
    closed = 'exec "$@" <&- >&- 2>&-'
    command = ["sh", "-c", closed, "sh", sys.executable]
    done = subprocess.run([*command, str(script)], cwd=tmp_path, timeout=120, check=False)
    assert done.returncode == 0
    assert (tmp_path / "answer").read_text() == "42"
    tune = ["-m", "tvm_integration.cli", "tune", "zoo:no_such_network"]
    done = subprocess.run([*command, *tune], cwd=tmp_path, timeout=120, check=False)
    assert done.returncode == 2
