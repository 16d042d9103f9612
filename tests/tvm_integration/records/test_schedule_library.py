"""The file of known schedules: what it keeps, and what it makes of damage and of other writers."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from importlib.metadata import version

import pytest

from costmodels.errors import InputError
from tvm_integration.records import schedule_library
from tvm_integration.records.schedule_library import (
    KEPT,
    KnownSchedule,
    ScheduleLibrary,
    lines_of,
    shipped_lines,
)

ONE = KnownSchedule(
    sketch="aa",
    workload="01",
    extents=(64, 64, 64),
    decisions=((4, 16), (8,), (-1,)),
    latency_s=1e-3,
    device="here",
    cores=2,
    vector_bits=512,
    tvm=version("apache-tvm"),
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "schedules" / "known.jsonl"


def library(path):
    return ScheduleLibrary(path, shipped=False, grows=True)


def with_tile(size, latency_s):
    return replace(ONE, decisions=((64 // size, size), (8,), (-1,)), latency_s=latency_s)


def test_the_best_of_a_kernel_are_kept_and_found_by_their_sketch(path):
    ours = library(path)
    for size, latency_s in ((1, 5e-3), (2, 4e-3), (4, 3e-3), (8, 2e-3), (16, 6e-3)):
        ours.add(with_tile(size, latency_s))
    ours.add(replace(ONE, sketch="bb"))
    for each in (ours, library(path)):
        assert [s.latency_s for s in each.of_sketch("aa")[0]] == [2e-3, 3e-3, 4e-3][:KEPT]
        assert len(each.of_sketch("bb")[0]) == 1
        assert each.of_sketch("cc")[0] == []
    assert len(path.read_text().splitlines()) == 5, "the last one was no better"


def test_a_program_measured_again_is_known_by_its_best(path):
    ours = library(path)
    for latency_s in (2e-3, 1e-3, 3e-3):
        ours.add(replace(ONE, latency_s=latency_s))
    assert [each.latency_s for each in library(path).of_sketch("aa")[0]] == [1e-3]


def test_devices_and_cores_are_kernels_of_their_own(path):
    ours = library(path)
    for other in (ONE, replace(ONE, device="there"), replace(ONE, cores=4)):
        ours.add(other)
    assert len(library(path).of_sketch("aa")[0]) == 3


def test_without_growing_nothing_is_written(path):
    ours = ScheduleLibrary(path, shipped=False)
    ours.add(ONE)
    assert len(ours.of_sketch("aa")[0]) == 1
    assert not path.parent.exists()


def test_damaged_lines_and_those_of_another_tvm_are_left_out_and_counted(path, caplog):
    path.parent.mkdir()
    good = lines_of([ONE])
    bad = [
        b"{", b"[]", b"null", b"\xff\xfe",
        json.dumps(asdict(ONE) | {"latency_s": -1}).encode(),
        json.dumps(asdict(ONE) | {"decisions": "4, 16"}).encode(),
        json.dumps(asdict(ONE) | {"name": 1}).encode(),
    ]  # fmt: skip
    foreign = lines_of([replace(ONE, tvm="0.1")])
    path.write_bytes(b"\n".join([*bad, b"", good + foreign]) + b'{"sketch": "aa", "workl')
    ours = library(path)
    assert ours.of_sketch("aa")[0] == [ONE]
    assert ours.left_out == len(bad) + 2
    assert "9 lines of" in caplog.text
    assert "8 damaged, 1 of another release" in caplog.text
    ours.add(replace(ONE, workload="02"))
    assert len(library(path).of_sketch("aa")[0]) == 2, "a half line is not continued"


def test_a_file_that_grew_is_written_anew(path, monkeypatch):
    monkeypatch.setattr(schedule_library, "SLACK", 10)
    path.parent.mkdir()
    foreign = replace(ONE, tvm="0.1")
    path.write_bytes(lines_of([foreign, *(replace(ONE, latency_s=1 / n) for n in range(1, 40))]))
    assert [each.latency_s for each in library(path).of_sketch("aa")[0]] == [1 / 39]
    assert path.read_bytes() == lines_of([foreign, replace(ONE, latency_s=1 / 39)])


def test_what_cannot_be_written_is_told_and_tuning_goes_on(path, caplog):
    path.parent.write_text("a file in place of the folder")
    ours = library(path)
    ours.add(ONE)
    assert len(ours.of_sketch("aa")[0]) == 1
    assert "schedules are not kept" in caplog.text


def test_several_processes_write_whole_lines(path):
    code = (
        "import sys, pathlib; from dataclasses import replace\n"
        "from test_schedule_library import *\n"
        "ours = library(pathlib.Path(sys.argv[1]))\n"
        "for n in range(200): ours.add(replace(ONE, workload=f'{sys.argv[2]}-{n}'))\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path), name],
            cwd=__file__.rpartition("/")[0],
        )
        for name in ("first", "second")
    ]
    assert [each.wait(timeout=120) for each in running] == [0, 0]
    found = library(path)
    assert len(found.of_sketch("aa")[0]) == 400
    assert found.left_out == 0


def test_bad_latencies_are_refused():
    with pytest.raises(InputError, match="latency_s must be above 0"):
        replace(ONE, latency_s=0.0)


def test_those_that_ship_can_all_be_read(path):
    ours = ScheduleLibrary(path, shipped=True)
    sketches = {json.loads(line)["sketch"] for line in shipped_lines()}
    assert sum(len(ours.of_sketch(each)[1]) for each in sketches) == len(shipped_lines())
    assert ours.left_out == 0
