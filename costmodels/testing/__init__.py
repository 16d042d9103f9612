"""Conformance checks that every model must pass; for the models here and for third parties.

Each check is a small function that takes a factory and raises `AssertionError` with the reason. In
a test suite::

    @pytest.mark.parametrize("check", KERNEL_MODEL_CHECKS, ids=lambda check: check.__name__)
    def test_conformance(check, tmp_path):
        check(MyModel, tmp_path)

`NETWORK_MODEL_CHECKS` are those of network models, and used alike.

A model must survive `copy.deepcopy`: most checks begin with a copy of one fitted model.
"""

from costmodels.testing.fitted import Check, ModelFactory
from costmodels.testing.learning_checks import (
    check_failures_are_not_preferred,
    check_fit_forgets,
    check_fit_gives_seconds,
    check_fit_ranks,
    check_fit_repeats,
    check_inputs_not_written,
    check_update_learns,
    check_update_with_failures,
    check_update_with_nothing,
    check_update_without_graphs,
)
from costmodels.testing.network_checks import (
    NETWORK_MODEL_CHECKS,
    NetworkCheck,
    NetworkModelFactory,
)
from costmodels.testing.prediction_checks import (
    check_batch_independence,
    check_claims,
    check_extreme_features,
    check_finite,
    check_no_rows,
    check_order_independence,
    check_predict_repeats,
    check_protocol,
    check_schema_mismatch,
    check_shapes,
    check_unsupported_is_named,
)
from costmodels.testing.storage_checks import (
    check_foreign_checkpoint,
    check_no_pickle,
    check_save_is_atomic,
    check_save_load,
    check_save_load_untrained,
)

__all__ = [
    "KERNEL_MODEL_CHECKS",
    "NETWORK_MODEL_CHECKS",
    "Check",
    "ModelFactory",
    "NetworkCheck",
    "NetworkModelFactory",
]

KERNEL_MODEL_CHECKS: tuple[Check, ...] = (
    check_protocol,
    check_shapes,
    check_finite,
    check_extreme_features,
    check_order_independence,
    check_batch_independence,
    check_predict_repeats,
    check_fit_repeats,
    check_fit_forgets,
    check_fit_ranks,
    check_fit_gives_seconds,
    check_update_learns,
    check_update_without_graphs,
    check_update_with_nothing,
    check_update_with_failures,
    check_failures_are_not_preferred,
    check_inputs_not_written,
    check_no_rows,
    check_unsupported_is_named,
    check_claims,
    check_save_load,
    check_save_is_atomic,
    check_save_load_untrained,
    check_no_pickle,
    check_foreign_checkpoint,
    check_schema_mismatch,
)
"""All checks, each a test of its own."""
