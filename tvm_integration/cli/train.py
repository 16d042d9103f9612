"""The command line: ``costmodels train``."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def train(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="A folder, or shipped:NAME.")],
    model: Annotated[
        str,
        typer.Option(
            "--cost-model",
            help="A registered name, trained from nothing, or a trained model, which learns on.",
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
    from costmodels.learning.device_correction import FEW, MIN_TASKS_OF_INTERVAL
    from tvm_integration.cli.progress import counted, timed_bar
    from tvm_integration.learn.train import train_model

    console = Console(stderr=True, highlight=False)
    stored = read_dataset(dataset)
    with counted(console, "programs") as on_features, timed_bar(console, "steps") as on_step:
        trained = train_model(
            stored, model, out, split=split, seed=seed, on_features=on_features, on_step=on_step
        )
    learned = load_checkpoint(out).provenance
    programs, kernels = learned["programs"], learned["kernels"]
    sys.stdout.write(f"{out}: {model} learned {programs} programs of {kernels} kernels\n")
    corrects = learned["start"] is not None and programs < FEW and trained.claims.interval
    if corrects and kernels < MIN_TASKS_OF_INTERVAL:
        sys.stdout.write(
            f"too few to tell how far it is off there: intervals stay as wide as {model} has them, "
            f"which takes {MIN_TASKS_OF_INTERVAL} kernels to change\n"
        )
