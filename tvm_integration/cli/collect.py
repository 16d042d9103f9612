"""The command line: ``costmodels collect``."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from costmodels.errors import InputError
from tvm_integration.cli.arguments import TargetText
from tvm_integration.cli.formatting import duration_text
from tvm_integration.interrupt import INTERRUPTED

if TYPE_CHECKING:
    from rich.console import Console

    from tvm_integration.collect.kernels import CollectState
    from tvm_integration.collect.networks import NetworkProgress


def collect(
    out: Annotated[Path, typer.Option(help="The data set; made, or added to.")],
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL...",
            help="Networks, as `costmodels tune` takes them, or drawn:COUNT[,dtype=NAME]"
            "[,seed=NUMBER]: kernels with shapes around those of networks.",
        ),
    ] = None,
    programs_of: Annotated[
        str | None,
        typer.Option(
            metavar="DATASET",
            help="Instead of networks: measure the programs of this data set again, here; with "
            "--networks its whole networks, each with the programs it has there.",
        ),
    ] = None,
    per_task: Annotated[
        int | None,
        typer.Option(help="Programs of each kernel; 64, with --programs-of all, by default."),
    ] = None,
    target: TargetText = "host",
    batch: Annotated[int, typer.Option(help="Programs measured at a time.")] = 16,
    mixture: Annotated[
        str | None,
        typer.Option(
            help="Where programs come from; random=0.5,mutation=0.2,model=0.2,disagreement=0.1 "
            "by default."
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Begin no batch after this many minutes.")
    ] = None,
    device: Annotated[
        Path | None, typer.Option(help="Device file of the target; see `costmodels device`.")
    ] = None,
    rpc_tracker: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Measure on devices of this TVM RPC tracker."),
    ] = None,
    rpc_key: Annotated[str | None, typer.Option(help="Key of the devices at the tracker.")] = None,
    networks: Annotated[
        bool,
        typer.Option(
            "--networks", help="Measure whole networks, and one program of each of their kernels."
        ),
    ] = False,
    schedules_by: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="With --networks: let this trained model choose the schedules."
        ),
    ] = None,
    unfused: Annotated[
        bool, typer.Option("--unfused", help="With --networks: leave each operator a kernel.")
    ] = False,
    trials_each: Annotated[
        int | None,
        typer.Option(
            help="With --networks: tune them first, with so many trials of each kernel above 1 % "
            "of its network."
        ),
    ] = None,
    licence: Annotated[str, typer.Option(help="Of a new data set.")] = "Apache-2.0",
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 0,
) -> None:
    """Measure a data set: programs of every kernel of the networks.

    The same command resumes a collection that was killed or interrupted. With --programs-of a
    data set that another device measured is measured here: half an hour of it teaches the models
    this device, with `costmodels train OUT --cost-model pretrained:best`.
    """
    models = models or []
    if bool(models) == (programs_of is not None):
        raise InputError(
            "give networks to collect from, or --programs-of DATASET, and not both: "
            "`costmodels collect zoo:resnet18 --out data`"
        )
    from rich.console import Console

    from tvm_integration.collect.source import check_task_source
    from tvm_integration.workers.fork_server_client import shared_session

    for model in models:
        check_task_source(model)
    shared_session()  # the workers import TVM while this process does
    console = Console(stderr=True, highlight=False)
    from costmodels.dataset.folder import read_dataset
    from costmodels.device import read_device
    from tvm_integration.collect.acquisition import MIXTURE, parse_mixture
    from tvm_integration.collect.dataset import NetworkOptions, collect_kernels, collect_networks
    from tvm_integration.collect.kernels import CollectOptions
    from tvm_integration.measure.rpc_runner import parse_rpc
    from tvm_integration.targets import parse_target

    options = CollectOptions(
        per_task=per_task,
        batch=batch,
        mixture=dict(MIXTURE) if mixture is None else parse_mixture(mixture),
        minutes=minutes,
        seed=seed,
    )
    rpc = parse_rpc(rpc_tracker, rpc_key)
    parsed = parse_target(target)
    described = None if device is None else read_device(device)
    info = {"licence": licence, "provenance": {"command": ["costmodels", *sys.argv[1:]]}}
    if (schedules_by is not None or unfused) and not networks:
        raise InputError("--schedules-by and --unfused must be given with --networks, got no such")
    if trials_each is not None and (not networks or programs_of is not None):
        raise InputError(
            "--trials-each must be given with --networks, and not with --programs-of, which has "
            "its programs already"
        )
    if programs_of is not None and (schedules_by is not None or unfused or mixture is not None):
        raise InputError(
            "--schedules-by, --unfused and --mixture must not be given with --programs-of, which "
            "has its programs already"
        )
    if networks and rpc is not None:
        raise InputError("networks must be measured on this machine, got --rpc-tracker")
    source = models if programs_of is None else read_dataset(programs_of)
    if networks:
        with _network_display(console) as on_progress, _interruptible() as interrupted:
            found = collect_networks(
                source,
                out,
                NetworkOptions(schedules_by, not unfused, minutes, trials_each),
                target=parsed,
                device=described,
                info=info,
                on_progress=on_progress,
                should_stop=interrupted,
            )
        for name, reason in found.failed.items():
            sys.stderr.write(f"{name}: {reason}\n")
        sys.stdout.write(f"{out}: {found.measured} networks, {len(found.failed)} failed\n")
        _end(interrupted(), is_out_of_time=found.is_out_of_time)
        return
    with _display(console) as show, _interruptible() as interrupted:
        state = collect_kernels(
            source,
            out,
            options,
            target=parsed,
            device=described,
            rpc=rpc,
            info=info,
            on_network=lambda name, kernels: console.print(f"{name}: {kernels} kernels"),
            on_state=show,
            should_stop=interrupted,
        )
    sys.stdout.write(f"{out}: {_result_text(state)}\n")
    _end(interrupted(), is_out_of_time=state.is_out_of_time)


def _result_text(state: "CollectState") -> str:
    kernels = str(state.tasks)
    if state.begun < state.tasks:
        kernels = f"{state.begun} of {kernels}"
    text = f"{state.measured} programs of {kernels} kernels ran, {state.failed} failed"
    return f"{text}, {state.unusable} do not apply to this target" if state.unusable else text


def _end(interrupted: bool, *, is_out_of_time: bool = False) -> None:
    if is_out_of_time:
        sys.stdout.write("--minutes ended it: the same command goes on from here\n")
    if interrupted:
        sys.stdout.write("interrupted: the same command goes on from here\n")
        raise typer.Exit(INTERRUPTED)


@contextmanager
def _network_display(console: "Console") -> Iterator[Callable[["NetworkProgress"], None]]:
    from tvm_integration.cli.progress import progress_bar

    with progress_bar(console, "networks") as show:

        def on_progress(state: "NetworkProgress") -> None:
            text = f"{state.failed} failed, {state.current}, ETA "
            show(state.done, state.wanted, text + duration_text(state.remaining_s))

        yield on_progress


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C end the collection after the batch in flight, the second at once."""
    from tvm_integration.interrupt import end_at_once

    asked = False

    def interrupt(*_: object) -> None:
        nonlocal asked
        if asked:
            end_at_once()
        asked = True

    previous = signal.signal(signal.SIGINT, interrupt)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def _display(console: "Console") -> Iterator[Callable[["CollectState"], None]]:
    from tvm_integration.cli.progress import progress_bar

    with progress_bar(console, "programs") as show:

        def on_state(state: "CollectState") -> None:
            rate = state.measured_now / state.elapsed_s if state.elapsed_s else 0.0
            noise = ""
            if len(state.reference_s) > 1:
                ordered = sorted(state.reference_s)
                noise = f", reference {state.reference_s[-1] / ordered[len(ordered) // 2]:.2f}"
            text = (
                f"{state.finished} of {state.tasks} kernels, {state.failed} failed, "
                f"{rate:.1f} a second{noise}, ETA {duration_text(state.remaining_s)}"
            )
            show(state.measured + state.failed, state.wanted, text)

        yield on_state
