"""Two measurements of one program that cannot both be right are told, whichever comes first."""

from dataclasses import replace

import pyarrow
import pyarrow.parquet
import pytest
from dataset_rows import record, task
from typer.testing import CliRunner

from costmodels.dataset.contradictions import contradictions
from costmodels.dataset.folder import read_dataset
from costmodels.dataset.writer import DatasetWriter
from costmodels.kernel import Failure, Measured
from tvm_integration.cli.app import app


def stored(folder, *factors):
    """A data set of one task, its programs' latencies multiplied by these."""
    one = task(1)
    with DatasetWriter(folder, {"licence": "Apache-2.0"}) as writer:
        writer.add([one])
        for number, factor in enumerate(factors):
            row = record(one, number)
            if factor is None:
                row = replace(row, measurement=Failure("run", "broke"), failed_in="run")
            else:
                row = replace(row, measurement=Measured((1e-3 * factor,) * 3))
            writer.add([row])
    return read_dataset(folder)


@pytest.mark.parametrize("factor", [3.0, 1 / 3])
def test_a_factor_of_three_is_told(tmp_path, factor):
    first, second = stored(tmp_path / "a", 1, 1, 1), stored(tmp_path / "b", 1, factor, 1.5)
    known = {row.identity: row for row in first.records}
    (problem,) = contradictions(second, known)
    assert "must have one latency" in str(problem)
    assert "a factor of 3.0" in str(problem)
    assert "Keep such data sets apart" in str(problem)


def test_noise_and_failures_are_no_contradiction(tmp_path):
    first, second = stored(tmp_path / "a", 1, 1, None), stored(tmp_path / "b", 1.9, None, 1)
    assert contradictions(second, {row.identity: row for row in first.records}) == []


def test_merging_says_so_in_either_order(tmp_path):
    stored(tmp_path / "a", 1, 1)
    stored(tmp_path / "b", 1, 3)
    for number, order in enumerate((("a", "b"), ("b", "a"))):
        paths = [str(tmp_path / name) for name in order]
        done = CliRunner().invoke(
            app, ["dataset", "merge", *paths, "--out", str(tmp_path / f"merged{number}")]
        )
        assert done.exit_code == 0, done.output
        assert f"{paths[1]}/records.parquet row 2: " in done.output
        assert "a factor of 3.0" in done.output
        assert "1 latencies contradict those that were there before, which are kept" in done.output


def test_of_many_the_first_are_told(tmp_path):
    stored(tmp_path / "a", *[1] * 30)
    stored(tmp_path / "b", *[3] * 30)
    paths = [str(tmp_path / name) for name in "ab"]
    done = CliRunner().invoke(app, ["dataset", "merge", *paths, "--out", str(tmp_path / "m")])
    assert done.output.count("a factor of 3.0") == 10
    assert f"and 20 more of {paths[1]}" in done.output
    assert "30 latencies contradict" in done.output


def test_a_data_set_with_both_is_told_by_its_rows(tmp_path):
    found = stored(tmp_path / "a", 1, 1)
    (first, second) = found.records
    slow = replace(second, measurement=Measured((5e-3,) * 3))
    assert contradictions(replace(found, repeated=(slow,)), {})
    assert contradictions(replace(found, repeated=(first,)), {}) == []


def test_verify_tells_them(tmp_path):
    stored(tmp_path / "a", 1, 1)
    stored(tmp_path / "b", 1, 3)
    paths = [tmp_path / name / "records.parquet" for name in ("a", "b")]
    rows = pyarrow.concat_tables([pyarrow.parquet.read_table(path) for path in paths])
    pyarrow.parquet.write_table(rows, paths[0])  # as someone may join them by hand
    done = CliRunner().invoke(app, ["dataset", "verify", str(tmp_path / "a"), "--sample", "0"])
    assert done.exit_code == 1
    assert "a factor of 3.0" in done.output
