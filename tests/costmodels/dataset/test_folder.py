"""A data set keeps what was added, whatever happens to the process or the files."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_rows import reading, record, task
from hypothesis import given
from hypothesis import strategies as st

from costmodels.dataset import writer as writer_module
from costmodels.dataset.folder import read_dataset
from costmodels.dataset.kernel_rows import RECORDS, RecordRow
from costmodels.dataset.writer import DatasetWriter
from costmodels.errors import InputError

BIG = 2**64 - 3


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data"


def write(folder, *rows, **info):
    with DatasetWriter(folder, info or {"name": "test"}) as writer:
        return writer.add(rows)


def test_a_full_disk_at_the_very_beginning(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer_module, "write_atomically", full)
    with pytest.raises(InputError, match="must have room to grow, got: No space left on device"):
        DatasetWriter(tmp_path / "d")


def test_what_is_added_is_read(folder):
    first, second = task(1, networks={"resnet18": 2}), task(2)
    rows = [record(first, BIG), record(first, 2, None), record(second)]
    assert write(folder, first, second, *rows, reading(first)) == 6
    stored = read_dataset(folder)
    assert list(stored.tasks.values()) == [first, second]
    assert list(stored.records) == rows
    assert stored.reference == (reading(first),)
    assert stored.problems == ()
    assert stored.name == "test"
    assert sorted(path.name for path in folder.iterdir() if path.name != ".lock") == [
        "dataset.json",
        "records.parquet",
        "reference.parquet",
        "tasks.parquet",
    ]


@given(
    run_s=st.lists(st.floats(1e-9, 1e5), min_size=1, max_size=4),
    program=st.integers(0, 2**64 - 1),
    trace=st.text(max_size=20),
)
def test_a_record_comes_back_from_its_columns(run_s, program, trace):
    from costmodels.kernel import Measured

    row = record(task(), program, measurement=Measured(tuple(run_s)), trace=trace)
    table = pa.Table.from_pylist([row.as_values()], schema=RECORDS)
    assert RecordRow.from_values(table.to_pylist()[0]) == row


def test_appending_keeps_what_is_there_and_finds_duplicates(folder):
    one = task(1, networks={"a": 1})
    write(folder, one, record(one, 1))
    with DatasetWriter(folder) as writer:
        assert writer.add([record(one, 1, 2e-3, trace="another way there")]) == 0
        assert writer.add([record(one, 2)]) == 1
        assert writer.add([task(1, networks={"b": 3})]) == 1, "a network more"
        assert writer.add([task(1, networks={"b": 3})]) == 0
    stored = read_dataset(folder)
    assert [r.program for r in stored.records] == [1, 2]
    assert stored.records[0].measurement.latency_s == 1e-3
    assert stored.tasks[one.key].networks == {"a": 1, "b": 3}


def test_a_record_of_no_task_is_refused_and_nothing_of_the_batch_is_added(folder):
    one = task(1)
    with DatasetWriter(folder) as writer:
        writer.add([one])
        with pytest.raises(InputError, match="the task of a record must be added before it"):
            writer.add([record(one), record(task(2))])
        assert len(writer.records) == 0
    assert read_dataset(folder).records == ()


def test_a_task_of_another_device_is_refused(folder):
    one = task(1)
    write(folder, one, record(one))
    elsewhere = replace(one, device=replace(one.device, name="another processor"))
    with DatasetWriter(folder) as writer:
        with pytest.raises(InputError, match="must be measured on 'cpu', as before"):
            writer.add([elsewhere, record(elsewhere, 2)])
        clocked = replace(one, device=replace(one.device, clock_hz=1.0), networks={"a": 1})
        assert writer.add([clocked]) == 1, "detected again, at another clock"
    stored = read_dataset(folder)
    assert stored.tasks[one.key].device == one.device
    assert len(stored.records) == 1


def test_killed_while_adding(folder):
    """What `add` returned for is there; the next writer goes on."""
    code = f"""
        import os, sys
        sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
        from dataset_rows import record, task
        from costmodels.dataset.writer import DatasetWriter
        writer = DatasetWriter({str(folder)!r})
        writer.add([task(1)])
        for program in range(5):
            writer.add([record(task(1), program)])
            print(program, flush=True)
        os.kill(os.getpid(), 9)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [r.program for r in read_dataset(folder).records] == [0, 1, 2, 3, 4]
    with DatasetWriter(folder) as writer:
        writer.add([record(task(1), 5)])
    assert not (folder / "journal.jsonl").exists()
    assert len(read_dataset(folder).records) == 6


def test_killed_between_the_tables_and_the_journal(folder):
    """Rows that are in both are there once."""
    writer = DatasetWriter(folder)
    writer.add([task(1), record(task(1), 1), reading(task(1))])
    journal = (folder / "journal.jsonl").read_bytes()
    writer.close()
    (folder / "journal.jsonl").write_bytes(journal)
    stored = read_dataset(folder)
    assert (len(stored.records), len(stored.reference), stored.problems) == (1, 1, ())


def test_a_half_written_last_line_is_left_out(folder, caplog):
    writer = DatasetWriter(folder)
    writer.add([task(1), record(task(1), 1)])
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(b'["records", {"task": "0000')
    assert len(read_dataset(folder).records) == 1
    assert "half written" in caplog.text


def test_rows_that_cannot_be_are_named_and_kept_out(folder):
    one = task(1)
    write(folder, one, *(record(one, n) for n in range(6)))
    rows = pq.read_table(folder / "records.parquet").to_pylist()
    rows[0]["run_s"] = [0.0]
    rows[1]["run_s"] = [float("nan")]
    rows[2]["run_s"] = [-1.0, 1.0]
    rows[3]["task"] = "unknown"
    rows[4]["origin"] = "thin air"
    pq.write_table(pa.Table.from_pylist(rows, schema=RECORDS), folder / "records.parquet")
    stored = read_dataset(folder)
    assert [r.program for r in stored.records] == [5]
    assert [(p.file, p.row) for p in stored.problems] == [
        ("records.parquet", n) for n in range(1, 6)
    ]
    assert "run_s must be positive" in stored.problems[0].what
    assert "origin must be one of" in str(stored.problems[4])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("early_stopped", None, "early_stopped must be true or false, got None"),
        ("measured_at", None, "measured_at must be a time, got None"),
        ("trace", None, "trace must be a text, got None"),
        ("program", None, "program must be a whole number, got None"),
        ("run_s", [1e300], r"run_s must be below 1e\+09, got 1e\+300"),
    ],
)
def test_a_value_that_is_missing_or_cannot_be(folder, column, value, message):
    one = task(1)
    write(folder, one, record(one, 1), record(one, 2))
    rows = pq.read_table(folder / "records.parquet").to_pylist()
    rows[0][column] = value
    pq.write_table(pa.Table.from_pylist(rows, schema=RECORDS), folder / "records.parquet")
    stored = read_dataset(folder)
    assert [r.program for r in stored.records] == [2]
    assert re.search(message, stored.problems[0].what)


def test_a_table_that_is_no_file_is_named(folder):
    write(folder, task(1))
    (folder / "records.parquet").unlink()
    (folder / "records.parquet").mkdir()
    with pytest.raises(InputError, match=r"records\.parquet must be a file that can be read"):
        read_dataset(folder)


def test_a_column_of_another_type(folder):
    one = task(1)
    write(folder, one, record(one, 1))
    path = folder / "records.parquet"
    rows = [{**row, "task": [row["task"]]} for row in pq.read_table(path).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(InputError, match=r"records\.parquet must have columns of the types"):
        read_dataset(folder)


def test_a_description_without_a_name(folder):
    write(folder)
    info = json.loads((folder / "dataset.json").read_text())
    del info["name"]
    (folder / "dataset.json").write_text(json.dumps(info))
    for damaged in (info, info | {"name": 5}, info | {"name": "a", "format_version": True}):
        (folder / "dataset.json").write_text(json.dumps(damaged))
        with pytest.raises(InputError, match="must be the description of a data set with a name"):
            read_dataset(folder)
    (folder / "dataset.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="must be the description of a data set with a name"):
        read_dataset(folder)


@pytest.mark.parametrize("column", ["program", "run_s", "trace"])
def test_a_flipped_bit_of_a_table_is_noticed(folder, column):
    one = task(1)
    write(folder, one, *(record(one, number) for number in range(1, 9)))
    path = folder / "records.parquet"
    group = pq.ParquetFile(path).metadata.row_group(0)
    chunks = [group.column(number) for number in range(group.num_columns)]
    chunk = next(each for each in chunks if each.path_in_schema.split(".")[0] == column)
    first = chunk.dictionary_page_offset or chunk.data_page_offset
    content = bytearray(path.read_bytes())
    content[first + chunk.total_compressed_size - 1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"records\.parquet must be a Parquet file, got a damaged"):
        read_dataset(folder)


@pytest.mark.parametrize("name", ["tasks", "records", "reference"])
def test_a_truncated_table_is_named(folder, name):
    one = task(1)
    write(folder, one, record(one), reading(one))
    path = folder / f"{name}.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(InputError, match=rf"{name}\.parquet must be a Parquet file"):
        read_dataset(folder)
    with pytest.raises(InputError, match="Parquet"):
        DatasetWriter(folder)
    path.unlink()
    with pytest.raises(InputError, match=rf"got none of {name}\.parquet"):
        read_dataset(folder)
    path.write_bytes(whole)
    DatasetWriter(folder).close()


def test_what_is_no_data_set(folder, tmp_path):
    with pytest.raises(InputError, match=r"must be a data set, got no such folder"):
        read_dataset(tmp_path / "nothing")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="got a folder of other files"):
        DatasetWriter(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    write(folder)
    info = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(info | {"format_version": 99}))
    with pytest.raises(InputError, match=r"must be of format version 1, got 99: .* open it with"):
        read_dataset(folder)


def test_a_second_writer_is_refused(folder):
    with (
        DatasetWriter(folder),
        pytest.raises(InputError, match="another process writes to"),
    ):
        DatasetWriter(folder)
    DatasetWriter(folder).close()


def test_a_full_disk_loses_nothing(folder, monkeypatch):
    one = task(1)
    with DatasetWriter(folder) as writer:
        writer.add([one, record(one, 1)])

        def full(_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(InputError, match=r"No space left on device.*nothing is lost"):
                writer.add([record(one, 2)])
            with pytest.raises(InputError, match="No space left"):
                writer.merge()
        assert len(writer.records) == 1
        writer.add([record(one, 3)])
    assert [r.program for r in read_dataset(folder).records] == [1, 3]
    assert not [path for path in folder.iterdir() if path.name.startswith(".tasks")]


def test_the_journal_is_merged_now_and_then(folder, monkeypatch):
    monkeypatch.setattr("costmodels.dataset.writer.MERGE_AFTER_ROWS", 3)
    one = task(1)
    writer = DatasetWriter(folder)
    writer.add([one])
    assert (folder / "journal.jsonl").exists()
    writer.add([record(one, 1), record(one, 2)])
    assert not (folder / "journal.jsonl").exists()
    assert len(read_dataset(folder).records) == 2


def test_the_digest_says_when_contents_changed(folder):
    one = task(1)
    write(folder, one, record(one, 1))
    before = read_dataset(folder).digest()
    write(folder, one, record(one, 1))
    assert read_dataset(folder).digest() == before
    write(folder, record(one, 2))
    assert read_dataset(folder).digest() != before


def test_a_writer_keeps_the_files_whose_rows_it_cannot_use(folder):
    """What it writes no longer holds those rows."""
    one = task()
    write(folder, one, record(one, 1))
    damaged = b'["records", {}]\n'
    (folder / "journal.jsonl").write_bytes(damaged)
    with DatasetWriter(folder):
        pass
    (kept,) = folder.glob("damaged-*")
    assert (kept / "journal.jsonl").read_bytes() == damaged
    assert (kept / "records.parquet").exists()
    assert len(read_dataset(folder).records) == 1
    with DatasetWriter(folder):
        pass
    assert len(list(folder.glob("damaged-*"))) == 1


def test_a_row_of_a_table_that_cannot_be_used_is_kept_aside_once(folder):
    one = task()
    write(folder, one, record(one, 1), record(one, 2))
    values = pq.read_table(folder / "records.parquet").to_pylist()
    values[0] |= {"run_s": [float("nan")], "failure": None, "failed_in": None}
    pq.write_table(pa.Table.from_pylist(values, schema=RECORDS), folder / "records.parquet")
    stored = read_dataset(folder)
    assert [(each.file, each.row) for each in stored.problems] == [("records.parquet", 1)]
    (left,) = stored.records
    assert str(stored.problem(left, "it is odd")) == "records.parquet row 2: it is odd"
    for _ in range(2):
        with DatasetWriter(folder):
            pass
    assert len(list(folder.glob("damaged-*"))) == 1


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("records", {"trace": "\ud800"}),
        ("records", {"processor": "\ud800"}),
        ("records", {"program": 2**70}),
        ("records", {"run_s": ["a"]}),
        ("tasks", {"flop": 10**400}),
        ("tasks", {"networks": [{"network": "n", "weight": -5}]}),
        ("tasks", {"networks": [{"network": None, "weight": 1}]}),
    ],
)
def test_a_row_of_the_journal_that_no_table_could_hold(folder, table, change):
    one, other = task(1), task(2)
    write(folder, one, record(one))
    row = other if table == "tasks" else record(one, 2)
    values = {**row.as_values(), **change}
    lines = [json.dumps([table, values], default=str), "[" * 100_000, ""]
    (folder / "journal.jsonl").write_text("\n".join(lines))
    assert [problem.row for problem in read_dataset(folder).problems] == [1, 2]
    write(folder, other)
    stored = read_dataset(folder)
    assert stored.problems == ()
    assert list(stored.records) == [record(one)]


def test_rows_of_the_journal_are_counted_by_line(folder):
    one = task()
    write(folder, one)
    (folder / "journal.jsonl").write_bytes(b'\nnothing\n["records", {}]\n')
    found = [(each.file, each.row) for each in read_dataset(folder).problems]
    assert found == [("journal.jsonl", 2), ("journal.jsonl", 3)]
