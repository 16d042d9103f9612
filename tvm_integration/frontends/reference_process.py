"""A reference in a process of its own, which TVM has not touched.

TVM binds the threads of its process to processors, and so all threads that are made later; and the
threads of two frameworks in one process wait for each other. A reference that runs alone takes what
it takes alone.
"""

import os
import signal
import subprocess
import warnings
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from tempfile import TemporaryDirectory
from typing import Any

import cloudpickle
import numpy as np

from costmodels.cores import core_count
from costmodels.errors import CostModelError, InputError
from tvm_integration.foreign_errors import one_line
from tvm_integration.frontends.reference import (
    MissingReference,
    OnnxruntimeReference,
    Reference,
    TorchReference,
    onnxruntime_reference,
)
from tvm_integration.workers.child import start_child

START_TIMEOUT_S = 600.0
ANSWER_TIMEOUT_S = 1800.0
_END_TIMEOUT_S = 5.0


class ReferenceProcess:
    """Runs a reference in another process, which starts at the first use; a `Reference` itself.

    Parameters
    ----------
    reference : TorchReference or OnnxruntimeReference
        What to run there.

    Raises
    ------
    InputError
        From its methods, when the network cannot travel to another process or raises there.
    CostModelError
        Likewise, when that process ended.
    """

    def __init__(self, reference: TorchReference | OnnxruntimeReference) -> None:
        self._reference: TorchReference | OnnxruntimeReference = reference
        self._running: _Running | None = None

    @property
    def kind(self) -> str | None:
        """The framework; None where it is missing or cannot open the network."""
        if isinstance(self._reference, TorchReference):
            return self._reference.kind
        kind, self.reason = self._ask("kind")
        return None if kind is None else str(kind)

    reason: str = ""
    """Why there is no framework."""

    @property
    def inputs(self) -> tuple[np.ndarray, ...]:
        """The example inputs."""
        return self._reference.inputs

    def use_threads(self, count: int) -> None:
        """Let it run on so many threads from now on; those of the cores by default."""
        if count != self._reference.threads:
            self.close()
            self._reference = replace(self._reference, threads=count)

    def run(self, inputs: Sequence[np.ndarray], *, optimized: bool = True) -> list[np.ndarray]:
        """Return the outputs, flattened; `optimized` as of `OnnxruntimeReference`."""
        found: list[np.ndarray] = self._ask("run", list(inputs), optimized)
        return found

    def measure_s(self, repeat: int, *, min_repeat_ms: float = 100.0) -> list[float]:
        """Return the latency for the example inputs, in seconds, measured `repeat` times."""
        found: list[float] = self._ask("measure", repeat, min_repeat_ms)
        return found

    def close(self) -> None:
        """End the process; the next use starts another. Closing twice is allowed."""
        if self._running is not None:
            self._running.end()
            self._running = None

    def _ask(self, verb: str, *arguments: Any) -> Any:
        if self._running is None:
            self._running = _start(self._reference)
        return self._running.ask(verb, *arguments)


def _start(reference: TorchReference | OnnxruntimeReference) -> "_Running":
    threads = core_count() if reference.threads is None else reference.threads
    reference = replace(reference, threads=threads)
    folder = TemporaryDirectory(prefix="costmodels-reference-")
    path = os.path.join(folder.name, "reference.pickle")
    try:
        # Through a file: weights can be larger than what a pipe or a message takes.
        with open(path, "wb") as file:
            cloudpickle.dump(reference, file)
    except Exception as error:  # pickling runs the network's own code, which may raise anything
        folder.cleanup()
        raise InputError(
            f"the network must be one that can be pickled to be compared with, got "
            f"{one_line(error)}: define its classes in a module"
        ) from error
    process, connection = start_child(__name__, {"OMP_NUM_THREADS": str(threads)})
    running = _Running(process, connection, folder)
    running.ask("load", path, limit_s=START_TIMEOUT_S)
    return running


@dataclass(eq=False)
class _Running:
    """A process that serves a reference."""

    process: "subprocess.Popen[bytes]"
    connection: Connection
    folder: "TemporaryDirectory[str]"

    def __post_init__(self) -> None:
        self._finalizer = weakref.finalize(self, _end, self.process, self.connection, self.folder)

    def ask(self, verb: str, *arguments: Any, limit_s: float = ANSWER_TIMEOUT_S) -> Any:
        try:
            self.connection.send((verb, *arguments))
            if not self.connection.poll(limit_s):
                self.end()
                raise CostModelError(f"the reference must answer within {limit_s:g} s, got nothing")
            succeeded, value = self.connection.recv()
        except (EOFError, OSError):
            code = self.process.wait(_END_TIMEOUT_S)
            self.end()
            raise CostModelError(
                f"the process of the reference must live, got exit code {code}: it may have run "
                "out of memory"
            ) from None
        if not succeeded:
            raise InputError(value)
        return value

    def end(self) -> None:
        self._finalizer()


def _end(
    process: "subprocess.Popen[bytes]", connection: Connection, folder: "TemporaryDirectory[str]"
) -> None:
    connection.close()  # it hears of that when it waits for the next question
    try:
        process.wait(_END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    folder.cleanup()


def serve(connection: Connection) -> None:
    """Be the process: answer until the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    reference: Reference = MissingReference("nothing was loaded")
    while True:
        try:
            verb, *arguments = connection.recv()
        except EOFError:
            return
        try:
            if verb == "load":
                reference = _load(*arguments)
                answer: Any = None
            else:
                answer = _answer(reference, verb, *arguments)
            connection.send((True, answer))
        except Exception as error:  # whatever the network raises, the other process must hear it
            text = str(error) if isinstance(error, CostModelError) else one_line(error)
            connection.send((False, f"the network must run in its own framework, got {text}"))


def _load(path: str) -> Reference:
    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, about its own code
        reference = cloudpickle.load(file)
    os.unlink(path)
    if isinstance(reference, OnnxruntimeReference):
        opened = onnxruntime_reference(reference.path, reference.inputs)
        return opened if isinstance(opened, MissingReference) else reference
    found: TorchReference = reference
    return found


def _answer(reference: Reference, verb: str, *arguments: Any) -> Any:
    if verb == "kind":
        return reference.kind, getattr(reference, "reason", "")
    if verb == "run":
        inputs, optimized = arguments
        if not optimized and isinstance(reference, OnnxruntimeReference):
            reference = replace(reference, optimized=False)
        return reference.run(inputs)
    repeat, min_repeat_ms = arguments
    return reference.measure_s(repeat, min_repeat_ms=min_repeat_ms)
