"""The command line: ``costmodels cache``."""

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from costmodels.json_text import json_text
from tvm_integration.cli.formatting import size_text, wide_console

WIDTH_OF_FILES = 160
"""Columns of output that goes to a file or a pipe."""


def cache(
    clear: Annotated[
        bool,
        typer.Option("--clear", help="Remove all but schedules, or the kinds that --kind names."),
    ] = False,
    kinds: Annotated[
        list[str] | None,
        typer.Option("--kind", help="With --clear: one that is listed; may repeat."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Tell where results are kept that can be made again, and how large; remove them.

    For example `costmodels cache --clear --kind overheads` forgets every calibration.
    """
    from rich.table import Table

    from costmodels.cache import CLEARED, clear_cache, describe_cache
    from costmodels.errors import InputError
    from costmodels.files import cache_folder

    if kinds and not clear:
        raise InputError("--kind must be given with --clear, got it alone")
    before = describe_cache()
    if clear:
        clear_cache(kinds or CLEARED)
    found = describe_cache()
    freed = sum(each.size_bytes for each in before) - sum(each.size_bytes for each in found)
    folder = str(cache_folder(""))
    if as_json:
        entries = {each.name: asdict(each) for each in found}
        sys.stdout.write(json_text({"folder": folder, "freed_bytes": freed, "kinds": entries}))
        return
    console = wide_console(WIDTH_OF_FILES)
    console.print(folder)
    table = Table(box=None, pad_edge=False)
    for name in ("kind", "entries", "size"):
        table.add_column(name, justify="left" if name == "kind" else "right")
    table.add_column("what, and how long it takes again")
    for each in found:
        table.add_row(each.name, f"{each.entries:,}", size_text(each.size_bytes), each.what)
    console.print(table)
    if clear:
        console.print(f"{size_text(freed)} are free")
