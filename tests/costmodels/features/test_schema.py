"""Schemas name every column once, drop what never varies, and refuse others."""

from dataclasses import replace

import pytest

from costmodels.errors import SchemaError
from costmodels.features.schema import (
    DERIVED_COLUMNS,
    DEVICE,
    LOOP_COLUMNS,
    NEVER_VARYING,
    PER_STORE,
    TVM_PER_STORE_COLUMNS,
)


def test_tvm_has_164_columns_with_distinct_names():
    assert len({column.name for column in TVM_PER_STORE_COLUMNS}) == 164


def test_schema_drops_what_never_varies_and_adds_sums_and_loops():
    names = set(PER_STORE.names)
    added = len(DERIVED_COLUMNS) + len(LOOP_COLUMNS)
    assert len(names) == len(PER_STORE.columns) == 164 - len(NEVER_VARYING) + added
    assert not names & NEVER_VARYING
    assert "compute.float_mad" in NEVER_VARYING
    assert "total.intensity" in names


def test_no_feature_comes_from_a_name():
    assert not any("workload" in name for name in PER_STORE.names)


def test_fingerprint_changes_with_every_part():
    others = [
        replace(PER_STORE, version=PER_STORE.version + 1),
        replace(PER_STORE, name="other"),
        replace(PER_STORE, columns=PER_STORE.columns[::-1]),
        replace(PER_STORE, columns=PER_STORE.columns[1:]),
        DEVICE,
    ]
    assert len({schema.fingerprint for schema in [PER_STORE, *others]}) == 6


def test_mismatch_says_which_and_the_way_out():
    other = replace(PER_STORE, version=PER_STORE.version + 1)
    with pytest.raises(SchemaError, match=r"gbt must be given .* v4 .*, got per-store v5 .*again"):
        PER_STORE.require(other, owner="gbt")
