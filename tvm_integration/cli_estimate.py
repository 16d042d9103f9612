"""The command line of whole networks: ``costmodels estimate`` and ``calibrate``."""

import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from costmodels.errors import InputError
from costmodels.files import check_can_be_written
from costmodels.json_text import json_text
from tvm_integration.clean_stdout import clean_stdout
from tvm_integration.cli_arguments import NetworkName, TargetText

if TYPE_CHECKING:
    from costmodels.device import Device
    from costmodels.network_models.sum_of_kernels import Overheads, Parameter
    from tvm_integration.collect_networks import NetworkProgress
    from tvm_integration.compat import Target
    from tvm_integration.estimate import Estimate

WIDTH_OF_FILES = 240
"""Columns of output that goes to a file or a pipe."""
BEST = "pretrained:best"
NOT_CALIBRATED = " (not calibrated)"
DISTURBED = 0.2
"""Of the time of the same program, beyond its fastest: less is the noise of a quiet machine."""
FAR_OFF = 5.0
"""Times the measured sum, or as little of it: no calibration mends such a model."""
ROWS = 30
"""Kernels that are printed; the others matter least."""


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
            "--model",
            help="pretrained:NAME, a checkpoint, a .csv of `costmodels table`, or paleo.",
        ),
    ] = "pretrained:best",
    schedules: Annotated[
        str,
        typer.Option(help="default (untuned), database (of --work-dir), or model (it chooses)."),
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
    from tvm_integration.model_name import check_model_name, default_work_dir

    name = check_model_name(model)
    check_model_text(cost_model)
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
    with clean_stdout(as_json) as stdout:
        if check:
            _check_outputs(model, target)
        found = _estimated(
            model, target, device, cost_model, (schedules, work_dir, partial), overheads
        )
        measured_s = None if work_dir is None else _measured_s(work_dir, model, target)
        if page is not None:
            from costmodels.files import write_atomically
            from tvm_integration.estimate_page import estimate_html

            write_atomically(page, estimate_html(found).encode(errors="replace"))
        if as_json:
            stdout.write(json_text(found.as_json() | {"measured_by_tune_s": measured_s}))
            return
    _print(found)
    if measured_s is not None:
        _print_measured(measured_s, found)
    if check:
        sys.stdout.write("outputs match those of the network's own framework\n")
    if overheads == "calibrated" and _calibration(found) == NOT_CALIBRATED and found.total:
        is_known = not found.provenance["overheads"]["device_error"]
        sys.stdout.write(_way_to_calibrate(target, device, cost_model, is_known=is_known))
    if page is not None:
        sys.stdout.write(f"the page is {page}\n")


def _measured_s(work_dir: Path, model: str, target: str) -> float | None:
    from tvm_integration.targets import parse_target
    from tvm_integration.work_dir import network_latency_s

    return network_latency_s(work_dir, model, parse_target(target))


def _print_measured(measured_s: float, found: "Estimate") -> None:
    """Set what `tune` measured of the whole network beside what its kernels add up to."""
    from tvm_integration.tune_display import seconds_text

    text = f"`costmodels tune` measured the network at {seconds_text(measured_s)}"
    total = found.total
    if total is not None:
        text += f", {measured_s / total.total_s:.2f} times that"
        if found.has_interval and not total.low_s <= measured_s <= total.high_s:
            text += ": outside of the interval"
    sys.stdout.write(text + "\n")


def _way_to_calibrate(target: str, device: Path | None, cost_model: str, *, is_known: bool) -> str:
    """What an estimate that is not calibrated misses, and what would change that."""
    told = "not calibrated: overheads and errors are those of other machines; "
    if not is_known:
        told = (
            "the model learned from no such processor: do not compare devices by this number, "
            f"which may be off by as much as the interval is wide\n{told}"
        )
    if device is not None:
        return told + "`costmodels calibrate` on the device itself, and --overheads FILE, help\n"
    options = [] if target == "host" else ["--target", target]
    options += [] if cost_model == BEST else ["--model", cost_model]
    command = shlex.join(["costmodels", "calibrate", "--quick", *options])
    return (
        f"{told}`{command}` measures errors on this one in 45 seconds, without --quick both in "
        "minutes\n"
    )


def _check_outputs(model: str, target: str) -> None:
    """Raise InputError where the built network computes something else than its framework."""
    from rich.console import Console

    progress = Console(stderr=True, highlight=False)
    with progress.status("comparing what the network computes"):
        from tvm_integration.execution import check_runs_here
        from tvm_integration.frontend import load_network
        from tvm_integration.fusion import fuse
        from tvm_integration.targets import parse_target
        from tvm_integration.tune_measure import checked_untuned

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
    overheads: str,
) -> "Estimate":
    from rich.console import Console

    progress = Console(stderr=True, highlight=False)
    with progress.status("importing TVM"):
        from tvm_integration.targets import check_cores, device_of, parse_target

        parsed = parse_target(target)  # before the models are imported: typos are told early
        from tvm_integration.cost_model import resolve_model
        from tvm_integration.described_network import describe_network
        from tvm_integration.estimate import EstimateOptions, check_model, estimate_network
        from tvm_integration.progress import counted

        found_model = resolve_model(cost_model, seed=0)
        check_model(found_model, cost_model)
        found_device = device_of(parsed, device)
        check_cores(parsed, found_device)
        if target == "host" and found_device.name != device_of(parsed).name:
            text = f"the target is this host's, {parsed}: give --target for {found_device.name}"
            progress.print(text, markup=False)
        options = EstimateOptions(*choices, _overheads(overheads, parsed, found_device, cost_model))
    with progress.status("importing the network") as status:
        network = describe_network(model, parsed, on_stage=status.update)
    with counted(progress, "kernels") as on_kernel:
        return estimate_network(
            network,
            parsed,
            found_device,
            found_model,
            options,
            model_name=cost_model,
            on_kernel=on_kernel,
        )


def _overheads(text: str, target: "Target", device: "Device", model_name: str) -> "Overheads":
    from costmodels.network_models.sum_of_kernels import NOTHING
    from tvm_integration.overheads_file import Calibrated, known_overheads, load_overheads

    if text == "none":
        return NOTHING
    if text == "calibrated":
        return known_overheads(target, device, model_name)
    return load_overheads(Path(text), Calibrated.of(target, device, model_name))


def calibrate(
    target: TargetText = "host",
    cost_model: Annotated[
        str, typer.Option("--model", help="The model whose errors are learned as well.")
    ] = "pretrained:best",
    minutes: Annotated[
        float | None, typer.Option(help="Begin no network after this many minutes.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the result here; by default where estimate looks.")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Kernels alone, in 45 seconds: corrects the model's errors."),
    ] = False,
) -> None:
    """Measure small networks here, and fit what a sum of kernels leaves out; takes minutes.

    `costmodels estimate` uses the result from then on. The same command goes on when killed.
    """
    import shutil

    from rich.console import Console

    if quick and minutes is not None:
        raise InputError(f"--minutes must not be given with --quick, got {minutes:g}")

    from tvm_integration.time_limit import TimeLimit
    from tvm_integration.worker_session import shared_session

    if out is not None:
        check_can_be_written(out, needed=[Path(cost_model)])
    limit = TimeLimit(minutes)
    shared_session()  # the workers import TVM while this process does
    console = Console(stderr=True, highlight=False)
    from tvm_integration.calibrate import calibrate as fit
    from tvm_integration.cost_model import resolve_model
    from tvm_integration.estimate import check_model
    from tvm_integration.execution import check_runs_here
    from tvm_integration.overheads_file import Calibrated, save_overheads
    from tvm_integration.progress import duration_text, progress_bar
    from tvm_integration.targets import device_of, parse_target

    parsed = parse_target(target)
    check_runs_here(parsed)
    model = resolve_model(cost_model, seed=0)
    check_model(model, cost_model)
    device = device_of(parsed)
    of = Calibrated.of(parsed, device, cost_model)
    path = out or of.path
    if quick:
        from tvm_integration.progress import counted
        from tvm_integration.quick_calibration import calibrate_quickly

        with counted(console, "kernels") as on_kernels:
            found = calibrate_quickly(parsed, device, model, on_progress=on_kernels)
        save_overheads(path, found, of)
        sys.stdout.write(_overheads_text(found, cost_model) + f"kept in {path}\n")
        return
    with progress_bar(console, "networks") as show:

        def on_progress(state: "NetworkProgress") -> None:
            text = f"{state.current}, ETA {duration_text(state.remaining_s)}"
            show(state.done, state.wanted, text)

        measured = of.path.with_suffix(".networks")
        found = fit(
            parsed, device, model, measured, on_progress=on_progress, should_stop=limit.is_over
        )
    save_overheads(path, found, of)
    shutil.rmtree(measured)  # the next calibration measures anew
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
        from tvm_integration.quick_calibration import SECONDS

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


def _calibration(found: "Estimate") -> str:
    """What stands beside a number that another machine's errors went into."""
    if not any(k.latency is not None and k.latency.source == "predicted" for k in found.kernels):
        return ""
    if found.calibration == "none":
        return NOT_CALIBRATED
    disturbance = found.provenance["overheads"]["disturbance"]
    words = [
        *(["on kernels alone"] if found.calibration == "kernels" else []),
        *(["while the machine was disturbed: do it again"] if disturbance > DISTURBED else []),
    ]
    return f" (calibrated {', '.join(words)})" if words else ""


def table(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Networks, as `costmodels tune` has.")
    ],
    out: Annotated[Path, typer.Option(help="Write the table here, a file that ends in .csv.")],
    target: TargetText = "host",
    data: Annotated[
        Path | None,
        typer.Option(help="Keep what is measured in this data set, and go on from what it has."),
    ] = None,
) -> None:
    """Measure every kernel of some networks once, unscheduled, and write a lookup table.

    `costmodels estimate --model FILE.csv` looks kernels up in it.
    """
    from tempfile import TemporaryDirectory

    if out.suffix != ".csv":
        raise InputError(f"the table must be a file that ends in .csv, got {out}")
    check_can_be_written(out)
    if out.exists():
        _check_is_table(out)
    from tvm_integration.cli_collect import collect

    with TemporaryDirectory(prefix="costmodels-table-") as folder:
        dataset = data or Path(folder) / "measured"
        collect(dataset, models, per_task=1, target=target)
        import numpy as np

        from costmodels.dataset.folder import read_dataset
        from costmodels.kernel_models.lookup_table import LookupTable
        from tvm_integration.featurise import featurise

        kernels = featurise(read_dataset(dataset)).kernels
        found = LookupTable().fit(kernels, rng=np.random.default_rng(0))
        found.export(out)
    sys.stdout.write(f"{out}: {len(found.entries)} entries\n")


def _check_is_table(path: Path) -> None:
    from costmodels.kernel_models.lookup_table import LookupTable

    try:
        LookupTable.from_export(path)
    except InputError as error:
        raise InputError(
            f"{path} must be a new file or a table to replace ({error}): give another name"
        ) from None


def _print(found: "Estimate") -> None:
    from rich.console import Console
    from rich.table import Table

    from tvm_integration.estimate import SCHEDULES
    from tvm_integration.tune_display import seconds_text

    # Names of kernels and layers are the user's: nothing in them is markup.
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDTH_OF_FILES
    table = Table(box=None, pad_edge=False)
    if console.is_terminal:
        table.add_column("kernel", overflow="fold", max_width=60)
    else:
        table.add_column("kernel", no_wrap=True)  # for grep
    for name in ("calls", "latency", "90 % interval", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("bound at peak")
    table.add_column("source")
    named = any(kernel.layers for kernel in found.kernels)
    if named:
        table.add_column("layers", overflow="fold")
    whole = sum(k.count * k.latency.latency_s for k in found.kernels if k.latency is not None)
    for kernel in found.kernels[:ROWS]:
        latency = kernel.latency
        if latency is None:
            cells = ["-", "-", "-", kernel.bound, "not known"]
        else:
            interval = "-"
            if found.has_interval or latency.source == "measured":
                interval = f"{seconds_text(latency.low_s)} to {seconds_text(latency.high_s)}"
            share = kernel.count * latency.latency_s / whole
            source = f"{latency.source}; {kernel.note}" if kernel.note else latency.source
            cells = [seconds_text(latency.latency_s), interval, f"{share:.1%}"]
            cells += [kernel.bound, source]
        if named:
            first, *more = kernel.layers or ("-",)
            cells.append(f"{first} and {len(more)} more" if more else first)
        table.add_row(kernel.name, str(kernel.count), *cells)
    if len(found.kernels) > ROWS:
        table.add_row(f"{len(found.kernels) - ROWS} more", *[""] * (len(table.columns) - 1))
    console.print(table)
    for each in found.unsupported:
        console.print(f"not in the total: {each.name} ({each.count}×): {each.reason}", markup=False)
    if found.provenance["schedules"] == "database":
        measured = sum(
            k.latency is not None and k.latency.source == "measured" for k in found.kernels
        )
        console.print(f"{measured} of {len(found.kernels)} kernels were measured by that run")
    if any(k.latency is not None and k.latency.source == "predicted" for k in found.kernels):
        overheads = found.provenance["overheads"]
        if overheads["discrepancy"] is not None and found.provenance["schedules"] != "model":
            count = overheads["discrepancy"]["kernels"]
            console.print(f"predictions are corrected by {count} measured kernels")
        if abs(overheads["bias"]) >= 0.005:  # less does not show in two digits
            bias = math.exp(overheads["bias"])
            console.print(f"predictions are taken {bias:.2f} times, as calibrated")
    total = found.total
    if total is None:
        is_known = any(kernel.latency is not None for kernel in found.kernels)
        way_out = "something is missing; --partial gives that of what is known"
        why = way_out if is_known else "nothing is known of its kernels"
        console.print(f"no total, because {why}", style="bold")
        return
    interval = ""
    if found.has_interval:
        ends = f"{seconds_text(total.low_s)} to {seconds_text(total.high_s)}"
        interval = f", 90 % interval {ends}"
    what = "partial latency" if found.unsupported else "latency"
    schedules = SCHEDULES[found.provenance["schedules"]]
    predicted_s = sum(
        k.count * k.latency.latency_s
        for k in found.kernels
        if k.latency is not None and k.latency.source == "predicted"
    )
    if found.provenance["schedules"] == "database" and predicted_s:
        schedules += f", {predicted_s / total.total_s:.0%} of it predicted untuned"
    console.print(
        f"{what} {seconds_text(total.total_s)} {schedules}{interval}{_calibration(found)}",
        style="bold",
    )
    if total.launches_s or total.cold_s:
        console.print(
            f"of it {seconds_text(total.launches_s)} for launches and "
            f"{seconds_text(total.cold_s)} for weights that no cache near the core keeps"
        )
