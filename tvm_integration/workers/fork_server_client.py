"""The user's side of the forking process: one for each user process, started in the background.

The user's process is never forked: the forking process (`fork_server`) is a new program that
imports TVM once, while the user's process goes on. Both sides meet in a socket over which go only
short JSON messages and the descriptors of new workers.
"""

import atexit
import contextlib
import fcntl
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path

from costmodels.cores import usable_cpus
from costmodels.errors import CostModelError, InputError
from tvm_integration.workers.fork_server import LOCK_NAME

__all__ = [
    "Session",
    "WorkerEnds",
    "WorkerError",
    "close_session",
    "require_linux",
    "shared_session",
]

START_TIMEOUT_S = 120.0
_END_TIMEOUT_S = 10.0
_CONTROL_BYTES = 4096
# The search path goes along because the user's process may have changed it.
_BOOTSTRAP = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[3]); "
    "from tvm_integration.workers.fork_server import main; main()"
)
# numpy's OpenBLAS starts threads when it is imported, and what forks must have one. TVM's kernels
# do not read this variable, and each worker gets the user's environment back.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}


def require_linux() -> None:
    """Check the system.

    Raises
    ------
    InputError
        When it is not Linux, whose process control the workers need.
    """
    if sys.platform != "linux":
        raise InputError(
            f"the system must be Linux for warm workers, got {sys.platform}: "
            "use TVM's LocalBuilder and LocalRunner"
        )


class WorkerError(CostModelError):
    """Worker processes cannot be started or kept."""


@dataclass(eq=False)
class WorkerEnds:
    """The user's ends of the lines to one worker.

    Attributes
    ----------
    key : int
        What the forking process knows the worker by.
    forker_pid : int
        The forking process it comes from.
    channel : socket
        Requests and answers. Not blocking.
    output : int
        Descriptor to read the worker's stdout and stderr from. Not blocking.
    status : socket
        The forking process writes here how the worker ended. Not blocking.
    """

    key: int
    forker_pid: int
    channel: socket.socket
    output: int
    status: socket.socket

    def close(self) -> None:
        """Close all lines; closing twice is allowed."""
        self.channel.close()
        self.status.close()
        if self.output >= 0:
            os.close(self.output)
            self.output = -1


class Session:
    """The forking process of this user process, and the folder of all temporary files.

    The constructor starts the process and returns; importing TVM there takes some seconds.

    Raises
    ------
    InputError
        On other systems than Linux.
    """

    def __init__(self) -> None:
        require_linux()
        self.owner_pid = os.getpid()
        self.closed = False
        self._guard = threading.RLock()
        self._keys = itertools.count(1)
        self._ends: weakref.WeakSet[WorkerEnds] = weakref.WeakSet()
        self._root: Path | None = None
        self._lock = -1
        self._start()
        atexit.register(self.close)

    def _start(self) -> None:
        self._ready = False
        self._control, theirs = _socket_pair()
        root, path = str(self._root or ""), json.dumps([str(entry) for entry in sys.path])
        with theirs:
            try:
                self._messages = tempfile.TemporaryFile()  # noqa: SIM115 - until the process ends
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _BOOTSTRAP, str(theirs.fileno()), root, path],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=self._messages,
                    stderr=self._messages,
                    start_new_session=True,  # Ctrl-C must not reach it
                    env={**os.environ, **_ENVIRONMENT},
                )
                # TVM may have bound this thread to one core, which children inherit.
                os.sched_setaffinity(self._process.pid, usable_cpus())
            except OSError as error:  # no temporary folder, no memory, no interpreter
                self._control.close()
                raise WorkerError(
                    f"the process that forks workers must start, got {error}"
                ) from error

    @property
    def forker_pid(self) -> int:
        """Process id of the forking process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the forking process runs."""
        return not self.closed and self._process.poll() is None

    def has_ended(self, forker_pid: int, patience_s: float) -> bool:
        """Whether a forking process has ended, or ends within so many seconds."""
        if forker_pid == self.forker_pid:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_s)
        return forker_pid != self.forker_pid or not self.alive

    def root(self) -> Path:
        """Wait for the forking process and give the folder of all temporary files.

        A forking process that somebody killed is started again, with the same folder.

        Returns
        -------
        Path
            Removed when this process ends, however it ends.

        Raises
        ------
        WorkerError
            When the process cannot start or takes longer than two minutes.
        """
        with self._guard:
            if self.closed:
                raise WorkerError("the session must be open, it was closed: make a new pool")
            if not self.alive:
                self._cleanup()
                self._start()
            if not self._ready:
                self._await_ready()
            assert self._root is not None
            return self._root

    def _await_ready(self) -> None:
        self._control.settimeout(START_TIMEOUT_S)
        try:
            message = json.loads(self._control.recv(_CONTROL_BYTES) or b"{}")
        except TimeoutError:
            self._process.kill()
            message = {"failed": f"it was not ready after {START_TIMEOUT_S:g} s"}
        except ConnectionError as error:
            message = {"failed": str(error)}
        if "ready" not in message:
            reason = message.get("failed", "") or self._last_messages()
            raise WorkerError(f"the process that forks workers must start, it failed: {reason}")
        self._root = Path(message["ready"])
        if self._lock < 0:
            self._lock = os.open(self._root / LOCK_NAME, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_SH)
        self._ready = True

    def _last_messages(self) -> str:
        try:
            status: int | str = self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            status = "unknown"
        size = self._messages.seek(0, os.SEEK_END)
        self._messages.seek(max(0, size - _CONTROL_BYTES))
        return f"exit status {status}\n{self._messages.read().decode(errors='replace')}".strip()

    def spawn(self) -> WorkerEnds:
        """Have a worker forked.

        Returns
        -------
        WorkerEnds
            Whether the fork succeeded is told on `status` and by the first answer.

        Raises
        ------
        WorkerError
            When the forking process cannot be reached or this process has no descriptor left.
        """
        with self._guard, contextlib.ExitStack() as theirs:
            self.root()
            key = next(self._keys)
            try:
                channel, worker_channel = socket.socketpair()
                theirs.enter_context(worker_channel)
                status, forker_status = socket.socketpair()
                theirs.enter_context(forker_status)
                output, worker_output = os.pipe2(os.O_CLOEXEC)
                theirs.callback(os.close, worker_output)
                message = json.dumps({"spawn": key}).encode()
                passed = [worker_channel.fileno(), worker_output, forker_status.fileno()]
                socket.send_fds(self._control, [message], passed)
            except OSError as error:
                raise WorkerError(f"a worker must be reachable, got {error}") from error
            for end in (channel, status):
                end.setblocking(False)
            os.set_blocking(output, False)
            ends = WorkerEnds(key, self.forker_pid, channel, output, status)
            self._ends.add(ends)
            return ends

    def kill(self, key: int) -> None:
        """Have a worker killed with all it started; nothing happens if it is gone already."""
        with self._guard, contextlib.suppress(OSError):
            if not self.closed:
                self._control.send(json.dumps({"kill": key}).encode())

    def close(self) -> None:
        """End the forking process, every worker and every temporary file, and wait for it."""
        if self.closed or os.getpid() != self.owner_pid:
            return
        with self._guard:
            self.closed = True
            atexit.unregister(self.close)
            self._control.close()
            if not self._ready:  # still importing, with nothing to clean up
                self._process.terminate()
            try:
                self._process.wait(_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
            self._cleanup()
            if self._root is not None:
                shutil.rmtree(self._root, ignore_errors=True)
            if self._lock >= 0:
                os.close(self._lock)

    def _cleanup(self) -> None:
        """Take away what a forking process leaves that did not end in order."""
        self._control.close()
        self._messages.close()
        if self._process.wait() != 0:
            _kill_session(self._process.pid)

    def forget(self) -> None:
        """Close this process's copies of all lines: it is a fork of the process that owns them."""
        self.closed = True
        self._control.close()
        for ends in list(self._ends):
            ends.close()
        if self._lock >= 0:
            os.close(self._lock)


def _socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends, the second with a descriptor that is not one of the standard three.

    A process without stdin, stdout or stderr, as a daemon is, would else give it one of their
    numbers, over which `Popen` puts what the child shall have there.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        number = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, 3)
    return ours, socket.socket(fileno=number)


def _kill_session(session: int) -> None:
    """Kill every process of a Unix session."""
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            stat = Path("/proc", entry, "stat").read_text(errors="replace")
            if int(stat.rpartition(")")[2].split()[3]) == session:
                os.kill(int(entry), signal.SIGKILL)


_current: Session | None = None
_current_guard = threading.Lock()


def shared_session() -> Session:
    """Give this process's session; the first call starts it.

    The command line calls this before it imports TVM, so that both imports run side by side.

    Returns
    -------
    Session
        The same one until it is closed.
    """
    global _current
    with _current_guard:
        if _current is None or _current.closed:
            _current = Session()
        return _current


def close_session() -> None:
    """Close this process's session if there is one; the next use starts a new one."""
    session = _current
    if session is not None:
        session.close()


def _forget_in_child() -> None:
    # A child that kept the lines open would hide the end of this process from the workers.
    global _current, _current_guard
    if _current is not None:
        _current.forget()
    _current = None
    _current_guard = threading.Lock()


os.register_at_fork(after_in_child=_forget_in_child)
