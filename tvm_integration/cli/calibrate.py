"""The command line: ``costmodels calibrate``."""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from costmodels.errors import InputError
from costmodels.files import check_can_be_written
from tvm_integration.cli.arguments import TargetText
from tvm_integration.cli.estimate_display import DISTURBED
from tvm_integration.cli.formatting import duration_text

if TYPE_CHECKING:
    from costmodels.network_models.overheads import Overheads, Parameter
    from tvm_integration.collect.networks import NetworkProgress

FAR_OFF = 5.0
"""Times the measured sum, or as little of it: no calibration mends such a model."""


def calibrate(
    target: TargetText = "host",
    cost_model: Annotated[
        str, typer.Option("--cost-model", help="The model whose errors are learned as well.")
    ] = "pretrained:best",
    minutes: Annotated[
        float | None, typer.Option(help="Begin no network after this many minutes.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the result here; by default where estimate looks.")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Kernels alone, within 45 s: corrects the model's errors."),
    ] = False,
) -> None:
    """Measure small networks here, and fit what a sum of kernels leaves out; takes minutes.

    `costmodels estimate` uses the result from then on. The same command goes on when killed.
    """
    from rich.console import Console

    from tvm_integration.time_limit import TimeLimit
    from tvm_integration.workers.fork_server_client import shared_session

    if quick and minutes is not None:
        raise InputError(f"--minutes must not be given with --quick, got {minutes:g}")
    if out is not None:
        check_can_be_written(out, needed=[Path(cost_model)])
    TimeLimit(minutes)
    shared_session()  # the workers import TVM while this process does
    console = Console(stderr=True, highlight=False)
    from tvm_integration.cli.progress import counted, progress_bar
    from tvm_integration.estimate.calibrate import CalibrateOptions
    from tvm_integration.estimate.calibrate import calibrate as calibrate_here

    options = CalibrateOptions(quick, minutes, out)
    if quick:
        with counted(console, "kernels") as on_kernel:
            found, path = calibrate_here(target, cost_model, options, on_kernel=on_kernel)
    else:
        with progress_bar(console, "networks") as show:

            def on_network(state: "NetworkProgress") -> None:
                text = f"{state.current}, ETA {duration_text(state.remaining_s)}"
                show(state.done, state.wanted, text)

            found, path = calibrate_here(target, cost_model, options, on_network=on_network)
    sys.stdout.write(_overheads_text(found, cost_model) + f"kept in {path}\n")


def _overheads_text(found: "Overheads", cost_model: str) -> str:
    """What was fitted, a line for each number."""

    def both(parameter: "Parameter", scale: float = 1.0) -> str:
        return f"{parameter.value * scale:.2f} ± {parameter.deviation * scale:.2f}"

    errors = [
        f"  {cost_model} predicts {math.exp(-found.bias):.2f} times the measured sum of kernels",
        f"  the errors of its kernels have a correlation of {found.common_error:.2f}",
    ]
    if found.networks:
        lines = [
            f"fitted on {found.networks} networks:",
            f"  a launch takes {both(found.launch_s, 1e6)} µs beyond its kernel",
            f"  cold weights take {both(found.cold_share)} of the time that memory needs for them",
            f"  {found.residual:.1%} of a network's latency stay unexplained",
            *errors,
        ]
        if found.discrepancy is not None:
            lines.append(
                f"  predictions of untuned kernels are corrected by "
                f"{len(found.discrepancy.weights)} that were measured"
            )
    else:
        from tvm_integration.estimate.quick_calibration import SECONDS

        lines = [f"fitted on the {found.kernels} kernels measured in {SECONDS:g} s:", *errors]
    if found.disturbance > DISTURBED:
        lines.append(
            f"the machine was disturbed: the same program took up to {1 + found.disturbance:.1f} "
            "times as long; calibrate again when it is quiet"
        )
    if abs(found.bias) > math.log(FAR_OFF):
        lines.append(
            f"{cost_model} is so far off here that its kernels differ by much, too: take another"
        )
    return "\n".join(lines) + "\n"
