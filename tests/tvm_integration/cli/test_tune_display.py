"""What the closing report of a tuning run says."""

import io
from dataclasses import replace

from rich.console import Console

from costmodels.tuned_latency.gain import Gain
from tvm_integration.cli.tune_display import print_result, status_text
from tvm_integration.tune.candidate_scores import RoundReport
from tvm_integration.tune.state import UNLIMITED, KernelState, TuneResult, TuneState


def report(kernels, trials, wanted, interrupted=True, **more):
    console = Console(file=io.StringIO(), width=200)
    result = TuneResult(
        tuple(kernels), trials, (), 60.0, trials_wanted=wanted, interrupted=interrupted, **more
    )
    print_result(console, result)
    return console.file.getvalue()


def test_trials_of_earlier_runs_are_told_from_new_ones():
    kernels = [KernelState("matmul", 1, 2e-3, selected=True, trials=96, best_s=1e-3)]
    text = report(kernels, 96, 96, trials_by_model=80)
    assert "96 trials, 80 chosen by the model; 1:00 in all" in text
    text = report(kernels, 96, 128, trials_before=48, trials_by_model=48)
    assert "96 of 128 trials, 48 of them in this run, 48 chosen by the model;" in text
    text = report(kernels, 96, 96, trials_before=96, trials_by_model=0)
    assert "96 trials, 0 of them in this run; 1:00" in text


def test_few_kernels_without_a_trial_are_named():
    kernels = [KernelState(f"k{i}", 1, 1e-3, selected=True) for i in range(7)]
    assert "no trial yet: k0, k1, k2, k3, k4 and 2 more; more --trials" in report(kernels, 0, 64)
    assert "no trial yet: k0, k1; more --trials" in report(kernels[:2], 0, 64)


def test_shares_of_predicted_kernels():
    kernels = [
        KernelState("small", 1, None, selected=True, predicted_s=1e-3),
        KernelState("large", 3, None, selected=True, predicted_s=1e-3),
    ]
    lines = [line.split() for line in report(kernels, 0, 0).splitlines()]
    assert lines[1] == ["large", "3", "1", "ms", "75.0%"]
    assert lines[2] == ["small", "1", "1", "ms", "25.0%"]
    assert "0 trials: the model alone chose the programs;" in " ".join(lines[3])


def test_waiting_threads_are_the_cause_only_where_one_thread_is_faster():
    kernels = [KernelState("k", 1, 1e-2, True, trials=8, best_s=1e-3)]
    measured = {"untuned_s": 1e-2, "tuned_s": 4e-3, "threads": 2, "interrupted": False}
    faster = " ".join(report(kernels, 8, 8, one_thread_s=2e-3, **measured).split())
    assert "on one thread 2 ms: other work holds up one of them" in faster
    slower = " ".join(report(kernels, 8, 8, one_thread_s=5e-3, **measured).split())
    assert "on one thread 5 ms" in slower
    assert "other work" not in slower


def test_kernels_that_no_trial_made_faster_are_named():
    slower = KernelState("slower", 1, 1e-3, selected=True, trials=8, best_s=2e-3)
    faster = KernelState("faster", 1, 1e-3, selected=True, trials=8, best_s=5e-4)
    text = report([slower, faster], 16, 16)
    assert "no trial was faster than untuned, which is kept: slower\n" in text
    assert "which is kept" not in report([faster], 8, 8)


def test_a_framework_that_is_faster_on_one_thread_is_told_so():
    kernels = [KernelState("k", 1, 1e-2, True, trials=8, best_s=1e-3)]
    measured = {"untuned_s": 1e-2, "tuned_s": 1e-3, "threads": 2, "interrupted": False}
    measured |= {"reference_s": 2e-3, "reference_kind": "torch"}
    text = report(kernels, 8, 8, reference_threads=1, **measured)
    assert "2.00× the tuned latency, on one thread, where it is faster" in text
    assert "TVM on 2 threads, in turn" in text
    text = report(kernels, 8, 8, reference_threads=2, **measured)
    assert "where it is faster" not in text
    assert "all on 2 threads, in turn" in text


def test_a_disturbed_machine_is_told_in_both_forms():
    kernels = [KernelState("k", 1, 1e-2, True, trials=8, best_s=1e-3)]
    measured = {"untuned_s": 1e-2, "tuned_s": 4e-3, "interrupted": False}
    ranges = {"untuned": (9e-3, 11e-3), "tuned": (3e-3, 5e-3)}
    text = " ".join(report(kernels, 8, 8, ranges_s=ranges, **measured).split())
    assert "readings of tuned differ by more than 1.5×: other work disturbs" in text
    result = TuneResult(tuple(kernels), 8, (), 60.0, ranges_s=ranges)
    assert result.as_json()["disturbed"] == ["tuned"]


def test_the_order_is_that_of_each_kernel_as_last_judged():
    def status(*taus):
        reports = tuple(
            RoundReport(name, 8, 0, 0, tau is not None, *[float("nan")] * 2, tau or float("nan"))
            for name, tau in taus
        )
        return status_text(TuneState("tuning", reports=reports)).plain

    assert "tau" not in status()
    assert "tau" not in status(("a", None)), "nothing was learned before the first batch"
    assert "tau -0.40 over 1 kernel (order of its programs" in status(("a", -0.4))
    assert "tau 0.10 over 2 kernels" in status(("a", 0.9), ("a", -0.4), ("b", None), ("b", 0.6))
    assert "tau 0.00" in status(("a", -0.0004))


def test_what_twice_the_trials_would_save_is_told():
    kernels = (KernelState("k", 1, 1e-2, True, trials=64, best_s=1e-3),)
    gain = Gain(0.04, 0.113)
    text = "twice the trials would save about 4.0%, at most 11.3% (90 %)"
    assert text in report(kernels, 64, 64, gain=gain)
    assert "twice" not in report(kernels, 64, 64)
    state = TuneState("tuning", kernels, 64, 128, elapsed_s=10, gain=gain)
    assert text in status_text(state).plain


def test_trials_without_a_limit_have_no_eta():
    kernels = (KernelState("k", 1, 1e-2, True, trials=64, best_s=1e-3),)
    state = TuneState("tuning", kernels, 64, UNLIMITED, elapsed_s=10)
    assert "  64 trials  elapsed 0:10  ETA -" in status_text(state).plain
    limited = replace(state, limit_s=30)
    assert "time limit in 0:20" in status_text(limited).plain
    assert "64 trials, ended by the time limit;" in report(
        kernels, 64, UNLIMITED, ended_by_limit=True
    )
    assert "64 trials;" in report(kernels, 64, UNLIMITED)
