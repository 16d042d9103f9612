"""Run a built network, check its outputs, measure it end to end, write it to a file."""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from costmodels.cores import core_count
from costmodels.errors import InputError
from tvm_integration.compat import Target, relax, tvm
from tvm_integration.compile.build import BuiltNetwork
from tvm_integration.foreign_errors import one_line
from tvm_integration.threads import require_whole_core, thread_count, thread_environment

__all__ = [
    "OutputCheck",
    "check_library_path",
    "check_runs_here",
    "compare_outputs",
    "device_of",
    "export",
    "measure_s",
    "run",
]

_TOLERANCE = {"float64": 1e-8, "float32": 1e-3, "float16": 3e-2, "bfloat16": 2e-1}
"""Largest difference of an output, relative to the largest value of that output.

Two correct programs differ because they add in another order and approximate `exp`, `tanh` and
`erf` by other polynomials. Over the zoo that comes to at most 2e-5 in float32, which is 150 units
of rounding; one missing tap in one convolution of a zoo network shows as 8e-2 and more. The
bound lies between the two, and in the other types scales with their unit of rounding.
"""


def device_of(target: Target) -> Any:
    """Return the first device of the target's kind: the CPU for `llvm`, else `cuda(0)` etc.

    Raises
    ------
    InputError
        The machine has no such device.
    """
    kind = target.kind.name
    device = tvm.cpu(0) if kind in ("llvm", "c") else tvm.device(kind, 0)
    if not device.exist:
        raise InputError(
            f"target must be of a device of this machine to run, got {kind} and no such device: "
            "give the target llvm, or run it where the device is"
        )
    return device


def check_runs_here(target: Target) -> None:
    """Check that this machine can run what is compiled for a target.

    Raises
    ------
    InputError
        Another kind than ``llvm`` or a GPU's, another architecture, more cores than there are, or
        no such device.
    """
    kind = target.kind.name
    if kind == "c":
        raise InputError(
            "target must be of a kind that TVM can tune, got 'c': give the target llvm"
        )
    if kind == "llvm":
        triple = str(target.attrs.get("mtriple", ""))
        here = platform.machine()
        if triple and _architecture(triple) != _architecture(here):
            raise InputError(
                f"target must be for the processors of this machine ({here}) to measure on it, "
                f"got mtriple {triple!r}: leave -mtriple out, or run it on such a machine"
            )
        cores, there = int(target.attrs.get("num-cores", 1)), core_count()
        if cores > there:
            raise InputError(
                f"num-cores must be at most {there}, the cores that this process may use, "
                f"got {cores}: give -num-cores={there}"
            )
        require_whole_core()
        thread_count(target)  # the environment may ask for another number
    device_of(target)


def _architecture(triple: str) -> str:
    first = triple.partition("-")[0].lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(first, first)


def _arguments(built: BuiltNetwork, inputs: Sequence[np.ndarray], device: Any) -> list[Any]:
    """Copy the inputs to the device, having compared them with what `main` takes."""
    if len(inputs) != len(built.inputs):
        raise InputError(
            f"inputs must be {len(built.inputs)} arrays, got {len(inputs)}: give "
            f"{', '.join(x.name for x in built.inputs)}"
        )
    arguments = []
    for spec, array in zip(built.inputs, inputs, strict=True):
        if array.shape != spec.shape or array.dtype != np.dtype(spec.dtype):
            raise InputError(
                f"input {spec.name} must be {spec.dtype} of shape {spec.shape}, "
                f"got {array.dtype} of shape {array.shape}: convert it first"
            )
        arguments.append(tvm.runtime.tensor(np.asarray(array, order="C"), device))
    return arguments


def run(built: BuiltNetwork, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Run a network once.

    Parameters
    ----------
    built : BuiltNetwork
        From `build`.
    inputs : sequence of np.ndarray
        One array for each of `built.inputs`.

    Returns
    -------
    list of np.ndarray
        The outputs, nested tuples flattened.

    Raises
    ------
    InputError
        Inputs of another number, shape or type; no such device.
    """
    device = device_of(built.target)
    machine = relax.VirtualMachine(built.executable, device)
    return [x.numpy() for x in _flat(machine["main"](*_arguments(built, inputs, device)))]


def _flat(output: Any) -> Iterator[Any]:
    if isinstance(output, tvm.runtime.Tensor):
        yield output
        return
    if output is None:  # torch networks return it for what they were not asked to compute
        return
    for part in output:
        yield from _flat(part)


def measure_s(
    built: BuiltNetwork,
    inputs: Sequence[np.ndarray],
    *,
    repeat: int = 3,
    min_repeat_ms: float = 100.0,
) -> list[float]:
    """Measure the latency of the whole network.

    Included: the virtual machine, every kernel, the allocation of intermediate tensors and
    outputs (from a pool, after the first run). Excluded: compiling, loading, copying inputs to
    the device and outputs back, and one run to warm up.

    Parameters
    ----------
    built : BuiltNetwork
        From `build`.
    inputs : sequence of np.ndarray
        One array for each of `built.inputs`.
    repeat : int
        The number of measurements.
    min_repeat_ms : float
        Runs are averaged until one measurement takes this long.

    Returns
    -------
    list of float
        Seconds per run, one entry a measurement.
    """
    device = device_of(built.target)
    machine = relax.VirtualMachine(built.executable, device)
    machine.save_function("main", "measured", *_arguments(built, inputs, device))
    evaluate = machine.time_evaluator(
        "measured", device, number=1, repeat=repeat, min_repeat_ms=int(min_repeat_ms)
    )
    return [float(x) for x in evaluate().results]


@dataclass(frozen=True)
class OutputCheck:
    """How the outputs of two programs compare.

    Attributes
    ----------
    match : bool
        Every output is within its tolerance.
    max_abs : float
        The largest difference of any element; infinite where only one side is finite.
    max_rel : float
        The largest difference relative to the largest value of that output.
    reason : str
        What does not match, or nothing.
    """

    match: bool
    max_abs: float
    max_rel: float
    reason: str = ""


def compare_outputs(
    got: Sequence[np.ndarray], expected: Sequence[np.ndarray], *, tolerance: float | None = None
) -> OutputCheck:
    """Compare the outputs of a built network with those of its own framework.

    Parameters
    ----------
    got : sequence of np.ndarray
        From `run`.
    expected : sequence of np.ndarray
        From a reference.
    tolerance : float, optional
        The largest difference, relative to the largest value of an output. By default it depends
        on the output's type: 1e-3 for float32; integers must be equal.

    Returns
    -------
    OutputCheck
        Not a number matches only itself, and so do infinities.

    Examples
    --------
    >>> compare_outputs([np.float32([1, 2])], [np.float32([1, 2.001])]).match
    True
    >>> compare_outputs([np.float32([1, 2])], [np.float32([1, 2.1])]).reason
    'output 0 differs by 0.0476 of its largest value, more than 0.001'
    """
    if len(got) != len(expected):
        return _mismatch(f"{len(got)} outputs instead of {len(expected)}")
    worst_abs = worst_rel = 0.0
    reasons = []
    for index, (a, b) in enumerate(zip(got, expected, strict=True)):
        if a.shape != b.shape or a.dtype != b.dtype:
            return _mismatch(
                f"output {index} is {a.dtype}{list(a.shape)} instead of {b.dtype}{list(b.shape)}"
            )
        allowed = _TOLERANCE.get(str(b.dtype), 0.0) if tolerance is None else tolerance
        difference, scale = _difference(a, b)
        relative = difference / scale if difference else 0.0
        worst_abs, worst_rel = max(worst_abs, difference), max(worst_rel, relative)
        if relative > allowed:
            reasons.append(
                f"output {index} differs by {relative:.3g} of its largest value, "
                f"more than {allowed:.3g}"
            )
    return OutputCheck(not reasons, worst_abs, worst_rel, "; ".join(reasons))


def _mismatch(reason: str) -> OutputCheck:
    return OutputCheck(False, float("inf"), float("inf"), reason)


def _difference(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Return the largest difference and the largest finite value of `b`, in float64."""
    # Two whole numbers beyond 2**53 that differ can be equal as float64.
    least = 1.0 if np.issubdtype(b.dtype, np.integer) and not np.array_equal(a, b) else 0.0
    a, b = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(b)
    if (
        not np.array_equal(a[~finite], b[~finite], equal_nan=True)
        or not np.isfinite(a[finite]).all()
    ):
        return float("inf"), 1.0
    if not finite.any():
        return 0.0, 1.0
    # An output of zeros has no scale of its own: differences then count as they are.
    scale = float(np.abs(b[finite]).max()) or 1.0
    return max(least, float(np.abs(a[finite] - b[finite]).max())), scale


def check_library_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of a library to be written, having checked that it can be.

    Raises
    ------
    InputError
        Another ending than `.so` or `.tar`, a directory, no directory to write in.
    """
    file = Path(path)
    if file.suffix not in (".so", ".tar"):
        raise InputError(f"library must end in .so or .tar, got {str(file)!r}: add the ending")
    if file.is_dir():
        raise InputError(f"library must be a file, got the directory {str(file)!r}: name a file")
    try:
        with tempfile.TemporaryFile(dir=file.parent):  # permissions alone do not tell, in /proc
            pass
    except OSError as error:
        raise InputError(
            f"library must be in a directory that can be written, got {str(file.parent)!r} "
            f"({error.strerror}): make it first, or choose another place"
        ) from None
    return file


def export(built: BuiltNetwork, path: str | os.PathLike[str]) -> list[str]:
    """Write a network as a library that stands alone: kernels, weights and program.

    Parameters
    ----------
    built : BuiltNetwork
        From `build`.
    path : path-like
        Ending in `.so` or `.tar`. An existing file is replaced only when the new one is complete.

    Returns
    -------
    list of str
        Lines of Python that load and run it; they need TVM and numpy only.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    file = check_library_path(path)
    _check_room(built, file)
    work = Path(tempfile.mkdtemp(prefix=f".{file.stem}-", dir=file.parent))
    try:
        part = work / file.name
        with _quiet_stderr():
            built.executable.export_library(str(part), workspace_dir=str(work))
        part.replace(file)
    except Exception as error:  # a full disk is an OSError, or the linker's RuntimeError
        raise InputError(
            f"library must be written to {file}, got {one_line(error)}: "
            "free some space there, or choose another place"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return _loading_lines(built, file)


def _check_room(built: BuiltNetwork, file: Path) -> None:
    """Check the free space beforehand: LLVM ends the process when the disk is full."""
    needed = _COPIES_OF_WEIGHTS * built.weight_bytes + _ROOM_FOR_CODE
    for place in (file.parent, Path(tempfile.gettempdir())):
        free = shutil.disk_usage(place).free
        if free < needed:
            raise InputError(
                f"the disk of {place} must have {needed >> 20} MiB free to write {file}, "
                f"got {free >> 20} MiB: free some space there, or choose another place"
            )


_COPIES_OF_WEIGHTS = 3
"""Most copies that lie on the disk at a time: as an object, linked, and the linker's own."""
_ROOM_FOR_CODE = 32 << 20


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Drop what TVM prints when it saves a program: a warning for each constant it holds."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _loading_lines(built: BuiltNetwork, file: Path) -> list[str]:
    device = _device_expression(built.target)
    lines = []
    if built.target.kind.name == "llvm":
        # Before the first kernel runs: TVM would take half of the logical processors.
        environment = thread_environment(int(built.target.attrs.get("num-cores", 1)))
        lines = ["import os", ""]
        lines += [f"os.environ[{name!r}] = {value!r}" for name, value in environment.items()]
    lines += [
        "import numpy as np",
        "import tvm",
        "from tvm import relax",
        "",
        "# TVM warns of the scope of each constant that it loads: nothing is wrong",
        f"library = tvm.runtime.load_module({str(file.resolve())!r})",
        f"network = relax.VirtualMachine(library, {device})",
        "inputs = [",
    ]
    lines += [
        f"    tvm.runtime.tensor(np.zeros({x.shape}, {x.dtype!r}), {device}),  # {x.name}"
        for x in built.inputs
    ]
    return [*lines, "]", 'outputs = network["main"](*inputs)']


def _device_expression(target: Target) -> str:
    """Return the Python expression of `device_of(target)`."""
    kind = target.kind.name
    return "tvm.cpu()" if kind in ("llvm", "c") else f"tvm.device({kind!r}, 0)"
