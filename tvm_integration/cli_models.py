"""The command line of kernel models: ``costmodels train``, ``models`` and ``explain``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from costmodels.errors import InputError
from costmodels.files import check_can_be_written
from costmodels.json_text import json_text
from tvm_integration.cli_arguments import NetworkName, TargetText

if TYPE_CHECKING:
    from rich.console import Console

    from tvm_integration.explain import Explanation

WIDTH_OF_FILES = 160
"""Columns of output that goes to a file or a pipe."""
SHOWN_TERMS = 8
"""Terms of a stage that are printed; the others add little."""


def train(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="A folder, or shipped:NAME.")],
    model: Annotated[
        str,
        typer.Option(
            help="A registered name, trained from nothing, or a trained model, which learns on."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Write the checkpoint here.")],
    split: Annotated[
        str | None,
        typer.Option(help="Learn its training tasks only, stop by its validation tasks."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all randomness.")] = 0,
) -> None:
    """Train a kernel model on a data set.

    The same command resumes a training that was killed.
    """
    from rich.console import Console

    from costmodels.checkpoint import load_checkpoint
    from costmodels.dataset.folder import read_dataset
    from costmodels.dataset.shipped import dataset_path
    from costmodels.learning.device_correction import FEW, LEAST_TASKS_OF_INTERVAL
    from tvm_integration.progress import counted, timed_bar
    from tvm_integration.train import train_model

    console = Console(stderr=True, highlight=False)
    stored = read_dataset(dataset_path(dataset))
    with counted(console, "programs") as on_features, timed_bar(console, "steps") as on_step:
        trained = train_model(
            stored, model, out, split=split, seed=seed, on_features=on_features, on_step=on_step
        )
    learned = load_checkpoint(out).provenance
    programs, kernels = learned["programs"], learned["kernels"]
    sys.stdout.write(f"{out}: {model} learned {programs} programs of {kernels} kernels\n")
    corrects = learned["start"] is not None and programs < FEW and trained.claims.interval
    if corrects and kernels < LEAST_TASKS_OF_INTERVAL:
        sys.stdout.write(
            f"too few to tell how far it is off there: intervals stay as wide as {model} has them, "
            f"which takes {LEAST_TASKS_OF_INTERVAL} kernels to change\n"
        )


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the kernel models: what they are after, what they claim, which come trained."""
    found = _models()
    if as_json:
        sys.stdout.write(json_text(found))
        return
    from rich.table import Table

    console = _console()
    table = Table(box=None, pad_edge=False)
    for column in ("model", "claims", "trained", "paper"):
        table.add_column(column)
    for name, values in found.items():
        claims = [claim for claim, given in values["claims"].items() if given]
        trained = [each["name"] for each in values["checkpoints"]]
        table.add_row(name, ", ".join(claims), ", ".join(trained) or "-", values["paper"])
    console.print(table)


def explain(
    model: NetworkName,
    kernel: Annotated[
        str | None,
        typer.Option(help="A part of a kernel's name; by default the one with most operations."),
    ] = None,
    cost_model: Annotated[
        str, typer.Option(help="A trained Halide-style model: pretrained:halide or a checkpoint.")
    ] = "pretrained:halide",
    work_dir: Annotated[
        Path | None,
        typer.Option(help="Explain the best program of this tuning run, not the unscheduled one."),
    ] = None,
    target: TargetText = "host",
    chart: Annotated[
        Path | None, typer.Option(help="Draw the terms: a file that ends in .png, .svg or .pdf.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Say why a kernel takes as long as predicted: which terms its seconds are made of."""
    from tvm_integration.cost_model import resolve_model
    from tvm_integration.model_name import check_model_name

    check_model_name(model)
    resolve_model(cost_model, seed=0)
    from tvm_integration.explain import CHART_ENDINGS, draw, explain_kernel, find_kernel
    from tvm_integration.frontend import load_network
    from tvm_integration.fusion import fuse
    from tvm_integration.targets import device_of, parse_target

    if chart is not None and chart.suffix not in CHART_ENDINGS:
        raise InputError(f"a chart must end in {', '.join(CHART_ENDINGS)}, got {chart.name!r}")
    if chart is not None:
        check_can_be_written(chart)
    parsed = parse_target(target)
    fused = fuse(load_network(model).module, parsed)  # as `tune` does, so that its records fit
    found = explain_kernel(
        find_kernel(fused.tasks, kernel),
        parsed,
        device_of(parsed),
        model=cost_model,
        work_dir=work_dir,
    )
    if chart is not None:
        draw(found, chart)
    if as_json:
        sys.stdout.write(json_text(found.as_json()))
        return
    _print_explanation(found, cost_model)
    if kernel is None and len(fused.tasks) > 1:
        sys.stdout.write(
            f"of {len(fused.tasks)} kernels this one has most operations; --kernel NAME explains "
            f"another, as `costmodels estimate {model}` names them\n"
        )
    if chart is not None:
        sys.stdout.write(f"the chart is {chart}\n")


def _print_explanation(found: "Explanation", cost_model: str) -> None:
    from rich.table import Table

    from halide_style.terms import TERMS
    from tvm_integration.tune_display import seconds_text

    formulas = {term.name: term.formula for term in TERMS}
    console = _console()
    console.print(
        f"{found.kernel}, {found.schedule} program: {seconds_text(found.latency_s)} predicted by "
        f"{cost_model} alone, not calibrated, 90 % interval {seconds_text(found.low_s)} to "
        f"{seconds_text(found.high_s)}"
    )
    for number, stage in enumerate(found.stages, 1):
        operators = ", ".join(stage.operators) or "-"
        title = f"stage {number}: {operators}, {seconds_text(stage.total_s)}"
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        table.add_column("term")
        table.add_column("µs", justify="right")
        table.add_column("")
        table.add_column("coefficient", justify="right")
        table.add_column("", style="dim")
        for name, value in list(stage.seconds.items())[:SHOWN_TERMS]:
            bar = "█" * max(1, round(20 * value / stage.total_s))
            coefficient = f"{stage.coefficients[name]:.2f}×"
            label = name.replace("_", " ")
            table.add_row(label, f"{value * 1e6:.2f}", bar, coefficient, formulas[name])
        others = list(stage.seconds.values())[SHOWN_TERMS:]
        if others:
            table.add_row(f"{len(others)} others", f"{sum(others) * 1e6:.2f}", "", "", "")
        console.print(table)


def _console() -> "Console":
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_OF_FILES
    return console


def _models() -> dict[str, Any]:
    from dataclasses import asdict

    from costmodels.checkpoint import load_checkpoint
    from costmodels.pretrained import PREFIX, pretrained_models
    from costmodels.protocol import missing_members
    from costmodels.registry import kernel_model_class, kernel_model_names

    found: dict[str, Any] = {}
    broken: dict[str, str] = {}
    for name in kernel_model_names():
        try:
            made = kernel_model_class(name)
            missing = missing_members(made)
        except InputError as error:  # of another package: the others are listed all the same
            broken[name] = str(error)
            continue
        if missing:
            broken[name] = f"{made.__qualname__} lacks {', '.join(missing)}"
            continue
        found[name] = {
            "paper": made.paper,
            "claims": asdict(made.claims),
            "graphs": made.graphs,
            "schema": str(made.schema),
            "checkpoints": [],
        }
    for name, reason in broken.items():
        sys.stderr.write(
            f"kernel model {name!r} must have all of KernelCostModel, got: {reason}; "
            "`costmodels.testing.check_protocol` says what a model needs\n"
        )
    for name, path in pretrained_models().items():
        checkpoint = load_checkpoint(path)
        found[checkpoint.model]["checkpoints"].append(
            {
                "name": f"{PREFIX}{name}",
                "bytes": path.stat().st_size,
                "provenance": checkpoint.provenance,
            }
        )
    return found
