"""The processor cores that a process may keep busy at once, and what each of them is.

Not every logical processor counts. A control group can grant fewer, or only a share of their time;
two hardware threads of one core are one core for arithmetic; and cores of one chip can differ.
"""

import contextlib
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_CPUS = Path("sys/devices/system/cpu")
_UNKNOWN_HZ = 2e9
# Both `cpu.max` of version 2 and `cpu.cfs_quota_us` of version 1 say so for no limit.
_UNLIMITED = ("max", "-1")


@dataclass(frozen=True, slots=True)
class Core:
    """A physical core.

    Parameters
    ----------
    cpu : int
        Number of the logical processor that stands for it: its first usable hardware thread.
    clock_hz : float
        Nominal clock, in Hz: of an x86 processor the one that its time-stamp counter runs at, for a
        virtual machine tells no other; elsewhere the highest that Linux tells, or the present one.
        Unequal cores differ by as much as their highest clocks do.
    capacity : int
        Speed relative to the others, of 1024, as Linux tells it on Arm; 1024 elsewhere.
    is_efficient : bool
        Whether it is one of the small cores of a hybrid processor of Intel, whose vector units are
        half as wide.
    l1_bytes, l2_bytes, l3_bytes : int
        Data caches that it reaches; 0 where Linux tells none.
    """

    cpu: int
    clock_hz: float
    capacity: int
    is_efficient: bool
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int


def usable_cpus() -> frozenset[int]:
    """Numbers of the logical processors that this process may run on.

    Not those of the calling thread: TVM's thread pool binds the thread that first runs a kernel to
    some of them, and its workers to others.
    """
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            found |= os.sched_getaffinity(int(thread))
    return frozenset(found)


def cpu_quota(root: Path = Path("/")) -> float | None:
    """How many cores' time the control groups of this process grant it.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` lie.

    Returns
    -------
    float or None
        Processor seconds a second, the least of the group and those above it; None without a
        limit. Versions 1 and 2 of control groups are both read.
    """
    quotas = [_version_2_quota(folder) for folder in _group_folders(root, "")]
    quotas += [_version_1_quota(folder) for folder in _group_folders(root, "cpu")]
    return min((quota for quota in quotas if quota is not None), default=None)


def core_count(root: Path = Path("/"), cpus: Iterable[int] | None = None) -> int:
    """How many cores this process can keep busy at once; at least 1.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` lie.
    cpus : iterable of int, optional
        Logical processors that it may run on; those of `usable_cpus` by default. A `cpuset` of a
        control group shows in them.

    Returns
    -------
    int
        The least of the physical cores behind `cpus` and the whole cores of `cpu_quota`.
    """
    cores = len(_core_leaders(root, usable_cpus() if cpus is None else cpus))
    quota = cpu_quota(root)
    return max(1, cores if quota is None else min(cores, math.floor(quota)))


def cores_in_use(
    count: int | None = None, root: Path = Path("/"), cpus: Iterable[int] | None = None
) -> tuple[Core, ...]:
    """The cores that kernels of so many threads run on.

    Parameters
    ----------
    count : int, optional
        Threads; `core_count` by default, which is also the most.
    root, cpus
        As of `core_count`.

    Returns
    -------
    tuple of Core
        The fastest first. Of unequal cores Linux gives heavy threads the fastest.
    """
    cpus = usable_cpus() if cpus is None else frozenset(cpus)
    most = core_count(root, cpus)
    efficient = _cpu_list(_text(root / "sys/devices/cpu_atom/cpus"))
    leaders = _core_leaders(root, cpus)
    clocks_hz = _clocks_hz(root, leaders)
    cores = [
        Core(
            cpu,
            clocks_hz[cpu],
            int(_text(root / _CPUS / f"cpu{cpu}/cpu_capacity") or 1024),
            cpu in efficient,
            *(_cache_bytes(root, cpu, level) for level in (1, 2, 3)),
        )
        for cpu in leaders
    ]
    cores.sort(key=lambda core: (core.is_efficient, -core.capacity, -core.clock_hz, core.cpu))
    return tuple(cores[: most if count is None else min(count, most)])


def _core_leaders(root: Path, cpus: Iterable[int]) -> list[int]:
    """One logical processor of each physical core."""
    leaders: dict[frozenset[int], int] = {}
    for cpu in sorted(cpus):
        text = _text(root / _CPUS / f"cpu{cpu}/topology/thread_siblings_list")
        leaders.setdefault(frozenset(_cpu_list(text)) or frozenset({cpu}), cpu)
    return list(leaders.values())


def _group_folders(root: Path, controller: str) -> list[Path]:
    """Folders of this process's control group and of all above it.

    In a container they are mounted at the top, while the path is often that of the host: the top
    is read in any case.
    """
    mounts = {
        "": (root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"),
        "cpu": (root / "sys/fs/cgroup/cpu", root / "sys/fs/cgroup/cpu,cpuacct"),
    }[controller]
    group = ""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(",") and (controller or not controllers):
            group = path.strip("/")
    parts = [part for part in group.split("/") if part not in ("", "..")]
    paths = ["/".join(parts[:depth]) for depth in range(len(parts) + 1)]
    return [mount / path for mount in mounts for path in paths]


def _version_2_quota(folder: Path) -> float | None:
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    return _share(quota, period)


def _version_1_quota(folder: Path) -> float | None:
    return _share(_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us"))


def _share(quota_us: str, period_us: str) -> float | None:
    if not quota_us or quota_us in _UNLIMITED:
        return None
    try:
        share = float(quota_us) / float(period_us or 100_000)
    except (ValueError, ZeroDivisionError):
        return None
    return share if share > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _cpu_list(text: str) -> set[int]:
    """Read a list of processors as Linux writes it: ``0-3,8``."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.strip().isdigit():
            found.update(range(int(first), int(last or first) + 1))
    return found


def _clocks_hz(root: Path, cpus: Iterable[int]) -> dict[int, float]:
    """Logical processor -> nominal clock."""
    present = _present_clocks_hz(root)
    found = {cpu: _highest_clock_hz(root, cpu) or present.get(cpu, _UNKNOWN_HZ) for cpu in cpus}
    counter_hz = _counter_hz(root)
    if counter_hz is None:
        return found
    everywhere = [int(each.name[3:]) for each in (root / _CPUS).glob("cpu[0-9]*")]
    fastest = max([*found.values(), *(_highest_clock_hz(root, cpu) for cpu in everywhere)])
    return {cpu: clock_hz / fastest * counter_hz for cpu, clock_hz in found.items()}


def _counter_hz(root: Path) -> float | None:
    """The clock of an x86 processor's time-stamp counter, of which "bogomips" is twice the MHz."""
    match = re.search(r"^bogomips\s*:\s*([\d.]+)", _text(root / "proc/cpuinfo"), re.MULTILINE)
    return float(match.group(1)) / 2 * 1e6 if match else None


def _highest_clock_hz(root: Path, cpu: int) -> float:
    khz = _text(root / _CPUS / f"cpu{cpu}/cpufreq/cpuinfo_max_freq")
    return float(khz) * 1e3 if khz.isdigit() else 0.0


def _present_clocks_hz(root: Path) -> Mapping[int, float]:
    """Logical processor -> clock, from ``/proc/cpuinfo``; empty where that has none."""
    clocks: dict[int, float] = {}
    for block in _text(root / "proc/cpuinfo").split("\n\n"):
        number = re.search(r"^processor\s*:\s*(\d+)", block, re.MULTILINE)
        mhz = re.search(r"^cpu MHz\s*:\s*([\d.]+)", block, re.MULTILINE)
        if number and mhz:
            clocks[int(number.group(1))] = float(mhz.group(1)) * 1e6
    return clocks


def _cache_bytes(root: Path, cpu: int, level: int) -> int:
    for entry in sorted((root / _CPUS / f"cpu{cpu}/cache").glob("index*")):
        if _text(entry / "level") == str(level) and _text(entry / "type") != "Instruction":
            size = re.fullmatch(r"(\d+)([KMG]?)", _text(entry / "size"))
            if size:
                scale = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[size.group(2)]
                return int(size.group(1)) * scale
    return 0
