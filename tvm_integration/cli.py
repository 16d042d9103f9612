"""The command line: ``costmodels tune``, ``costmodels device``, and those of other modules.

Bad input ends with one line on stderr and exit code 2. Heavy imports wait until a command runs.
"""

import errno
import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from costmodels.errors import CostModelError, InputError
from costmodels.json_text import json_text
from tvm_integration import cli_collect, cli_dataset, cli_estimate, cli_models
from tvm_integration.clean_stdout import clean_stdout
from tvm_integration.cli_arguments import NetworkName, TargetText

WIDTH_OF_FILES = 120
"""Columns of output that goes to a file or a pipe."""

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Learned cost models for Apache TVM: tune networks faster.",
)


def _print_version(asked: bool) -> None:
    """Print the release, and those of what it stands on."""
    if asked:
        names = ("costmodels", "apache-tvm", "apache-tvm-ffi", "torch", "xgboost", "onnx")
        sys.stdout.write("".join(f"{name} {_release(name)}\n" for name in names))
        raise typer.Exit


def _release(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "is not installed"


@app.callback()
def _common(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print releases and end."
        ),
    ] = False,
) -> None:
    """Learned cost models for Apache TVM: tune networks faster, estimate their latency."""


app.command()(cli_collect.collect)
app.command()(cli_estimate.estimate)
app.command()(cli_estimate.calibrate)
app.command()(cli_estimate.table)
app.command()(cli_models.train)
app.command()(cli_collect.evaluate)
app.command()(cli_models.models)
app.command()(cli_models.explain)
app.add_typer(cli_dataset.app, name="dataset")


@app.command()
def tune(
    model: NetworkName,
    target: TargetText = "host",
    trials: Annotated[
        int,
        typer.Option(
            help="Candidates to measure, earlier runs included; 0 lets a trained model choose."
        ),
    ] = 512,
    minutes: Annotated[
        float | None, typer.Option(help="Begin no batch after this many minutes.")
    ] = None,
    trials_per_iter: Annotated[int, typer.Option(help="Candidates of one batch at most.")] = 32,
    cost_model: Annotated[
        str,
        typer.Option(
            help="A registered name (`costmodels models`), pretrained:NAME, a checkpoint, or stock "
            "(XGBModel)."
        ),
    ] = "gbt",
    work_dir: Annotated[
        Path | None,
        typer.Option(help="Database, checkpoint and log; costmodels_work/MODEL by default."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="For weights, search and a new model.")] = 0,
    tasks: Annotated[
        str | None,
        typer.Option(help="Only the N heaviest kernels, or those with these parts in their name."),
    ] = None,
    device: Annotated[
        Path | None, typer.Option(help="Device file of the target; see `costmodels device`.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the tuned library here (.so or .tar).")
    ] = None,
    check: Annotated[
        bool,
        typer.Option(help="Compare what the network computes with its framework before tuning."),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Tune a network with a learned cost model and measure what it gained.

    The same command resumes a run that was killed or interrupted.
    """
    from tvm_integration.model_name import default_work_dir

    # A network's own code may change the working directory.
    work_dir = (work_dir or default_work_dir(model, target)).absolute()
    out = None if out is None else out.absolute()
    with clean_stdout(as_json) as stdout:
        from rich.console import Console

        from costmodels.device import read_device
        from costmodels.registry import check_model_text
        from tvm_integration.model_name import check_library_name, check_model_name
        from tvm_integration.worker_session import shared_session

        console = Console(stderr=as_json, highlight=False)
        progress = Console(stderr=True, highlight=False)
        for each in (console, progress):
            if not each.is_terminal:
                each.width = WIDTH_OF_FILES
        named = check_model_name(model)
        if out is not None:
            check_library_name(named, out)
        if cost_model != "stock":
            check_model_text(cost_model)
        if device is not None:
            read_device(device)
        shared_session()  # the workers import TVM while this process does
        with (
            progress.status("importing TVM and the network") if progress.is_terminal else _nothing()
        ):
            from tvm_integration.execution import check_library_path, check_runs_here, export
            from tvm_integration.frontend import load_network
            from tvm_integration.targets import parse_target
            from tvm_integration.tune import check_cost_model, tune_network
            from tvm_integration.tune_display import live_display, print_result
            from tvm_integration.tune_state import TuneOptions
            from tvm_integration.work_dir import keep_network

            options = TuneOptions(
                work_dir=work_dir,
                trials=trials,
                minutes=minutes,
                trials_per_iter=trials_per_iter,
                cost_model=cost_model,
                seed=seed,
                tasks=tasks,
                device=None if device is None else read_device(device),
                check=check,
            )
            parsed_target = parse_target(target)
            check_runs_here(parsed_target)
            check_cost_model(options)
            if out is not None:
                check_library_path(out)
            network = load_network(model, seed=seed)
        with live_display(progress) as on_state:
            result = tune_network(network, parsed_target, options, on_state)
        if trials and result.tuned_s is not None:
            keep_network(work_dir, model, parsed_target, result.tuned_s)
        if as_json:
            document = result.as_json() | {"work_dir": str(options.work_dir)}
            stdout.write(json_text(document))
            stdout.flush()
        else:
            print_result(console, result)
            if options.trials:
                console.print(f"measurements are kept in {work_dir}", markup=False, soft_wrap=True)
        if out is not None and result.built is not None:
            lines = export(result.built, out)
            console.print(f"the tuned library is {out}; to run it:\n")
            for line in lines:
                console.print(line, markup=False, emoji=False, soft_wrap=True)
        if result.interrupted:
            raise typer.Exit(INTERRUPTED)
        if result.outputs_match is False:
            raise typer.Exit(1)


@app.command()
def device(
    file: Annotated[Path | None, typer.Option(help="Read this device file instead.")] = None,
    target: Annotated[
        str | None, typer.Option(help="Limit this host to what a target may use.")
    ] = None,
    list_ready: Annotated[
        bool, typer.Option("--list", help="Name the devices whose files travel with this package.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print what cost models know of a device, as a device file.

    Lines that begin with # say what TVM's threads do on this host, and where its bandwidth is known
    from.
    """
    from costmodels.device import detect_host, read_device, ready_devices

    given = {"--list": list_ready, "--file": file is not None, "--target": target is not None}
    if sum(given.values()) > 1:
        names = " and ".join(name for name, is_given in given.items() if is_given)
        raise InputError(f"one of --list, --file and --target must be given at most, got {names}")
    if list_ready:
        devices = {name: read_device(path) for name, path in ready_devices().items()}
        if as_json:
            sys.stdout.write(json_text({name: each.as_dict() for name, each in devices.items()}))
            return
        width = max(map(len, devices))
        for name, each in devices.items():
            unit = "multiprocessors" if each.kind == "gpu" else "cores"
            sys.stdout.write(f"{name:{width}}  {each.name}, {each.cores} {unit}\n")
        return
    if file is not None:
        found = read_device(file)
    elif target is not None:
        from tvm_integration.targets import check_cores, device_of, parse_target

        parsed = parse_target(target)
        found = device_of(parsed)
        check_cores(parsed, found)
    else:
        found = detect_host()
    if as_json:
        sys.stdout.write(json_text(found.as_dict()))
        return
    notes = [] if file is not None else _host_notes(found.cores)
    sys.stdout.write("".join(f"# {note}\n" for note in notes) + found.to_toml())


def _host_notes(cores: int) -> list[str]:
    """What TVM's threads do on this host, and where its bandwidth is known from."""
    from costmodels.cores import core_count, cpu_quota, usable_cpus
    from costmodels.device import host_bandwidth
    from tvm_integration.threads import stock_thread_count, thread_environment

    quota = cpu_quota()
    granted = "" if quota is None else f"; its control group grants the time of {quota:.3g} cores"
    environment = " ".join(f"{k}={v}" for k, v in thread_environment(cores).items())
    alone = stock_thread_count()
    bandwidth = host_bandwidth()
    text = f"bandwidth: {bandwidth.source}"
    if bandwidth.readings:
        text += f", {bandwidth.readings} undisturbed readings within {bandwidth.spread:.0%}"
    return [
        f"this process can keep {core_count()} of {len(usable_cpus())} processors busy{granted}",
        f"TVM left alone takes {alone} thread{'s' if alone > 1 else ''} here; for {cores}, as this "
        f"package measures: {environment}",
        text,
    ]


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _open_standard_streams() -> None:
    """Open those that are closed: a file would get their numbers, and the writes that go there."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    sys.stdin = sys.stdin or open(0)  # noqa: SIM115 - until the process ends
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):  # one that cannot write "µ" writes "?"
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _usage_error(error: TyperException) -> str:
    message = error.format_message()
    if message.startswith("Usage:"):  # a command without anything behind it: its help
        return f"{message}\n"
    context = getattr(error, "ctx", None)
    command = "costmodels" if context is None else context.command_path
    return f"error: {' '.join(message.split()).rstrip('.')}: see `{command} --help`\n"


_DISK_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG),
)
INTERRUPTED = 130
"""Exit code after Ctrl-C, as of shells."""


def main() -> None:
    """Run the command line; the entry point of ``costmodels``."""
    _open_standard_streams()
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.WARNING)
    try:
        code = app(prog_name="costmodels", standalone_mode=False)
        if code == INTERRUPTED:  # typer catches KeyboardInterrupt and says nothing
            sys.stderr.write("interrupted\n")
        sys.exit(code)
    except TyperException as error:
        sys.stderr.write(_usage_error(error))
        sys.exit(2)
    except CostModelError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        where = error.filename or "the disk"
        sys.stderr.write(
            f"error: {where} must be writable and have room, got: {error.strerror}: "
            "free some space or give another path\n"
        )
        sys.exit(2)


if __name__ == "__main__":
    main()
