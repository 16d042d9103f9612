"""Readings of a busy moment are not kept, and what is kept is corrected by faster ones alone."""

import json

import pytest

from costmodels import bandwidth
from costmodels.bandwidth import (
    CHECKED_AFTER_S,
    MIN_UNDISTURBED,
    known_bandwidth,
    measure_bandwidth,
)

GB = 1e9


class Memory:
    """Stands in for copying: readings in byte/s, and how many of them nothing disturbed."""

    def __init__(self, monkeypatch):
        self.rates = [20 * GB]
        self.undisturbed = bandwidth.READINGS
        self.calls = []
        monkeypatch.setattr(bandwidth, "_readings_byte_per_s", self.read)

    def read(self, l3_bytes, count, *, keep_disturbed):
        self.calls.append(count)
        assert l3_bytes == 32 << 20
        kept = count if keep_disturbed else min(count, self.undisturbed)
        return [self.rates[place % len(self.rates)] for place in range(kept)]


@pytest.fixture
def memory(monkeypatch):
    return Memory(monkeypatch)


def known(path):
    return known_bandwidth("a processor", 32 << 20, path)


def age(path, seconds=CHECKED_AFTER_S + 1):
    """Let what is kept have been checked some time ago."""
    content = json.loads(path.read_text())
    content["a processor"]["checked_at"] -= seconds
    path.write_text(json.dumps(content))


def test_what_a_quiet_moment_gave_is_kept(memory, tmp_path):
    path = tmp_path / "bandwidth.json"
    first = known(path)
    assert first.source == "measured"
    assert first.readings == bandwidth.READINGS
    assert first.byte_per_s == 20 * GB
    memory.rates = [5 * GB]
    again = known(path)
    assert (again.source, again.byte_per_s) == ("kept", first.byte_per_s)
    assert memory.calls == [bandwidth.READINGS]


def test_of_a_busy_moment_nothing_is_kept(memory, tmp_path):
    path = tmp_path / "bandwidth.json"
    memory.rates, memory.undisturbed = [5 * GB], MIN_UNDISTURBED - 1
    found = known(path)
    assert found.source == "measured while the machine was busy"
    assert found.readings == 0
    assert not path.exists()
    memory.rates, memory.undisturbed = [20 * GB], MIN_UNDISTURBED
    assert known(path).byte_per_s > 19 * GB
    assert path.exists()


@pytest.mark.parametrize(("later", "corrects"), [(26.0, True), (22.0, False), (5.0, False)])
def test_a_later_reading_corrects_if_it_is_faster(memory, tmp_path, later, corrects):
    path = tmp_path / "bandwidth.json"
    first = known(path)
    age(path)
    memory.rates = [later * GB]
    assert (known(path).byte_per_s > first.byte_per_s) == corrects
    assert known(path).source == "kept"


def test_disturbed_copies_among_quiet_ones_hardly_count(memory):
    memory.rates = [20 * GB, 20 * GB, 20 * GB, 6 * GB]
    found = measure_bandwidth(32 << 20)
    assert found.byte_per_s == 20 * GB
    assert found.spread == pytest.approx(0.7)


def test_readings_that_hardly_differ_give_bandwidths_that_hardly_differ(memory):
    """Wherever they lie: in steps of a quarter, two of them could be a whole step apart."""
    for between in range(100, 130):
        found = []
        for rate in (0.99 * between, 1.01 * between):
            memory.rates = [rate / 10 * GB]
            found.append(measure_bandwidth(32 << 20).byte_per_s)
        assert found[0] <= found[1] <= 1.03 * found[0]


@pytest.mark.parametrize("content", ["{", "[]", '{"a processor": 5.0}', '{"a processor": {}}'])
def test_a_damaged_file_is_measured_over(memory, tmp_path, content):
    path = tmp_path / "bandwidth.json"
    path.write_text(content)
    assert known(path).source == "measured"
    assert known(path).source == "kept"


def test_the_host_is_read():
    rates = bandwidth._readings_byte_per_s(1 << 20, 2, keep_disturbed=True)
    assert len(rates) == 2
    assert all(1e8 < rate < 1e13 for rate in rates)
