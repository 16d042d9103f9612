"""The framework a network comes from: its outputs are the truth, its latency the one to beat."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np

from costmodels.errors import InputError
from tvm_integration.foreign_errors import one_line

if TYPE_CHECKING:
    import onnxruntime
    import torch

__all__ = [
    "MissingReference",
    "OnnxruntimeReference",
    "Reference",
    "TorchReference",
    "onnxruntime_reference",
    "sample_seconds",
]


class Reference(Protocol):
    """A network as its own framework runs it, on this machine's CPU."""

    @property
    def kind(self) -> str | None:
        """`torch`, `onnxruntime`, or None when there is nothing to compare with."""

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the outputs, flattened, in the order of the Relax function's."""

    def measure_s(self, repeat: int, *, min_repeat_ms: float = 100.0) -> list[float]:
        """Return the latency for the example inputs, in seconds, measured `repeat` times."""


def sample_seconds(
    call: Callable[[], object], repeat: int, *, min_repeat_ms: float = 100.0
) -> list[float]:
    """Measure the wall time of a call.

    Parameters
    ----------
    call : callable
        Called once to warm up, then as often as each measurement needs.
    repeat : int
        The number of measurements.
    min_repeat_ms : float
        Calls are averaged until one measurement takes this long.

    Returns
    -------
    list of float
        Seconds per call, one entry a measurement.
    """
    call()
    start = time.perf_counter()
    call()
    once_s = max(time.perf_counter() - start, 1e-9)
    number = max(1, math.ceil(min_repeat_ms / 1e3 / once_s))
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        for _ in range(number):
            call()
        seconds.append((time.perf_counter() - start) / number)
    return seconds


@dataclass(frozen=True)
class TorchReference:
    """Eager torch.

    Attributes
    ----------
    call : callable
        Takes the flat list of input tensors and returns what the network returns.
    inputs : tuple of np.ndarray
        The example inputs.
    threads : int, optional
        Of torch in this process, from the first call on; its own choice by default.
    """

    call: "Callable[[list[torch.Tensor]], object]"
    inputs: tuple[np.ndarray, ...]
    threads: int | None = None

    @property
    def kind(self) -> str:
        """The framework."""
        return "torch"

    def _tensors(self, arrays: Sequence[np.ndarray]) -> "list[torch.Tensor]":
        import torch

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        return [torch.from_numpy(np.array(x)) for x in arrays]

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the network's output tensors, flattened."""
        import torch
        from torch.utils import _pytree as pytree

        # Its fast path of attention writes zeros where a mask hides inputs, an export does not.
        is_fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with torch.no_grad():
                result = self.call(self._tensors(inputs))
        finally:
            torch.backends.mha.set_fastpath_enabled(is_fast)
        leaves = pytree.tree_leaves(result)
        return [x.detach().numpy() for x in leaves if isinstance(x, torch.Tensor)]

    def measure_s(self, repeat: int, *, min_repeat_ms: float = 100.0) -> list[float]:
        """Return the eager latency in seconds."""
        import torch

        tensors = self._tensors(self.inputs)
        with torch.no_grad():
            return sample_seconds(lambda: self.call(tensors), repeat, min_repeat_ms=min_repeat_ms)


@dataclass(frozen=True)
class OnnxruntimeReference:
    """onnxruntime on the CPU, with its default optimizations.

    Attributes
    ----------
    path : str
        The ONNX file, opened at the first use.
    inputs : tuple of np.ndarray
        The example inputs.
    threads : int, optional
        Of an operator; as many as there are physical cores by default.
    optimized : bool
        Whether onnxruntime may rewrite the graph: quantized networks then compute something else
        within one step of quantization.
    """

    path: str
    inputs: tuple[np.ndarray, ...]
    threads: int | None = None
    optimized: bool = True

    @property
    def kind(self) -> str:
        """The framework."""
        return "onnxruntime"

    def _session(self) -> "onnxruntime.InferenceSession":
        return _open_session(self.path, self.threads, self.optimized)

    def _feed(self, inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip((x.name for x in self._session().get_inputs()), inputs, strict=True))

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the graph's outputs in their order."""
        return [np.asarray(x) for x in self._session().run(None, self._feed(inputs))]

    def measure_s(self, repeat: int, *, min_repeat_ms: float = 100.0) -> list[float]:
        """Return the latency of `session.run` in seconds."""
        session, feed = self._session(), self._feed(self.inputs)
        return sample_seconds(lambda: session.run(None, feed), repeat, min_repeat_ms=min_repeat_ms)


@lru_cache(maxsize=2)
def _open_session(
    path: str, threads: int | None, optimized: bool
) -> "onnxruntime.InferenceSession":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    if threads is not None:
        options.intra_op_num_threads = threads
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class MissingReference:
    """There is nothing to compare with.

    Attributes
    ----------
    reason : str
        Why, and the way out.
    """

    reason: str

    @property
    def kind(self) -> None:
        """None: no framework."""
        return

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:  # noqa: ARG002
        """Refuse, with the reason."""
        raise InputError(self.reason)

    def measure_s(
        self,
        repeat: int,  # noqa: ARG002
        *,
        min_repeat_ms: float = 100.0,  # noqa: ARG002
    ) -> list[float]:
        """Refuse, with the reason."""
        raise InputError(self.reason)


def onnxruntime_reference(path: str, inputs: tuple[np.ndarray, ...]) -> Reference:
    """Open an ONNX file in onnxruntime.

    Returns
    -------
    Reference
        A `MissingReference` when onnxruntime is not installed or refuses a file that TVM took:
        tuning goes on, and the report says what was not compared.
    """
    reference = OnnxruntimeReference(path, inputs)
    try:
        reference._session()
    except ImportError:
        return MissingReference(
            "onnxruntime must be installed to compare outputs and latency, got no such package: "
            "install the extra with `pip install 'tvm-costmodels[onnxruntime]'`"
        )
    except Exception as error:  # its exception classes have no common base but this
        return MissingReference(f"onnxruntime must be able to open {path}, got {one_line(error)}")
    return reference
