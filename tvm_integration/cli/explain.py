"""The command line: ``costmodels explain``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from costmodels.errors import InputError
from costmodels.files import check_can_be_written
from costmodels.json_text import json_text
from tvm_integration.cli.arguments import NetworkName, TargetText
from tvm_integration.cli.formatting import seconds_text, wide_console

if TYPE_CHECKING:
    from tvm_integration.learn.explain import Explanation

WIDTH_OF_FILES = 160
"""Columns of output that goes to a file or a pipe."""
SHOWN_TERMS = 8
"""Terms of a stage that are printed; the others add little."""


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
    from costmodels.load_model import load_kernel_model
    from tvm_integration.frontends.model_spec import check_model_name

    check_model_name(model)
    load_kernel_model(cost_model, seed=0)
    from tvm_integration.learn.explain import CHART_ENDINGS, draw, explain_kernel

    if chart is not None and chart.suffix not in CHART_ENDINGS:
        raise InputError(f"a chart must end in {', '.join(CHART_ENDINGS)}, got {chart.name!r}")
    if chart is not None:
        check_can_be_written(chart)
    found = explain_kernel(model, kernel, target, cost_model, work_dir=work_dir)
    if chart is not None:
        draw(found, chart)
    if as_json:
        sys.stdout.write(json_text(found.as_json()))
        return
    _print_explanation(found, cost_model)
    if kernel is None and found.kernels > 1:
        sys.stdout.write(
            f"of {found.kernels} kernels this one has most operations; --kernel NAME explains "
            f"another, as `costmodels estimate {model}` names them\n"
        )
    if chart is not None:
        sys.stdout.write(f"the chart is {chart}\n")


def _print_explanation(found: "Explanation", cost_model: str) -> None:
    from rich.table import Table

    from halide_style.terms import TERMS

    formulas = {term.name: term.formula for term in TERMS}
    console = wide_console(WIDTH_OF_FILES)
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
