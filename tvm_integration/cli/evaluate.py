"""The command line: ``costmodels evaluate``."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from costmodels.json_text import json_text

if TYPE_CHECKING:
    from costmodels.evaluation import Evaluation
    from costmodels.model_scores import Score

_MEANING = {
    "top1": "best / best of the 1 predicted fastest, mean over kernels; 1 is perfect",
    "top5": "likewise of the 5 predicted fastest",
    "top1_weighted": "likewise of 1, by calls, mean over networks",
    "top5_weighted": "likewise of 5",
    "top1_gain": "(top1 - that of random picks) / (1 - that of random picks)",
    "top5_gain": "likewise of top5",
    "kendall_tau": "rank correlation, mean over kernels; 1 is perfect, 0 chance",
    "pair_accuracy": "pairs of programs in the right order; 0.5 is chance",
    "supported": "programs that the model has seconds for; the others do not count below",
    "mape": "mean error of the seconds; lower is better",
    "median_ape": "median error of the seconds; lower is better",
    "within_10pct": "programs whose seconds are within 10 %; higher is better",
    "coverage": "programs inside their interval",
    "interval_width": "median width of the interval over the latency",
}
"""Score -> what it says."""
_SHARES = ("supported", "mape", "median_ape", "within_10pct", "coverage", "interval_width")
"""Scores shown in percent."""


def evaluate(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="A folder, or shipped:NAME.")],
    model: Annotated[
        list[str],
        typer.Option(
            "--cost-model", help="A registered name, or a trained model's file; may repeat."
        ),
    ],
    split: Annotated[
        str | None,
        typer.Option(help="Train on its training tasks and judge on its test tasks."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of training and of the intervals.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Judge kernel models on a data set, beside random picks and TVM's own model."""
    from rich.console import Console

    from costmodels.dataset.folder import read_dataset
    from tvm_integration.cli.progress import counted
    from tvm_integration.learn.evaluate import evaluate_models

    console = Console(stderr=True, highlight=False)
    with counted(console, "programs") as on_progress:
        found = evaluate_models(
            read_dataset(dataset),
            model,
            split=split,
            seed=seed,
            on_stage=lambda stage: console.print(stage, style="dim"),
            on_progress=on_progress,
        )
    if as_json:
        sys.stdout.write(json_text(found.as_json()))
    else:
        _print_evaluation(found)


def _print_evaluation(found: "Evaluation") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 180
    kernels = "kernel" if found.split is None else "test kernel"
    kernels += "" if found.tasks == 1 else "s"
    title = f"{found.records} programs of {found.tasks} {kernels}, those drawn at random"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for name in found.models:
        table.add_column(name, justify="right")
    table.add_column("", style="dim")
    for name, meaning in _MEANING.items():
        scores = [getattr(each, name) for each in found.models.values()]
        if any(score is not None for score in scores):
            cells = [_score_text(score, name in _SHARES) for score in scores]
            table.add_row(name.replace("_", " "), *cells, meaning)
    console.print(table)
    console.print("in brackets: 95 % bootstrap intervals over kernels", style="dim")
    for name, learned in found.learned.items():
        if learned is None:
            text = "does not say which kernels it has learned; these may be among them"
        else:
            text = (
                f"has learned {learned} of these {found.tasks} kernels: its scores tell how well "
                "it remembers, not how it does on new ones; `costmodels train --split NAME` leaves "
                "test kernels out"
            )
        if learned != 0:
            console.print(f"{name} {text}", style="bold", markup=False)


def _score_text(score: "Score | None", is_share: bool) -> str:
    if score is None or score.value != score.value:
        return "-"
    values = (score.value, score.low, score.high)
    value, low, high = (f"{each:.1%}" if is_share else f"{each:.3f}" for each in values)
    return f"{value} ({low} to {high})" if score.low == score.low else value
