"""The command line: ``costmodels tune``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from costmodels.json_text import json_text
from tvm_integration.cli.arguments import NetworkName, TargetText
from tvm_integration.cli.clean_stdout import clean_stdout
from tvm_integration.interrupt import INTERRUPTED

WIDTH_OF_FILES = 120
"""Columns of output that goes to a file or a pipe."""


def tune(
    model: NetworkName,
    target: TargetText = "host",
    trials: Annotated[
        int | None,
        typer.Option(
            help="Candidates to measure, earlier runs included, 512 by default; 0 lets a trained "
            "model choose."
        ),
    ] = None,
    trials_each: Annotated[
        int | None,
        typer.Option(help="Instead: candidates of each kernel above 1 % of the network."),
    ] = None,
    until_no_gain: Annotated[
        bool,
        typer.Option(
            "--until-no-gain",
            help="Instead: end when twice the trials would save less than 1 % (90 %).",
        ),
    ] = False,
    minutes: Annotated[
        float | None, typer.Option(help="Begin no batch after this many minutes.")
    ] = None,
    trials_per_iter: Annotated[int, typer.Option(help="Candidates of one batch at most.")] = 32,
    cost_model: Annotated[
        str | None,
        typer.Option(
            help="A registered name (`costmodels models`), pretrained:NAME, a checkpoint, or stock "
            "(XGBModel); pretrained:gbt by default, gbt on GPUs."
        ),
    ] = None,
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
    search: Annotated[
        str, typer.Option(help="sketch, this project's search, or evolution, TVM's own.")
    ] = "sketch",
    library: Annotated[
        bool,
        typer.Option(help="Begin with the best known schedules of such kernels, and add to them."),
    ] = True,
    out: Annotated[
        Path | None, typer.Option(help="Write the tuned library here (.so or .tar).")
    ] = None,
    check: Annotated[
        bool,
        typer.Option(help="Compare what the network computes with its framework before tuning."),
    ] = True,
    vector_math: Annotated[
        bool,
        typer.Option(
            help="Compute exp, erf, tanh and sigmoid by vector arithmetic, not the C library's."
        ),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Tune a network with a learned cost model and measure what it gained.

    The same command resumes a run that was killed or interrupted.
    """
    from tvm_integration.frontends.model_spec import default_work_dir

    # A network's own code may change the working directory.
    work_dir = (work_dir or default_work_dir(model, target)).absolute()
    out = None if out is None else out.absolute()
    with clean_stdout(as_json) as stdout:
        from rich.console import Console

        from costmodels.device import read_device
        from costmodels.registry import check_model_text
        from tvm_integration.frontends.model_spec import check_library_name, check_model_name
        from tvm_integration.workers.fork_server_client import shared_session

        console = Console(stderr=as_json, highlight=False)
        progress = Console(stderr=True, highlight=False)
        for each in (console, progress):
            if not each.is_terminal:
                each.width = WIDTH_OF_FILES
        named = check_model_name(model)
        if out is not None:
            check_library_name(named, out)
        if cost_model not in (None, "stock"):
            check_model_text(cost_model)
        if device is not None:
            read_device(device)
        shared_session()  # the workers import TVM while this process does
        with progress.status("importing TVM") if progress.is_terminal else _nothing():
            from tvm_integration.cli.tune_display import live_display, print_result
            from tvm_integration.compile.execution import check_library_path, export
            from tvm_integration.tune.session import tune_network
            from tvm_integration.tune.state import UNLIMITED, TuneOptions

            if trials is None:
                trials = UNLIMITED if until_no_gain else TuneOptions.trials
            options = TuneOptions(
                work_dir=work_dir,
                trials=trials,
                trials_each=trials_each,
                minutes=minutes,
                trials_per_iter=trials_per_iter,
                cost_model=cost_model,
                seed=seed,
                tasks=tasks,
                device=None if device is None else read_device(device),
                library=library,
                search=search,
                check=check,
                vector_math=vector_math,
                until_no_gain=until_no_gain,
            )
            if out is not None:
                check_library_path(out)
        with live_display(progress) as on_state:
            result = tune_network(model, target, options, on_state)
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


@contextmanager
def _nothing() -> Iterator[None]:
    yield
