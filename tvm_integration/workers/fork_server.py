"""The process that forks workers: single-threaded, with TVM imported, and nothing ever run in it.

The user's process starts it as a new program (`fork_server_client`), so it shares no thread, lock
or device with the user's process, and what it forks may use them freshly. It ends, and takes every
worker and temporary file along, when the user's process closes the control socket or dies.
"""

import contextlib
import ctypes
import fcntl
import gc
import importlib
import json
import os
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tvm_integration.workers.worker_process import run_worker

__all__ = ["LOCK_NAME", "ROOT_PREFIX", "main"]

ROOT_PREFIX = "costmodels-"
LOCK_NAME = "lock"
_PRELOADED = ("tvm_integration.measure.builder", "tvm_integration.measure.runner")
_PR_SET_CHILD_SUBREAPER = 36
_CONTROL_BYTES = 4096
# How often to look whether the user's process is gone although a child of it holds the socket.
_PARENT_CHECK_S = 5.0
_END_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class _Child:
    key: int
    pid: int
    status: socket.socket
    scratch: Path


def main() -> None:
    """Import TVM, then fork workers on request. ``argv``: control descriptor, root or ''."""
    control = socket.socket(fileno=int(sys.argv[1]))
    parent_pid = os.getppid()
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # the user's may block what we wait for
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _become_subreaper()
        _import_workers_modules()
        forker = _Forker(control, parent_pid, Path(sys.argv[2]) if sys.argv[2] else None)
    except Exception:  # whatever it is, the user's process must be told why there are no workers
        _tell(control, {"failed": traceback.format_exc()[-_CONTROL_BYTES // 2 :]})
        sys.exit(1)
    forker.run()


def _become_subreaper() -> None:
    """Inherit the children that a dead worker leaves behind, so that they can be ended."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _import_workers_modules() -> None:
    with _torch_hidden():
        for name in _PRELOADED:
            importlib.import_module(name)
    # Forked memory stays shared as long as the collector does not write to it.
    gc.collect()
    gc.disable()
    gc.freeze()


@contextlib.contextmanager
def _torch_hidden() -> Iterator[None]:
    """Keep TVM's import from importing torch.

    It would ask torch whether CUDA is available, which opens the device in this process, and a
    device that was opened before a fork cannot be used after it. It also saves 1.5 s.
    """
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules["torch"]


def _make_root() -> Path:
    """Make the folder of all temporary files, and take away those of sessions that were killed."""
    parent = Path(tempfile.gettempdir())
    for lock in parent.glob(f"{ROOT_PREFIX}*/{LOCK_NAME}"):
        with contextlib.suppress(OSError), lock.open() as file:
            # Both processes of a living session hold a shared lock.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if lock.stat().st_uid == os.getuid():
                shutil.rmtree(lock.parent, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=ROOT_PREFIX))


class _Forker:
    """The loop: requests from the control socket in, workers and their exit statuses out."""

    def __init__(self, control: socket.socket, parent_pid: int, root: Path | None) -> None:
        self._control = control
        self._parent_pid = parent_pid
        self._children: dict[int, _Child] = {}
        self._stopping = False
        self._wake, wakeup = socket.socketpair()
        for end in (self._wake, wakeup):
            end.setblocking(False)
        self._wakeup = wakeup
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._stop)
        self._root = _make_root() if root is None else root
        try:
            for scratch in self._root.glob("worker-*"):  # of a forking process that was killed
                shutil.rmtree(scratch, ignore_errors=True)
            (self._root / "artifacts").mkdir(exist_ok=True)
            self._lock = self._locked()
        except OSError:
            if root is None:
                shutil.rmtree(self._root, ignore_errors=True)
            raise
        _tell(control, {"ready": str(self._root)})

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _locked(self) -> int:
        # Locked before it gets its name: a file of that name without a lock is a dead session's.
        beside = self._root / f"{LOCK_NAME}.{os.getpid()}"
        descriptor = os.open(beside, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if (self._root / LOCK_NAME).exists():
            os.close(descriptor)
            beside.unlink()
            descriptor = os.open(self._root / LOCK_NAME, os.O_RDWR)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        else:
            beside.rename(self._root / LOCK_NAME)
        return descriptor

    def run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            self._selector = selector
            while not self._stopping:
                for key, _ in selector.select(_PARENT_CHECK_S):
                    if key.fileobj is self._control:
                        self._serve()
                    else:
                        self._drain_wakeups()
                self._reap()
                self._stopping |= os.getppid() != self._parent_pid
            self._end()

    def _drain_wakeups(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake.recv(4096):
                pass

    def _serve(self) -> None:
        try:
            message, descriptors, _, _ = socket.recv_fds(self._control, _CONTROL_BYTES, 3)
        except ConnectionError:
            message, descriptors = b"", []
        if not message:
            self._stopping = True
            return
        request = json.loads(message)
        if "spawn" in request:
            self._spawn(request["spawn"], descriptors)
        elif child := self._children.get(request["kill"]):
            _kill_group(child.pid)

    def _spawn(self, key: int, descriptors: list[int]) -> None:
        if len(descriptors) < 3:  # none was left; the user's side sees its ends close
            for descriptor in descriptors:
                os.close(descriptor)
            return
        channel, status = (socket.socket(fileno=number) for number in descriptors[::2])
        output = descriptors[1]
        scratch = self._root / f"worker-{key}"
        try:
            threads = len(os.listdir("/proc/self/task"))
            if threads != 1:
                raise RuntimeError(f"the forking process must have 1 thread, has {threads}")
            scratch.mkdir()
            own_pid = os.getpid()
            pid = os.fork()
        except (OSError, RuntimeError) as error:
            with status:
                _tell(status, {"refused": f"a worker cannot be forked: {error}"})
        else:
            if pid == 0:
                close = [*self._descriptors(), status.fileno()]
                run_worker(channel, output, str(scratch), forker_pid=own_pid, close=close)
            self._children[key] = _Child(key, pid, status, scratch)
            with contextlib.suppress(OSError):  # the child does it too; whoever is first
                os.setpgid(pid, pid)
        finally:
            channel.close()
            os.close(output)

    def _descriptors(self) -> list[int]:
        sockets = (self._control, self._wake, self._wakeup, self._selector)
        own = [self._lock, *(holder.fileno() for holder in sockets)]
        return own + [child.status.fileno() for child in self._children.values()]

    def _reap(self) -> None:
        """Report and clean up after every child that has ended."""
        by_pid = {child.pid: child for child in self._children.values()}
        ended = False
        while (pid := _ended_child()) is not None:
            if child := by_pid.get(pid):
                # Its group id stays reserved until the next line but one.
                _kill_group(pid)
            _, status = os.waitpid(pid, 0)
            if child:
                del self._children[child.key]
                shutil.rmtree(child.scratch, ignore_errors=True)
                with child.status:
                    _tell(child.status, {"status": status})
                ended = True
        if ended:
            self._kill_orphans()

    def _kill_orphans(self) -> None:
        """End children of dead workers that had left their worker's process group."""
        workers = {child.pid for child in self._children.values()}
        for pid in set(_children_of(os.getpid())) - workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _end(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        deadline = time.monotonic() + _END_TIMEOUT_S
        while time.monotonic() < deadline:
            for child in self._children.values():
                _kill_group(child.pid)
            self._reap()
            self._kill_orphans()
            if not self._children and not _children_of(os.getpid()):
                break
            time.sleep(0.005)
        shutil.rmtree(self._root, ignore_errors=True)


def _tell(line: socket.socket, message: dict[str, object]) -> None:
    with contextlib.suppress(OSError):  # nobody may want to know any more
        line.sendall(json.dumps(message).encode())


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)  # before it has made its group
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _ended_child() -> int | None:
    """Give a child that has ended and is not waited for yet; it stays so."""
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if ended is None else ended.si_pid


def _children_of(parent: int) -> list[int]:
    children = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                stat = Path("/proc", entry, "stat").read_text(errors="replace")
                if int(stat.rpartition(")")[2].split()[1]) == parent:
                    children.append(int(entry))
    return children
