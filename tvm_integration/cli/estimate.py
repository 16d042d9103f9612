"""The command line: ``costmodels estimate``."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from costmodels.errors import InputError
from costmodels.files import check_can_be_written
from costmodels.json_text import json_text
from tvm_integration.cli.arguments import NetworkName, TargetText
from tvm_integration.cli.clean_stdout import clean_stdout
from tvm_integration.cli.estimate_display import (
    NOT_CALIBRATED,
    calibration_text,
    print_estimate,
    print_measured,
    way_to_calibrate,
)
from tvm_integration.cli.lean_memory import give_back_soon

if TYPE_CHECKING:
    from tvm_integration.estimate.result import Estimate


def estimate(
    model: NetworkName,
    target: TargetText = "host",
    device: Annotated[
        Path | None,
        typer.Option(help="Of the target: a name of `costmodels device --list`, or a file."),
    ] = None,
    cost_model: Annotated[
        str,
        typer.Option(
            "--cost-model",
            help="pretrained:NAME, a checkpoint, a .csv of `costmodels table`, or paleo.",
        ),
    ] = "pretrained:best",
    schedules: Annotated[
        str,
        typer.Option(
            help="default (untuned, and beside it tuned), tuned[:TRIALS] of each kernel that "
            "matters, database (of --work-dir), or model (it chooses)."
        ),
    ] = "default",
    work_dir: Annotated[
        Path | None,
        typer.Option(help="With schedules database: of a tuning run; as `tune` has it by default."),
    ] = None,
    overheads: Annotated[
        str,
        typer.Option(
            help="What a sum leaves out: calibrated (if it was, else typical), none, or a file."
        ),
    ] = "calibrated",
    partial: Annotated[
        bool, typer.Option("--partial", help="Give a total of what is known.")
    ] = False,
    page: Annotated[
        Path | None, typer.Option("--html", help="Write a page to look at here.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Build and run the network once, and compare outputs, not latencies."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Estimate the latency of a whole network without running it.

    What a model does not know is named, and then there is no total unless --partial is given.
    """
    from costmodels.device import read_device
    from costmodels.registry import check_model_text
    from tvm_integration.frontends.model_spec import check_model_name, default_work_dir

    name = check_model_name(model)
    check_model_text(cost_model)
    schedules, trials = _parsed(schedules)
    if device is not None:
        read_device(device)
    if schedules == "database" and work_dir is None:
        work_dir = default_work_dir(model, target)
    # A network's own code may change the working directory.
    work_dir = None if work_dir is None else work_dir.absolute()
    if page is not None:
        needed = [path for path in (work_dir, device, Path(cost_model)) if path is not None]
        check_can_be_written(page, needed=[*needed, Path(name.name), Path(overheads)])
        page = page.absolute()
    give_back_soon()
    with clean_stdout(as_json) as stdout:
        if check:
            _check_outputs(model, target)
        found = _estimated(
            model, target, device, cost_model, (schedules, work_dir, partial), (overheads, trials)
        )
        measured_s = None if work_dir is None else _measured_s(work_dir, model, target)
        if page is not None:
            from costmodels.files import write_atomically
            from tvm_integration.cli.estimate_page import estimate_html

            write_atomically(page, estimate_html(found).encode(errors="replace"))
        if as_json:
            stdout.write(json_text(found.as_json() | {"measured_by_tune_s": measured_s}))
            return
    print_estimate(found)
    if measured_s is not None:
        print_measured(measured_s, found)
    if check:
        sys.stdout.write("outputs match those of the network's own framework\n")
    if overheads == "calibrated" and calibration_text(found) == NOT_CALIBRATED and found.total:
        is_known = not found.provenance["overheads"]["device_error"]
        sys.stdout.write(way_to_calibrate(target, device, cost_model, is_known=is_known))
    if page is not None:
        sys.stdout.write(f"the page is {page}\n")


def _parsed(schedules: str) -> tuple[str, int | None]:
    """``tuned:64`` is tuned with 64 trials of each kernel that matters."""
    kind, colon, trials = schedules.partition(":")
    if kind != "tuned" or not colon:
        return schedules, None
    if not (trials.isascii() and trials.isdigit() and int(trials)):
        raise InputError(
            f"TRIALS of --schedules tuned:TRIALS must be a number of at least 1, got {trials!r}"
        )
    return kind, int(trials)


def _measured_s(work_dir: Path, model: str, target: str) -> float | None:
    from tvm_integration.records.database import network_latency_s
    from tvm_integration.targets import parse_target

    return network_latency_s(work_dir, model, parse_target(target))


def _check_outputs(model: str, target: str) -> None:
    """Raise InputError where the built network computes something else than its framework."""
    from rich.console import Console

    progress = Console(stderr=True, highlight=False)
    with progress.status("comparing what the network computes"):
        from tvm_integration.compile.execution import check_runs_here
        from tvm_integration.compile.fusion import fuse
        from tvm_integration.frontends.load import load_network
        from tvm_integration.targets import parse_target
        from tvm_integration.tune.network_timing import checked_untuned

        parsed = parse_target(target)
        check_runs_here(parsed)
        network = load_network(model)
        if network.reference.kind is None:
            raise InputError(
                f"--check must have something to compare with: {network.reference.reason}"
            )
        checked_untuned(network, fuse(network.module, parsed))


def _estimated(
    model: str,
    target: str,
    device: Path | None,
    cost_model: str,
    choices: tuple[str, Path | None, bool],
    more: tuple[str, int | None],
) -> "Estimate":
    from rich.console import Console

    from tvm_integration.cli.progress import staged

    console = Console(stderr=True, highlight=False)
    with staged(console, "importing TVM", "kernels") as (on_stage, on_kernel):
        from tvm_integration.targets import device_of, parse_target

        parsed = parse_target(target)  # before the models are imported: typos are told early
        if target == "host" and device is not None:
            found_device = device_of(parsed, device)
            if found_device.name != device_of(parsed).name:
                text = f"the target is this host's, {parsed}: give --target for {found_device.name}"
                console.print(text, markup=False)
        from tvm_integration.estimate.estimate import EstimateOptions, estimate_network

        overheads, trials = more
        options = EstimateOptions(*choices, overheads)
        if trials is not None:
            options = replace(options, trials=trials)
        return estimate_network(
            model,
            parsed,
            device,
            cost_model,
            options,
            on_stage=on_stage,
            on_kernel=on_kernel,
        )
