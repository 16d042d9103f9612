"""Rows follow the schema, say nothing that depends on names, and know integer work."""

import numpy as np
import pytest
from search_tasks import candidate, context_for, full, matmul, random_candidates, relu

from costmodels.features.schema import NEVER_VARYING, PER_STORE, TVM_PER_STORE_COLUMNS
from costmodels.kernel import Task
from costmodels.testing.example_data import example_device
from tvm_integration.compat import PerStoreFeature
from tvm_integration.tir.features import FeatureExtractor, rows_from_tvm

TASK = Task("t", example_device())


def extract(context, candidates):
    return FeatureExtractor().extract(context, candidates, TASK)


def raw_rows(context, candidates):
    return [rows.numpy() for rows in PerStoreFeature().extract_from(context, candidates)]


def test_rows_have_the_schema_and_belong_to_their_candidates():
    task = random_candidates()
    batch = extract(task.context, task.candidates)
    raw = raw_rows(task.context, task.candidates)
    assert len(batch) == len(task.candidates)
    assert batch.row_counts.tolist() == [len(rows) for rows in raw]
    assert batch.rows.shape[1] == len(PER_STORE.columns)
    names = [column.name for column in TVM_PER_STORE_COLUMNS]
    position = names.index("loops.extent_product")
    np.testing.assert_allclose(
        batch.column("loops.extent_product"), np.concatenate(raw)[:, position], rtol=1e-6
    )


def test_the_dropped_columns_never_vary_and_of_the_others_many_do():
    """At least 20 of TVM's 164 columns are constant over any programs."""
    rows = []
    for kind in ("matmul", "relu"):
        task = random_candidates(kind)
        rows += raw_rows(task.context, task.candidates)
    values = np.concatenate(rows)
    dropped = [i for i, c in enumerate(TVM_PER_STORE_COLUMNS) if c.name in NEVER_VARYING]
    said_otherwise = {
        f"{kind}.pos_{p}" for kind in ("vectorize", "unroll", "parallel") for p in ("none", "mixed")
    }
    constant = [i for i in dropped if TVM_PER_STORE_COLUMNS[i].name not in said_otherwise]
    assert len(constant) == 20
    assert np.all(np.ptp(values[:, constant], axis=0) == 0)
    for kind in ("vectorize", "unroll", "parallel"):
        names = [column.name for column in TVM_PER_STORE_COLUMNS]
        loops = values[:, names.index(f"{kind}.loops")]
        np.testing.assert_array_equal(loops > 0, values[:, names.index(f"{kind}.pos_mixed")] == 1)
        np.testing.assert_array_equal(loops > 0, values[:, names.index(f"{kind}.pos_none")] == 0)


def test_sums_count_work_and_bytes():
    batch = extract(context_for(matmul(64)), [candidate(matmul(64))])
    operations = np.exp2(batch.column("total.operations")) - 1
    assert operations.sum() == pytest.approx(2 * 64**3, rel=1e-3)
    unique = np.exp2(batch.column("total.unique_bytes")) - 1
    assert unique.max() == pytest.approx(3 * 64 * 64 * 4, rel=1e-3)


def test_integer_kernels_have_an_intensity():
    """TVM's curve counts float operations only and is 0 for int8."""
    module = matmul(64, "int8")
    batch = extract(context_for(module), [candidate(module)])
    curve = [batch.column(f"intensity.float_{i}") for i in range(10)]
    assert np.all(np.array(curve) == 0)
    assert batch.column("total.intensity").max() > 3


def test_renaming_changes_nothing():
    """TVM's eight workload flags come from block names, and its order of tied buffers too."""
    task = random_candidates()
    plain = extract(task.context, [candidate(matmul(64, name="C"))])
    for name, inputs in (("softmax", "AB"), ("conv2d_winograd", "BA"), ("A0", "xC"), ("C", "zA")):
        renamed = matmul(64, name=name, inputs=inputs)
        np.testing.assert_array_equal(
            extract(context_for(renamed), [candidate(renamed)]).rows, plain.rows
        )


def test_tied_buffers_are_ordered_by_what_they_are():
    names = [column.name for column in TVM_PER_STORE_COLUMNS]
    row = np.zeros((1, 164))
    for buffer, stride in ((0, 5.0), (1, 2.0)):
        for name, value in (("lines", 4.0), ("bytes", 8.0), ("stride", stride)):
            row[0, names.index(f"buffer{buffer}.{name}")] = value
    swapped = row.copy()
    swapped[0, names.index("buffer0.stride")] = 2.0
    swapped[0, names.index("buffer1.stride")] = 5.0
    np.testing.assert_array_equal(rows_from_tvm(row), rows_from_tvm(swapped))


def test_values_that_are_no_numbers_become_zero():
    raw = np.full((2, 164), np.nan)
    raw[1] = np.inf
    assert np.all(np.isfinite(rows_from_tvm(raw)))


def test_untraced_and_empty_and_rowless_programs():
    context = context_for(full())
    batch = extract(context, [candidate(full())])
    assert batch.row_counts.tolist() == [0]
    assert len(extract(context, [])) == 0
    mixed = extract(context_for(relu()), [candidate(relu()), candidate(full()), candidate(relu())])
    assert mixed.row_counts.tolist() == [1, 0, 1]
    np.testing.assert_array_equal(mixed.rows[0], mixed.rows[1])


def test_a_program_scored_a_moment_before_is_not_extracted_again(monkeypatch):
    task = random_candidates()
    extractor = FeatureExtractor(programs_kept=6)
    asked = []
    real = extractor._extract

    def spy(context, candidates, stages):
        asked.append(len(candidates))
        return real(context, candidates, stages)

    monkeypatch.setattr(extractor, "_extract", spy)
    a, b = task.candidates[:4], task.candidates[2:7]
    extractor.extract(task.context, a, TASK)
    second = extractor.extract(task.context, [*b, b[0]], TASK)
    np.testing.assert_array_equal(second.rows, extract(task.context, [*b, b[0]]).rows)
    assert asked == [4, 3], "two are known, one is there twice"
    extractor.extract(task.context, [*b, a[1]], TASK)
    extractor.extract(task.context, [a[0]], TASK)
    assert asked == [4, 3, 0, 1], "six are kept, the newest"
