"""What a kernel runs on: cores, vector width, caches, clock, peak and bandwidth.

A device is detected on this host or read from a small TOML file, the text that
``costmodels device`` prints.
"""

import contextlib
import json
import math
import os
import platform
import re
import time
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from costmodels.errors import InputError
from costmodels.files import cache_folder, write_atomically


@dataclass(frozen=True, slots=True)
class Device:
    """A processor as cost models see it.

    Parameters
    ----------
    name : str
        For people; not a feature.
    kind : str
        ``"cpu"`` or ``"gpu"``.
    cores : int
        Cores that a kernel may use (streaming multiprocessors of a GPU).
    vector_bits : int
        Width of one vector register (of a warp's lanes together, on a GPU), in bits.
    l1_bytes, l2_bytes : int
        Data cache of one core.
    l3_bytes : int
        Last-level cache shared by the cores; 0 where there is none.
    clock_hz : float
        Sustained clock, in Hz.
    peak_flop_per_s : float
        Single-precision peak over all `cores`, in flop/s; a multiply-add counts two.
    bandwidth_byte_per_s : float
        Of main memory, read and write together, in byte/s.
    """

    name: str
    kind: str
    cores: int
    vector_bits: int
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int
    clock_hz: float
    peak_flop_per_s: float
    bandwidth_byte_per_s: float

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise InputError(f"device.name must be text, got {self.name!r}")
        if self.kind not in ("cpu", "gpu"):
            raise InputError(f"device.kind must be 'cpu' or 'gpu', got {self.kind!r}")
        for field in fields(self)[2:]:
            value = getattr(self, field.name)
            least = 0 if field.name in ("l2_bytes", "l3_bytes") else 1
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or value < least:
                raise InputError(
                    f"device.{field.name} must be a number of at least {least}, got {value!r}"
                )

    def features(self) -> NDArray[np.float32]:
        """Columns of `costmodels.schema.DEVICE`.

        Returns
        -------
        numpy.ndarray
            float32 [9]; sizes and rates as log2(x + 1).
        """
        numbers = [float(getattr(self, field.name)) for field in fields(self)[2:]]
        return np.array([float(self.kind == "gpu"), *np.log2(np.add(numbers, 1.0))], np.float32)

    def limited_to(self, *, cores: int | None = None, vector_bits: int | None = None) -> "Device":
        """The same device with fewer cores or narrower vectors in use; the peak shrinks along.

        Parameters
        ----------
        cores, vector_bits : int, optional
            Limits; larger than what the device has changes nothing.
        """
        new_cores = min(self.cores, cores or self.cores)
        new_bits = min(self.vector_bits, vector_bits or self.vector_bits)
        share = new_cores / self.cores * new_bits / self.vector_bits
        return replace(
            self,
            cores=new_cores,
            vector_bits=new_bits,
            peak_flop_per_s=self.peak_flop_per_s * share,
        )

    def as_dict(self) -> dict[str, str | int | float]:
        """Parameter name -> value."""
        return asdict(self)

    def to_toml(self) -> str:
        """The text of a device file."""
        lines = [f"{key} = {json.dumps(value)}" for key, value in self.as_dict().items()]
        return "\n".join(lines) + "\n"


def read_device(path: str | os.PathLike[str]) -> Device:
    """Read a device file.

    Parameters
    ----------
    path : path
        TOML with one key per parameter of `Device`.

    Raises
    ------
    InputError
        When the file cannot be read, lacks a key, has an unknown one, or a value makes no sense.
    """
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"device file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"device file {path} must be TOML, got: {error}") from None
    wanted = {field.name for field in fields(Device)}
    if missing := sorted(wanted - values.keys()):
        raise InputError(
            f"device file {path} must set {', '.join(missing)}: "
            "`costmodels device` prints a complete one"
        )
    if unknown := sorted(values.keys() - wanted):
        raise InputError(f"device file {path} sets unknown keys: {', '.join(unknown)}")
    return Device(**values)


@cache
def detect_host() -> Device:
    """Detect the processor this runs on.

    Cores, caches, vector width and clock come from Linux; the peak is nominal (two fused
    multiply-adds of a full vector a cycle and core); the bandwidth is measured once by copying an
    array four times the last-level cache, and kept in the user's cache directory so that two runs
    see the same device.

    Raises
    ------
    InputError
        On systems other than Linux: give a device file instead.
    """
    if platform.system() != "Linux":
        raise InputError(
            f"the host can be detected on Linux only, got {platform.system()}: give a device file"
        )
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    name = _processor_name(info)
    flags = set((_first(r"(?:flags|Features)\s*:\s*(.+)", info) or "").split())
    cores = len(usable_cores())
    clock_hz = _clock_hz(info)
    vector_bits = 512 if "avx512f" in flags else 256 if "avx2" in flags else 128
    multiply_adds = 2 if "avx2" in flags or "asimd" in flags else 1
    l3_bytes = _cache_bytes(3)
    return Device(
        name=name,
        kind="cpu",
        cores=cores,
        vector_bits=vector_bits,
        l1_bytes=_cache_bytes(1) or 32 * 1024,
        l2_bytes=_cache_bytes(2),
        l3_bytes=l3_bytes,
        clock_hz=clock_hz,
        peak_flop_per_s=cores * clock_hz * (vector_bits // 32) * 2 * multiply_adds,
        bandwidth_byte_per_s=_bandwidth(f"{name} x{cores}", l3_bytes),
    )


def usable_cores() -> frozenset[int]:
    """Numbers of the processor cores that this process may use.

    Not those of the calling thread: TVM's thread pool binds the thread that first runs a kernel to
    one core, and its workers to the others.
    """
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            found |= os.sched_getaffinity(int(thread))
    return frozenset(found)


def _processor_name(info: str) -> str:
    """Model name with family and model: virtual machines call different processors by one name."""
    name = _first(r"model name\s*:\s*(.+)", info) or platform.machine()
    family, model = _first(r"cpu family\s*:\s*(\d+)", info), _first(r"\bmodel\s*:\s*(\d+)", info)
    return name if family is None or model is None else f"{name}, family {family} model {model}"


def _first(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text)
    return match.group(1).strip() if match else None


def _clock_hz(info: str) -> float:
    limit = Path("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
    if limit.exists():
        return float(limit.read_text()) * 1e3
    return float(_first(r"cpu MHz\s*:\s*([\d.]+)", info) or 2000.0) * 1e6


def _cache_bytes(level: int) -> int:
    for entry in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        holds = (entry / "type").read_text().strip()
        if (entry / "level").read_text().strip() == str(level) and holds != "Instruction":
            size = (entry / "size").read_text().strip()
            return int(size.rstrip("KMG")) * {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[size[-1]]
    return 0


def _bandwidth(fingerprint: str, l3_bytes: int) -> float:
    path = cache_folder("") / "bandwidth.json"
    known: dict[str, float] = {}
    with contextlib.suppress(OSError, ValueError):
        kept = json.loads(path.read_text())
        known = kept if isinstance(kept, dict) else {}
    kept_here = known.get(fingerprint)
    if isinstance(kept_here, int | float) and 1 <= kept_here < math.inf:
        return float(kept_here)
    size = min(max(4 * l3_bytes, 64 << 20), 512 << 20)
    source = np.ones(size // 8)
    target = np.empty_like(source)
    seconds = []
    for _ in range(10):  # the first touches the pages
        start = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - start)
    # The fastest: whatever else runs only takes of it.
    rounded = float(f"{2 * source.nbytes / min(seconds[1:]):.2g}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(known | {fingerprint: rounded}).encode())
    except OSError:
        pass  # a read-only home: measured again next time
    return rounded
