"""What people see of a tuning run: a live table, a closing report."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from costmodels.tuned_latency.gain import Gain
from tvm_integration.cli.formatting import duration_text, seconds_text
from tvm_integration.tune.state import NOISY, UNLIMITED, KernelState, TuneResult, TuneState

ROWS = 30
"""Kernels shown; the others, which matter least, are summed up in one line."""
NAMED = 5
"""Kernels without a trial that are named; the table shows them all."""


def kernel_table(kernels: tuple[KernelState, ...]) -> Table:
    """Kernels by their share of the network as it is now, the largest first.

    Parameters
    ----------
    kernels : tuple of KernelState
        A kernel of unknown latency comes first and has no share.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("kernel", overflow="fold", max_width=60)
    widths = {"calls": 5, "trials": 8, "failed": 6, "untuned": 8, "best": 8, "share": 6}
    predicted = any(kernel.predicted_s is not None for kernel in kernels)
    if predicted:  # nothing is measured then
        widths = {"calls": 5, "predicted": 9, "share": 6}
    for name, width in widths.items():
        # On a narrow terminal names are folded, and numbers stay whole.
        table.add_column(name, justify="right", no_wrap=True, min_width=width)
    total = sum(kernel.shown_s or 0.0 for kernel in kernels)
    by_share = sorted(kernels, key=lambda k: -(k.shown_s if k.shown_s is not None else 1e9))
    for kernel in by_share[:ROWS]:
        share = "-"
        if kernel.shown_s is not None and total > 0:
            share = f"{kernel.shown_s / total:.1%}"
        if predicted:
            table.add_row(kernel.name, str(kernel.weight), seconds_text(kernel.predicted_s), share)
            continue
        table.add_row(
            kernel.name,
            str(kernel.weight),
            str(kernel.trials) if kernel.selected else "left out",
            str(kernel.failures or ""),
            seconds_text(kernel.untuned_s),
            seconds_text(kernel.best_s),
            share,
        )
    if rest := by_share[ROWS:]:
        trials = sum(kernel.trials for kernel in rest)
        share = f"{sum(k.shown_s or 0 for k in rest) / total:.1%}" if total else "-"
        between = [""] if predicted else [str(trials), "", "", ""]
        table.add_row(f"{len(rest)} more", "", *between, share)
    return table


def status_text(state: TuneState) -> Text:
    """One line on how far a run is, and how well its model predicts."""
    parts = [state.stage]
    if state.trials_wanted and state.kernels:
        of = f" of {state.trials_wanted}" if state.trials_wanted != UNLIMITED else ""
        parts.append(f"{state.trials}{of} {state.unit}")
        parts.append(f"elapsed {duration_text(state.elapsed_s)}")
        ends = "time limit in" if state.ends_by_limit else "ETA"
        eta_s = state.eta_s if of or state.ends_by_limit else None
        parts.append(f"{ends} {duration_text(eta_s)}")
    if state.gain is not None:
        parts.append(gain_text(state.gain))
    known = {r.task: r.kendall_tau for r in state.reports if math.isfinite(r.kendall_tau)}
    if known:
        tau = round(statistics.fmean(known.values()), 2) + 0.0  # no -0.00
        kernels = "1 kernel" if len(known) == 1 else f"{len(known)} kernels"
        parts.append(
            f"tau {tau:.2f} over {kernels} (order of its programs as predicted before they ran; 1 "
            "is perfect, 0 chance)"
        )
    return Text("  ".join(parts), style="bold")


def gain_text(gain: Gain) -> str:
    """Say whether going on is worth it."""
    return (
        f"twice the trials would save about {gain.expected:.1%}, at most {gain.at_most:.1%} (90 %)"
    )


@contextmanager
def live_display(console: Console) -> Iterator[Callable[[TuneState], None]]:
    """Show the states of a run while they come in.

    On a terminal a table that updates itself, elsewhere one line for each change of stage and
    about every ten seconds.

    Parameters
    ----------
    console : rich.console.Console
        To draw on.

    Yields
    ------
    callable
        To be given each `TuneState`.
    """
    if not console.is_terminal:
        yield _line_printer(console)
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:

        def show(state: TuneState) -> None:
            parts = [kernel_table(state.kernels)] if state.kernels else []
            live.update(Group(*parts, status_text(state)))

        yield show


def _line_printer(console: Console) -> Callable[[TuneState], None]:
    last_stage, last_time = "", -1e9

    def show(state: TuneState) -> None:
        nonlocal last_stage, last_time
        now = time.monotonic()
        if state.stage != last_stage or now - last_time > 10:
            console.print(status_text(state), soft_wrap=True)
            last_stage, last_time = state.stage, now

    return show


def print_result(console: Console, result: TuneResult) -> None:
    """Print the closing report: kernels, latencies, and what could not be done.

    Parameters
    ----------
    console : rich.console.Console
        To print on.
    result : TuneResult
        Of `tune_network`.
    """
    console.print(kernel_table(result.kernels))
    wall = duration_text(result.wall_s)
    console.print(f"{_trials_text(result)}; {wall} in all, imports not counted")
    if result.gain is not None:
        console.print(gain_text(result.gain))
    untried = [k.name for k in result.kernels if k.selected and not k.trials]
    if untried and result.trials_wanted:
        console.print(
            f"no trial yet: {_names_text(untried)}; more --trials or --minutes, or fewer "
            "--trials-per-iter, would reach them"
        )
    kept = [k.name for k in result.kernels if k.best_s is not None and k.used_s != k.best_s]
    if kept:
        console.print(f"no trial was faster than untuned, which is kept: {_names_text(kept)}")
    broken = [k.name for k in result.kernels if k.trials and k.best_s is None]
    if broken:
        console.print(f"no candidate ran, left untuned: {', '.join(broken)}")
    for part in result.untunable:
        text = f"cannot be tuned: {part.name} (called {part.weight}×): {part.reason}"
        console.print(text, markup=False)
    if result.interrupted:
        console.print("interrupted: the same command goes on from here")
        return
    _print_latencies(console, result)


def _names_text(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _trials_text(result: TuneResult) -> str:
    if not result.trials_wanted:
        return "0 trials: the model alone chose the programs"
    is_limited = result.trials < result.trials_wanted < UNLIMITED
    wanted = f" of {result.trials_wanted}" if is_limited else ""
    parts = [f"{result.trials}{wanted} trials"]
    new = result.trials - result.trials_before
    if result.trials_before:
        parts.append(f"{new} of them in this run")
    if result.trials_by_model is not None and new:
        parts.append(f"{result.trials_by_model} chosen by the model")
    if result.ended_by_limit and (wanted or result.trials_wanted == UNLIMITED):
        parts.append("ended by the time limit")
    return ", ".join(parts)


def _print_latencies(console: Console, result: TuneResult) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("what")
    table.add_column("latency", justify="right")
    table.add_column("note")
    table.add_column("readings", style="dim")
    gain = ""
    if result.untuned_s and result.tuned_s:
        gain = f"{result.untuned_s / result.tuned_s:.1f}× as fast as untuned"
    ranges = {
        name: f"{seconds_text(least)} to {seconds_text(most)}"
        for name, (least, most) in result.ranges_s.items()
    }
    table.add_row("untuned", seconds_text(result.untuned_s), "", ranges.get("untuned"))
    table.add_row("tuned", seconds_text(result.tuned_s), gain, ranges.get("tuned"), style="bold")
    if result.reference_s is not None and result.tuned_s:
        ratio = result.reference_s / result.tuned_s
        name = (
            f"{result.reference_kind} eager" if result.reference_kind == "torch" else "onnxruntime"
        )
        note = f"{ratio:.2f}× the tuned latency"
        if result.reference_threads == 1 != result.threads:
            note += ", on one thread, where it is faster"
        table.add_row(name, seconds_text(result.reference_s), note, ranges.get("reference"))
    if result.trials_wanted:
        total = result.sum_of_kernels_s
        note = "" if total is not None else "the latency of a kernel is unknown"
        table.add_row("sum of kernels", seconds_text(total), note)
    console.print(table)
    if result.threads is not None:
        count = "1 thread" if result.threads == 1 else f"{result.threads} threads"
        every = "TVM" if result.reference_threads not in (None, result.threads) else "all"
        console.print(f"{every} on {count}, in turn, each while the others rest")
    if result.disturbed:
        console.print(
            f"readings of {' and '.join(result.disturbed)} differ by more than {NOISY:g}×: other "
            "work disturbs this machine, so take these latencies for rough ones"
        )
    if result.one_thread_s is not None and result.tuned_s is not None:
        text = (
            f"on {result.threads} threads the network takes far longer than its kernels, on one "
            f"thread {seconds_text(result.one_thread_s)}"
        )
        if result.one_thread_s < result.tuned_s:
            text += (
                ": other work holds up one of them and the others wait; end it, or deploy with "
                "fewer threads"
            )
        console.print(text)
    if result.untuned_s and result.tuned_s and result.tuned_s > result.untuned_s:
        console.print("tuned is not faster than untuned")
    if result.outputs_match is None:
        console.print(f"outputs not compared: {result.outputs_note}", markup=False)
    elif result.outputs_match:
        console.print(f"outputs match those of {result.reference_kind}")
    else:
        console.print(
            f"outputs do not match {result.reference_kind}: {result.outputs_note}",
            style="bold red",
            markup=False,
        )
