"""What a kernel runs on: cores, vector width, caches, clock, peak and bandwidth.

A device is detected on this host or read from a small TOML file, the text that
``costmodels device`` prints.
"""

import difflib
import json
import math
import os
import platform
import re
import tomllib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from costmodels.bandwidth import Bandwidth, known_bandwidth
from costmodels.checks import require_type
from costmodels.cores import Core, cores_in_use, usable_cpus
from costmodels.errors import InputError


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
        Nominal clock, in Hz: of an x86 processor its base clock. Most run faster for as long as
        power and heat allow, servers about 1.5 times.
    peak_flop_per_s : float
        Single-precision peak over all `cores` at that clock, in flop/s; a multiply-add counts two.
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
        """Columns of `costmodels.features.schema.DEVICE`.

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
        TOML with one key per parameter of `Device`; or the name of one that travels with this
        package (`ready_devices`).

    Raises
    ------
    InputError
        When the file cannot be read, lacks a key, has an unknown one, or a value makes no sense.
    """
    require_type("device", path, str | os.PathLike)
    ready = ready_devices()
    if not Path(path).exists() and not Path(path).suffix and Path(path).name == str(path):
        if str(path) not in ready:
            near = difflib.get_close_matches(str(path), ready, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "`costmodels device --list` names them"
            raise InputError(
                f"device must be a file or the name of a ready device, got {str(path)!r}: {hint}"
            )
        path = ready[str(path)]
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
def detect_host(threads: int | None = None) -> Device:
    """Detect the processor this runs on.

    The cores in use are described, those that so many threads would run on: of unequal ones the
    fastest. Caches, vector width and clock come from Linux; the peak is nominal (two fused
    multiply-adds of a full vector a cycle and core, one on the small cores of a hybrid processor);
    the bandwidth is that of the ready device file of this processor, or else measured
    (`costmodels.bandwidth`).

    Parameters
    ----------
    threads : int, optional
        All cores that this process can keep busy by default, which is also the most.

    Raises
    ------
    InputError
        On systems other than Linux: give a device file instead.
    """
    if platform.system() != "Linux":
        raise InputError(
            f"the host can be detected on Linux only, got {platform.system()}: give a device file"
        )
    return _host(threads, Path("/"), usable_cpus(), host_bandwidth().byte_per_s)


def host_bandwidth() -> Bandwidth:
    """Bandwidth of this host's memory, and where it is known from."""
    info = _processor_info(Path("/"))
    l3_bytes = max(core.l3_bytes for core in cores_in_use())
    name = _processor_name(info)
    if (ready := ready_device(name)) is not None:
        return Bandwidth(ready.bandwidth_byte_per_s, "ready device file")
    return known_bandwidth(name, l3_bytes)


def _host(
    threads: int | None, root: Path, cpus: Iterable[int], bandwidth_byte_per_s: float
) -> Device:
    """Describe the cores in use below a root that holds ``proc`` and ``sys``."""
    info = _processor_info(root)
    flags = set((_first(r"(?:flags|Features)\s*:\s*(.+)", info) or "").split())
    cores = cores_in_use(threads, root, cpus)
    vector_bits = 512 if "avx512f" in flags else 256 if "avx2" in flags else 128
    multiply_adds = 2 if "avx2" in flags or "asimd" in flags else 1
    flop_per_cycle = (vector_bits // 32) * 2 * multiply_adds
    return Device(
        name=_processor_name(info),
        kind="cpu",
        cores=len(cores),
        vector_bits=vector_bits,
        # A schedule is the same for all threads, so its tiles must fit where there is least room.
        l1_bytes=min(core.l1_bytes for core in cores) or 32 * 1024,
        l2_bytes=min(core.l2_bytes for core in cores),
        l3_bytes=max(core.l3_bytes for core in cores),
        clock_hz=_rounded(sum(core.clock_hz for core in cores) / len(cores)),
        peak_flop_per_s=_rounded(sum(_peak(core, flop_per_cycle) for core in cores)),
        bandwidth_byte_per_s=bandwidth_byte_per_s,
    )


def _peak(core: Core, flop_per_cycle: int) -> float:
    return core.clock_hz * flop_per_cycle * (0.5 if core.is_efficient else 1.0)


def _rounded(rate: float) -> float:
    """To four digits: a virtual machine tells its clock a little differently at each start."""
    return float(f"{rate:.4g}")


def ready_devices() -> dict[str, Path]:
    """Name -> the device file that travels with this package.

    Returns
    -------
    dict
        Names as ``--device`` takes them.
    """
    folder = Path(__file__).parent / "shipped" / "devices"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


@cache
def ready_device(processor: str) -> Device | None:
    """The ready device of a processor, by its full name; None where there is none."""
    for path in ready_devices().values():
        device = read_device(path)
        if device.name == processor:
            return device
    return None


def _processor_info(root: Path) -> str:
    return (root / "proc/cpuinfo").read_text(encoding="utf-8")


def _processor_name(info: str) -> str:
    """Model name with family and model: virtual machines call different processors by one name."""
    name = _first(r"model name\s*:\s*(.+)", info) or platform.machine()
    family, model = _first(r"cpu family\s*:\s*(\d+)", info), _first(r"\bmodel\s*:\s*(\d+)", info)
    return name if family is None or model is None else f"{name}, family {family} model {model}"


def _first(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text)
    return match.group(1).strip() if match else None
