"""Cores that a process can keep busy: quotas, hardware threads, unequal cores; on faked trees."""

import pytest

from costmodels.cores import core_count, cores_in_use, cpu_quota
from costmodels.device import _host

CPUS = "sys/devices/system/cpu"


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def make_core(root, cpu, *, siblings=None, mhz=3000, l1="32K", l2="1024K", l3="32768K"):
    folder = f"{CPUS}/cpu{cpu}"
    write(
        root,
        {
            f"{folder}/topology/thread_siblings_list": str(cpu) if siblings is None else siblings,
            f"{folder}/cpufreq/cpuinfo_max_freq": str(mhz * 1000),
            **{
                f"{folder}/cache/index{index}/{name}": value
                for index, (level, kind, size) in enumerate(
                    ((1, "Data", l1), (1, "Instruction", "64K"), (2, "Unified", l2))
                )
                for name, value in (("level", level), ("type", kind), ("size", size))
            },
        },
    )
    if l3:
        entry = f"{folder}/cache/index3"
        write(root, {f"{entry}/level": "3", f"{entry}/type": "Unified", f"{entry}/size": l3})


CPUINFO = "model name : Fake CPU\ncpu family : 6\nmodel : 151\nflags : fpu avx2 fma"


@pytest.fixture
def hybrid(tmp_path):
    """6 large cores of two threads each, and 8 small ones."""
    write(tmp_path, {"proc/cpuinfo": CPUINFO, "sys/devices/cpu_atom/cpus": "12-19"})
    for core in range(6):
        pair = f"{2 * core}-{2 * core + 1}"
        for cpu in (2 * core, 2 * core + 1):
            make_core(tmp_path, cpu, siblings=pair, mhz=5000, l1="48K", l2="1280K")
    for cpu in range(12, 20):
        make_core(tmp_path, cpu, mhz=3800, l2="2048K")
    return tmp_path


@pytest.fixture
def four(tmp_path):
    """4 equal cores."""
    write(tmp_path, {"proc/cpuinfo": CPUINFO})
    for cpu in range(4):
        make_core(tmp_path, cpu)
    return tmp_path


def test_two_hardware_threads_are_one_core(hybrid):
    assert core_count(hybrid, range(20)) == 14
    assert core_count(hybrid, range(12)) == 6
    assert core_count(hybrid, [0, 1]) == 1
    assert core_count(hybrid, [1]) == 1


def test_a_hybrid_processor_is_described_by_the_cores_in_use(hybrid):
    device = _host(None, hybrid, range(20), 5e10)
    # 6 cores of 5.0 GHz with 32 flop a cycle, 8 of 3.8 GHz with 16.
    assert device.peak_flop_per_s == pytest.approx(1446e9, rel=1e-3)
    assert device.cores == 14
    assert device.clock_hz == pytest.approx((6 * 5.0e9 + 8 * 3.8e9) / 14, rel=1e-3)
    assert device.l1_bytes == 32 << 10, "a tile must fit the smallest"
    assert device.l2_bytes == 1280 << 10


def test_the_small_cores_alone_have_their_own_clock_and_caches(hybrid):
    device = _host(None, hybrid, range(12, 20), 5e10)
    assert (device.cores, device.clock_hz) == (8, 3.8e9)
    assert (device.l1_bytes, device.l2_bytes) == (32 << 10, 2048 << 10)
    assert device.peak_flop_per_s == pytest.approx(8 * 3.8e9 * 16)


def test_of_x86_the_nominal_clock_counts_as_virtual_machines_tell_it(four):
    write(four, {"proc/cpuinfo": f"{CPUINFO}\ncpu MHz : 4100.0\nbogomips : 5200.00"})
    assert _host(4, four, range(4), 5e10).clock_hz == pytest.approx(2.6e9)


def test_unequal_cores_share_it_out_by_their_highest_clocks(hybrid):
    write(hybrid, {"proc/cpuinfo": f"{CPUINFO}\nbogomips : 4992.00"})
    assert _host(4, hybrid, range(20), 5e10).clock_hz == pytest.approx(2.496e9)
    small = _host(8, hybrid, range(12, 20), 5e10)
    assert small.clock_hz == pytest.approx(2.496e9 * 3.8 / 5.0, rel=1e-3)


def test_fewer_threads_than_cores_run_on_the_fastest(hybrid):
    device = _host(4, hybrid, range(20), 5e10)
    assert (device.cores, device.clock_hz, device.l1_bytes) == (4, 5e9, 48 << 10)
    assert len(cores_in_use(99, hybrid, range(20))) == 14


def test_large_and_little_cores_of_arm_are_told_apart(tmp_path):
    write(tmp_path, {"proc/cpuinfo": "Features : fp asimd"})
    for cpu in range(8):
        make_core(tmp_path, cpu, mhz=1800 if cpu < 4 else 2400)
        write(tmp_path, {f"{CPUS}/cpu{cpu}/cpu_capacity": "485" if cpu < 4 else "1024"})
    device = _host(4, tmp_path, range(8), 1e10)
    assert (device.cores, device.clock_hz, device.vector_bits) == (4, 2.4e9, 128)
    assert [core.cpu for core in cores_in_use(None, tmp_path, range(8))] == [4, 5, 6, 7, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("files", "quota", "count"),
    [
        ({}, None, 4),
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, None, 4),
        ({"sys/fs/cgroup/cpu.max": "100000 100000"}, 1.0, 1),
        ({"sys/fs/cgroup/cpu.max": "250000 100000"}, 2.5, 2),
        ({"sys/fs/cgroup/cpu.max": "50000 100000"}, 0.5, 1),
        (
            {
                "proc/self/cgroup": "0::/a/b",
                "sys/fs/cgroup/a/cpu.max": "300000 100000",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000",
            },
            3.0,
            3,
        ),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            2.0,
            2,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/12\n0::/",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu,cpuacct/docker/12/cpu.cfs_quota_us": "150000",
                "sys/fs/cgroup/cpu,cpuacct/docker/12/cpu.cfs_period_us": "100000",
            },
            1.5,
            1,
        ),
        ({"sys/fs/cgroup/cpu.max": "nonsense"}, None, 4),
    ],
)
def test_a_control_group_grants_less(four, files, quota, count):
    write(four, files)
    assert cpu_quota(four) == quota
    assert core_count(four, range(4)) == count


def test_an_affinity_grants_less(four):
    assert core_count(four, [2, 3]) == 2


@pytest.mark.parametrize(("quota", "count"), [("300000 100000", 2), ("100000 100000", 1)])
def test_the_least_of_affinity_and_quota_counts(four, quota, count):
    write(four, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": quota})
    assert core_count(four, [2, 3]) == count


def test_the_host_has_at_least_one_core():
    assert core_count() >= 1
    assert len(cores_in_use()) == core_count()
