"""Work directories: damage is cut off or named, another target is refused, nothing is lost."""

import pytest
from search_tasks import TARGET, made_up_results, random_candidates, write_database

from costmodels.errors import InputError
from costmodels.kernel import Failure, Measured
from tvm_integration.compat import Target, meta_schedule
from tvm_integration.identity import program_hash, record_hash, target_text
from tvm_integration.measure.outcomes import measurement_of
from tvm_integration.records.database import (
    RECORDS,
    WORKLOADS,
    has_database,
    open_database,
    replay,
)


@pytest.fixture
def folder(tmp_path):
    write_database(tmp_path, random_candidates(), made_up_results(24))
    return tmp_path


def test_a_new_folder_is_made(tmp_path):
    database = open_database(tmp_path / "new" / "one", TARGET)
    assert len(database) == 0
    assert has_database(tmp_path / "new" / "one")


def test_a_whole_database_opens_unchanged(folder):
    before = (folder / RECORDS).read_bytes()
    assert len(open_database(folder, TARGET)) == 24
    assert (folder / RECORDS).read_bytes() == before


@pytest.mark.parametrize("name", [RECORDS, WORKLOADS])
def test_a_half_written_last_line_is_cut_off_with_a_warning(folder, caplog, name):
    """TVM cannot open such a database."""
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole + whole[:40])
    with pytest.raises((RuntimeError, ValueError), match=r"Unexpected (token|end)"):
        meta_schedule.database.JSONDatabase(work_dir=str(folder))
    assert len(open_database(folder, TARGET)) == 24
    assert (folder / name).read_bytes() == whole
    assert "half written and was cut off" in caplog.text


def test_a_last_line_without_its_end_is_completed(folder):
    whole = (folder / RECORDS).read_bytes()
    (folder / RECORDS).write_bytes(whole.rstrip(b"\n"))
    assert len(open_database(folder, TARGET)) == 24
    assert (folder / RECORDS).read_bytes() == whole


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{nonsense\n", "line 3 must be a JSON pair"),
        (b"[0]\n", "line 3 must be a JSON pair"),
        (b'[7, [[], [1.0], {"kind": "llvm"}, []]]\n', "line 3 must name one of 1 workloads, got 7"),
        (b"[0, 5]\n", "line 3: a record must be a list of a trace"),
        (b"[true, 5]\n", "line 3 must name one of 1 workloads, got True"),
        (b"[0, [[[], []], [null]]]\n", "line 3: the times of a record must be numbers"),
        (b"[0, [[[], [[99, [1]]]], [1.0]]]\n", "a decision of a trace must be of one of its 0"),
        (b"[0, [[[], []], [1.0]]]\n", "line 3 must be a tuning record"),
    ],
)
def test_damage_in_the_middle_is_named_and_kept(folder, line, message):
    lines = (folder / RECORDS).read_bytes().splitlines(keepends=True)
    content = b"".join([*lines[:2], line, *lines[2:]])
    (folder / RECORDS).write_bytes(content)
    with pytest.raises(InputError) as error:
        open_database(folder, TARGET)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert (folder / RECORDS).read_bytes() == content


def test_another_target_is_refused(folder):
    other = Target({"kind": "llvm", "mcpu": "x86-64", "num-cores": 1})
    with pytest.raises(InputError, match="use another work directory for this target"):
        open_database(folder, other)


def test_equal_targets_have_one_description():
    again = Target({"num-cores": 2, "mcpu": "haswell", "kind": "llvm"})
    assert target_text(TARGET) == target_text(again)
    assert target_text(TARGET) != target_text(Target({"kind": "llvm", "num-cores": 2}))


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="must be a folder that can be written"):
        open_database(tmp_path / "file" / "work")


def test_what_times_say():
    assert measurement_of([1e-3, 2e-3]) == Measured((1e-3, 2e-3))
    assert isinstance(measurement_of(None), Failure)
    assert isinstance(measurement_of([]), Failure)
    assert isinstance(measurement_of([1e10]), Failure)
    for times in ([0.0], [-1.0], [float("nan")], [float("inf")], [1e-3, 0.0], [1e-3, 1e10]):
        assert measurement_of(times) is None


def test_replaying_gives_the_programs_back(folder):
    from tvm_integration.tune.search.asking import measured_programs

    records = open_database(folder).get_all_tuning_records()
    task = random_candidates()
    assert all(candidate is not None for _, candidate in replay(records))
    programs = {program_hash(c.sch) for c in task.candidates}
    traces = {record_hash(task.context.mod, c.sch.trace) for c in task.candidates}
    assert measured_programs(records) == programs | traces
