"""The command line: ``costmodels models``."""

import sys
from typing import Annotated, Any

import typer

from costmodels.errors import InputError
from costmodels.json_text import json_text
from tvm_integration.cli.formatting import wide_console

WIDTH_OF_FILES = 160
"""Columns of output that goes to a file or a pipe."""


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the kernel models: what they are after, what they claim, which come trained."""
    found = _models()
    if as_json:
        sys.stdout.write(json_text(found))
        return
    from rich.table import Table

    from costmodels.pretrained import BEST_MODEL, PRETRAINED_BEST

    console = wide_console(WIDTH_OF_FILES)
    table = Table(box=None, pad_edge=False)
    for column in ("model", "claims", "trained", "paper"):
        table.add_column(column)
    for name, values in found.items():
        claims = [claim for claim, given in values["claims"].items() if given]
        trained = [each["name"] for each in values["checkpoints"]]
        if name == BEST_MODEL and trained:
            trained.append(f"{PRETRAINED_BEST}, which is the same")
        table.add_row(name, ", ".join(claims), ", ".join(trained) or "-", values["paper"])
    console.print(table)


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
