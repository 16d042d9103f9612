"""What a run of `tune` tells while it lasts and when it ends."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from tvm_integration.cli.formatting import duration_text, seconds_text
from tvm_integration.cli.tune_display import print_result, status_text
from tvm_integration.tune.state import KernelState, TuneResult, TuneState


def kernel(**values):
    fields = {"name": "k", "weight": 2, "untuned_s": 1e-2, "selected": True}
    return KernelState(**(fields | values))


def test_a_kernel_uses_the_faster_program():
    assert kernel(best_s=1e-3).total_s == pytest.approx(2e-3)
    assert kernel(best_s=5e-2).total_s == pytest.approx(2e-2)
    assert kernel(untuned_s=None).total_s is None


def test_the_sum_of_kernels_is_unknown_when_one_is():
    """TVM leaves such a kernel out of its total, so that the network looks faster."""
    known, unknown = kernel(best_s=1e-3), kernel(untuned_s=None, best_s=None)
    result = TuneResult((known, unknown), trials=1, untunable=(), wall_s=1.0)
    assert result.sum_of_kernels_s is None
    assert TuneResult((known,), 1, (), 1.0).sum_of_kernels_s == pytest.approx(2e-3)


def test_eta_follows_trials_and_the_time_limit():
    state = TuneState("tuning", trials=30, trials_wanted=100, elapsed_s=20.0, trials_before=10)
    assert state.eta_s == pytest.approx(70.0)
    assert TuneState("x", trials=10, trials_before=10, trials_wanted=20).eta_s is None
    limited = TuneState("x", trials=30, trials_wanted=100, elapsed_s=20.0, limit_s=25.0)
    assert limited.eta_s == pytest.approx(5.0)
    assert "time limit in 0:05" in status_text(replace(limited, kernels=(kernel(),))).plain
    assert "ETA 1:10" in status_text(replace(state, kernels=(kernel(),))).plain


def test_what_ended_a_run_before_its_trials_is_said():
    result = TuneResult((kernel(),), 8, (), 1.0, trials_wanted=16, ended_by_limit=True)
    console = Console(file=io.StringIO(), width=200)
    print_result(console, result)
    assert "8 of 16 trials, ended by the time limit" in console.file.getvalue()


def test_numbers_for_people():
    assert seconds_text(None) == "-"
    assert seconds_text(2.5) == "2.5 s"
    assert seconds_text(3.2e-9) == "3.2 ns"
    assert duration_text(3725) == "1:02:05"
