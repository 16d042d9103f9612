"""What a worker process does: set itself up, then answer one job after the other.

A worker is forked by `fork_server`. Whatever a job does to it (an exception, `sys.exit`, a crash,
a loop without end) concerns this process only; the user's process sees an answer, or its absence.
"""

import contextlib
import ctypes
import faulthandler
import gc
import os
import pickle
import resource
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from costmodels.errors import InputError
from tvm_integration.workers.messages import encode_answer, receive_message

__all__ = ["WorkerSetup", "die_with_parent", "encode_setup", "run_worker"]

_PR_SET_PDEATHSIG = 1
# A worker is what the kernel should kill first when memory runs out (range -1000 to 1000).
_OOM_SCORE = "500"
# Keeps a traceback readable; TVM's errors can hold a whole module.
_TRACEBACK_LIMIT = 8000

WorkerSetup = tuple[dict[str, str], str, list[str], bytes]
"""Environment, working directory, module search path, and the pickled functions."""


def encode_setup(functions: bytes) -> bytes:
    """Pickle what makes a worker's surroundings those of this process.

    Parameters
    ----------
    functions : bytes
        cloudpickle of ``(initializer, prepare)``.

    Returns
    -------
    bytes
        The body of the first request to a worker.
    """
    try:
        directory = os.getcwd()
    except FileNotFoundError:  # removed under our feet; the worker then stays where it is
        directory = ""
    setup: WorkerSetup = (dict(os.environ), directory, list(sys.path), functions)
    return pickle.dumps(setup)


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to kill this process when the thread that forked it ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:  # it ended before the kernel knew
        os._exit(1)


def run_worker(
    channel: socket.socket, output: int, scratch: str, *, forker_pid: int, close: Iterable[int]
) -> NoReturn:
    """Be a worker until the channel closes. Called in the forked child; never returns.

    Parameters
    ----------
    channel : socket
        Requests come in and answers go out here.
    output : int
        Descriptor that takes stdout and stderr.
    scratch : str
        Folder for temporary files, removed after this process has ended.
    forker_pid : int
        The process that forked this one.
    close : iterable of int
        Descriptors of the forking process, which a worker must not hold.
    """
    try:
        _leave_forker(output, forker_pid, close)
        work = _set_up(channel, scratch)
        while work is not None and (request := receive_message(channel)) is not None:
            number, body = request
            channel.sendall(_answer(number, work, body))
    except BaseException:  # nothing may return into the forking process's code
        traceback.print_exc()
    finally:
        _flush()
        os._exit(0)


def _leave_forker(output: int, forker_pid: int, close: Iterable[int]) -> None:
    os.setpgid(0, 0)
    die_with_parent(forker_pid)
    signal.set_wakeup_fd(-1)
    # TVM's own handler prints pages of C++ frames; faulthandler, set below, names the Python ones.
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGSEGV):
        signal.signal(number, signal.SIG_DFL)
    # Ctrl-C is for the user's process, which then ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(_OOM_SCORE)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.close(output)
    for descriptor in close:
        os.close(descriptor)
    gc.enable()
    # Line by line: what a job printed must be out before its crash.
    sys.stdout = open(1, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    faulthandler.enable(file=2)


def _set_up(channel: socket.socket, scratch: str) -> Callable[[Any], Any] | None:
    """Read the first request, follow it and report; None when there will be no work."""
    request = receive_message(channel)
    if request is None:
        return None
    number, body = request
    try:
        environ, directory, path, functions = pickle.loads(body)
        os.environ.clear()
        os.environ.update(environ)
        os.environ["TMPDIR"] = tempfile.tempdir = scratch
        sys.path[:] = path
        if directory:
            with contextlib.suppress(OSError):
                os.chdir(directory)
        initializer, prepare = pickle.loads(functions)
        if initializer is not None:
            initializer()
        work: Callable[[Any], Any] = prepare()
    except InputError as error:
        channel.sendall(encode_answer(number, {"refused": str(error), "input": True}))
        return None
    except BaseException as error:  # the user's initializer may raise anything, SystemExit too
        channel.sendall(encode_answer(number, {"refused": _describe(error), "input": False}))
        return None
    channel.sendall(encode_answer(number, {"ready": os.getpid()}))
    return work


def _answer(number: int, work: Callable[[Any], Any], body: bytes) -> bytes:
    try:
        answer = encode_answer(number, {"value": work(pickle.loads(body))})
    except BaseException as error:  # a job may raise anything, SystemExit too: it is its answer
        answer = encode_answer(number, {"exception": _describe(error)})
    _flush()
    return answer


def _describe(error: BaseException) -> str:
    """Give the error in one line, then its traceback."""
    headline = "".join(traceback.format_exception_only(error)).strip()
    trace = "".join(traceback.format_exception(error)).strip()
    return f"{headline[:_TRACEBACK_LIMIT]}\n{trace[-_TRACEBACK_LIMIT:]}"


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a job may have closed it
            stream.flush()
