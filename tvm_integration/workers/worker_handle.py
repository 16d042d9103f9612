"""The user's side of one worker: its lines, its state, what it printed."""

import enum
import os
import select
import socket
import time

from costmodels.kernel import Failure
from tvm_integration.workers.fork_server_client import WorkerEnds
from tvm_integration.workers.messages import ANSWER_LIMIT_BYTES, MessageBuffer, frame

__all__ = ["Worker", "WorkerState"]

_PIECE_BYTES = 1 << 16
_TAIL_BYTES = 2000


class WorkerState(enum.Enum):
    """What a worker is doing."""

    STARTING = enum.auto()
    IDLE = enum.auto()
    BUSY = enum.auto()
    CLOSED = enum.auto()  # it closed its channel; dead or dying as a rule
    ENDING = enum.auto()  # killed; its status is awaited


class Worker:
    """The user's view of one worker process."""

    def __init__(self, ends: WorkerEnds, setup: bytes, deadline: float) -> None:
        self.ends = ends
        self.state = WorkerState.STARTING
        self.pid: int | None = None
        self.jobs_done = 0
        self.number = 0
        self.index: int | None = None
        self.started = time.monotonic()
        self.deadline = deadline
        self.verdict: Failure | None = None  # known before its status is
        self.answers = MessageBuffer()
        self.outgoing = memoryview(frame(0, setup))
        self._tail = bytearray()

    def begin(self, number: int, index: int, body: bytes, deadline: float) -> None:
        """Give the idle worker a job."""
        self.read_output()
        self._tail.clear()
        self.state, self.number, self.index = WorkerState.BUSY, number, index
        self.started, self.deadline = time.monotonic(), deadline
        self.outgoing = memoryview(frame(number, body))

    def write(self) -> None:
        """Send as much of the request as the socket takes."""
        try:
            self.outgoing = self.outgoing[self.ends.channel.send(self.outgoing) :]
        except BlockingIOError:
            pass
        except OSError:  # the worker is gone, as its status will tell
            self.outgoing = self.outgoing[:0]

    def read_channel(self) -> bool:
        """Read what has arrived; False when the worker has closed the channel."""
        while len(self.answers) <= ANSWER_LIMIT_BYTES:
            try:
                piece = self.ends.channel.recv(_PIECE_BYTES)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not piece:
                return False
            self.answers.feed(piece)
        return True

    def read_output(self, pieces: int = 16) -> bool:
        """Keep the end of what was printed; False when the worker has closed its output."""
        for _ in range(pieces):
            try:
                piece = os.read(self.ends.output, _PIECE_BYTES)
            except BlockingIOError:
                return True
            if not piece:
                return False
            self._tail += piece
            del self._tail[:-_TAIL_BYTES]
        return True

    def explain(self, headline: str) -> str:
        """Put the worker's last output behind a reason."""
        self.read_output()
        tail = self._tail.decode(errors="backslashreplace").strip()
        return f"{headline}\nIts last output:\n{tail}" if tail else headline

    @property
    def occupied(self) -> bool:
        """Whether a job or its aftermath is going on."""
        return self.state not in (WorkerState.STARTING, WorkerState.IDLE)

    def silent(self) -> bool:
        """Whether nothing has arrived on the lines of this idle worker, not even their end."""
        return not _readable(self.ends.channel, self.ends.status)

    def await_status(self, limit_s: float) -> None:
        """Wait until the forking process has reported this worker's end."""
        _readable(self.ends.status, limit_s=limit_s)


def _readable(*lines: socket.socket, limit_s: float = 0.0) -> bool:
    poll = select.poll()  # selects any descriptor number
    for line in lines:
        poll.register(line, select.POLLIN)
    return bool(poll.poll(1000 * limit_s))
