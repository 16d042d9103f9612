"""What people see of an estimate on the terminal."""

import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_integration.cli.formatting import duration_text, seconds_text, wide_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from costmodels.network_models.kernel_sums import Total
    from tvm_integration.estimate.result import Estimate, EstimatedKernel, TunedEstimate

__all__ = [
    "DISTURBED",
    "NOT_CALIBRATED",
    "calibration_text",
    "print_estimate",
    "print_measured",
    "way_to_calibrate",
]

WIDTH_OF_FILES = 240
"""Columns of output that goes to a file or a pipe."""
BEST = "pretrained:best"
NOT_CALIBRATED = " (not calibrated)"
DISTURBED = 0.2
"""Of the time of the same program, beyond its fastest: less is the noise of a quiet machine."""
ROWS = 30
"""Kernels that are printed; the others matter least."""


def print_estimate(found: "Estimate") -> None:
    """Print the kernels, what their sum stands on, and the total.

    Parameters
    ----------
    found : Estimate
        Of `estimate_network`.
    """
    console = wide_console(WIDTH_OF_FILES)
    console.print(_kernel_table(found, console))
    for each in found.unsupported:
        console.print(f"not in the total: {each.name} ({each.count}×): {each.reason}")
    if found.provenance["schedules"] == "database":
        measured = sum(
            k.latency is not None and k.latency.source == "measured" for k in found.kernels
        )
        console.print(f"{measured} of {len(found.kernels)} kernels were measured by that run")
    if corrections := _corrections(found):
        console.print(f"predictions are {' and '.join(corrections)}, as calibrated")
    if found.total is None:
        is_known = any(kernel.latency is not None for kernel in found.kernels)
        hint = "something is missing; --partial gives that of what is known"
        why = hint if is_known else "nothing is known of its kernels"
        console.print(f"no total, because {why}", style="bold")
    else:
        _print_total(console, found, found.total)
    if found.provenance["schedules"] == "default":
        for tuned in found.tuned:
            _print_tuned(console, found, tuned)


def _kernel_table(found: "Estimate", console: "Console") -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    if console.is_terminal:
        table.add_column("kernel", overflow="fold", max_width=60)
    else:
        table.add_column("kernel", no_wrap=True)  # for grep
    tuned = found.tuned if found.provenance["schedules"] == "default" else ()
    after = [f"after {each.trials:,}" for each in tuned]
    for name in ("calls", "latency", "90 % interval", "share", *after):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("bound at peak")
    table.add_column("source")
    is_named = any(kernel.layers for kernel in found.kernels)
    if is_named:
        table.add_column("layers", overflow="fold")
    whole_s = sum(k.count * k.latency.latency_s for k in found.kernels if k.latency is not None)
    for kernel in found.kernels[:ROWS]:
        cells = _kernel_cells(kernel, whole_s, has_interval=found.has_interval)
        latencies = [each.kernels.get(kernel.name) for each in tuned]
        cells[3:3] = [seconds_text(None if k is None else k.latency_s) for k in latencies]
        if is_named:
            first, *more = kernel.layers or ("-",)
            cells.append(f"{first} and {len(more)} more" if more else first)
        table.add_row(kernel.name, str(kernel.count), *cells)
    if len(found.kernels) > ROWS:
        table.add_row(f"{len(found.kernels) - ROWS} more", *[""] * (len(table.columns) - 1))
    return table


def _kernel_cells(kernel: "EstimatedKernel", whole_s: float, *, has_interval: bool) -> list[str]:
    latency = kernel.latency
    if latency is None:
        return ["-", "-", "-", kernel.bound, "not known"]
    interval = "-"
    if has_interval or latency.source == "measured":
        interval = f"{seconds_text(latency.low_s)} to {seconds_text(latency.high_s)}"
    share = f"{kernel.count * latency.latency_s / whole_s:.1%}"
    source = f"{latency.source}; {kernel.note}" if kernel.note else latency.source
    return [seconds_text(latency.latency_s), interval, share, kernel.bound, source]


def _corrections(found: "Estimate") -> list[str]:
    """What calibration did to the predictions that are in the sum."""
    if not _is_predicted(found):
        return []
    overheads = found.provenance["overheads"]
    corrections = []
    if abs(overheads["bias"]) >= 0.005:  # less does not show in two digits
        corrections.append(f"taken {math.exp(overheads['bias']):.2f} times")
    if overheads["discrepancy"] is not None and found.provenance["schedules"] != "model":
        corrections.append(f"corrected by {overheads['discrepancy']['kernels']} measured kernels")
    return corrections


def _is_predicted(found: "Estimate") -> bool:
    return any(k.latency is not None and k.latency.source == "predicted" for k in found.kernels)


def _print_total(console: "Console", found: "Estimate", total: "Total") -> None:
    interval = ""
    if found.has_interval:
        ends = f"{seconds_text(total.low_s)} to {seconds_text(total.high_s)}"
        interval = f", 90 % interval {ends}"
    what = "partial latency" if found.unsupported else "latency"
    schedules = found.what
    predicted_s = sum(
        k.count * k.latency.latency_s
        for k in found.kernels
        if k.latency is not None and k.latency.source == "predicted"
    )
    if found.provenance["schedules"] == "database" and predicted_s:
        schedules += f", {predicted_s / total.total_s:.0%} of it predicted untuned"
    console.print(
        f"{what} {seconds_text(total.total_s)} {schedules}{interval}{calibration_text(found)}",
        style="bold",
    )
    if total.launches_s or total.cold_s:
        console.print(
            f"of it {seconds_text(total.launches_s)} for launches and "
            f"{seconds_text(total.cold_s)} for weights that no cache near the core keeps"
        )


def _print_tuned(console: "Console", found: "Estimate", tuned: "TunedEstimate") -> None:
    """What tuning will make of it, how far that is to be believed, and how long it takes."""
    total = tuned.total
    if total is None or found.total is None:
        return
    ends = f"{seconds_text(total.low_s)} to {seconds_text(total.high_s)}"
    text = (
        f"latency {seconds_text(total.total_s)} after {tuned.trials:,} trials of each kernel that "
        f"matters, 90 % interval {ends}: {found.total.total_s / total.total_s:.1f}× as fast, in "
        f"about {duration_text(tuned.tuning_s)} of tuning"
    )
    if not tuned.is_learned:
        text += " (no network was tuned on such a processor to learn from)"
    console.print(text, style="bold")


def print_measured(measured_s: float, found: "Estimate") -> None:
    """Set what `tune` measured of the whole network beside what its kernels add up to.

    Parameters
    ----------
    measured_s : float
        Seconds of the tuned network.
    found : Estimate
        Of the same network.
    """
    text = f"`costmodels tune` measured the network at {seconds_text(measured_s)}"
    total = found.total
    if total is not None:
        text += f", {measured_s / total.total_s:.2f} times that"
        if found.has_interval and not total.low_s <= measured_s <= total.high_s:
            text += ": outside of the interval"
    sys.stdout.write(text + "\n")


def calibration_text(found: "Estimate") -> str:
    """Return what stands beside a number that another machine's overheads or errors went into.

    Returns
    -------
    str
        With a space before it; empty where nothing is to be said.
    """
    total = found.total
    if not _is_predicted(found) and not (total and (total.launches_s or total.cold_s)):
        return ""
    if found.calibration == "none":
        return NOT_CALIBRATED
    disturbance = found.provenance["overheads"]["disturbance"]
    words = [
        *(["on kernels alone"] if found.calibration == "kernels" else []),
        *(["while the machine was disturbed: do it again"] if disturbance > DISTURBED else []),
    ]
    return f" (calibrated {', '.join(words)})" if words else ""


def way_to_calibrate(target: str, device: Path | None, cost_model: str, *, is_known: bool) -> str:
    """Return what an estimate that is not calibrated misses, and what would change that.

    Parameters
    ----------
    target, cost_model : str
        As given on the command line.
    device : Path, optional
        As given there.
    is_known : bool
        Whether the model learned from the processor.
    """
    told = "not calibrated: overheads and errors are those of other machines; "
    if not is_known:
        told = (
            "the model learned from no such processor: do not compare devices by this number, "
            f"which may be off by as much as the interval is wide\n{told}"
        )
    if device is not None:
        return told + "`costmodels calibrate` on the device itself, and --overheads FILE, help\n"
    options = [] if target == "host" else ["--target", target]
    options += [] if cost_model == BEST else ["--cost-model", cost_model]
    command = shlex.join(["costmodels", "calibrate", "--quick", *options])
    return (
        f"{told}`{command}` measures errors on this one in 45 seconds, without --quick both in "
        "minutes\n"
    )
