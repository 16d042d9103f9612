"""The command line: ``costmodels models``."""

import sys
from collections.abc import Callable, Iterable
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
    """List the models of kernels and networks: what they claim, which come trained."""
    found = _models()
    if as_json:
        sys.stdout.write(json_text(found))
        return
    from rich.table import Table

    from costmodels.pretrained import BEST_MODEL, PRETRAINED_BEST

    console = wide_console(WIDTH_OF_FILES)
    table = Table(box=None, pad_edge=False)
    for column in ("model", "of", "claims", "trained", "paper"):
        table.add_column(column)
    for name, values in found.items():
        claims = [claim for claim, given in values["claims"].items() if given]
        trained = [each["name"] for each in values["checkpoints"]]
        if name == BEST_MODEL and trained:
            trained.append(f"{PRETRAINED_BEST}, which is the same")
        claimed, known = ", ".join(claims), ", ".join(trained) or "-"
        table.add_row(name, f"{values['kind']}s", claimed, known, values["paper"])
    console.print(table)


def _models() -> dict[str, Any]:
    from costmodels.checkpoint import load_checkpoint
    from costmodels.pretrained import PREFIX, pretrained_models
    from costmodels.protocol import missing_members, missing_network_members
    from costmodels.registry import (
        kernel_model_class,
        kernel_model_names,
        network_model_class,
        network_model_names,
    )

    kernels = _described("kernel", kernel_model_names(), kernel_model_class, missing_members)
    networks = _described(
        "network", network_model_names(), network_model_class, missing_network_members
    )
    found = kernels | networks
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


def _described(
    kind: str,
    names: Iterable[str],
    class_of: Callable[[str], Any],
    missing_members: Callable[[object], tuple[str, ...]],
) -> dict[str, Any]:
    """Name -> what there is to know of the models of a kind; one that is broken is told of."""
    from dataclasses import asdict

    found: dict[str, Any] = {}
    for name in names:
        try:
            made = class_of(name)
            if missing := missing_members(made):
                raise InputError(f"{made.__qualname__} lacks {', '.join(missing)}")
        except InputError as error:  # of another package: the others are listed all the same
            sys.stderr.write(
                f"{kind} model {name!r} must have all of {kind.capitalize()}CostModel, got: "
                f"{error}; the checks of `costmodels.testing` say what a model needs\n"
            )
            continue
        found[name] = {
            "kind": kind,
            "paper": made.paper,
            "claims": asdict(made.claims),
            "schema": str(made.schema),
            "checkpoints": [],
        }
        if kind == "kernel":
            found[name]["graphs"] = made.graphs
        else:
            found[name]["needs"] = sorted(made.needs)
    return found
