"""The command line of data sets: ``costmodels dataset ...``."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from costmodels.errors import InputError
from costmodels.json_text import json_text

if TYPE_CHECKING:
    from costmodels.dataset.folder import StoredDataset
    from costmodels.progress import OnProgress

MAX_TOLD = 10
"""Contradictions of one data set that are told one by one."""

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Import, export, merge, describe, split, featurize and verify kernel data sets.",
)

Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="A folder, or shipped:NAME.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def _read(dataset: str) -> "StoredDataset":
    from costmodels.dataset.folder import read_dataset

    return read_dataset(dataset)


@contextmanager
def _progress(unit: str) -> "Iterator[OnProgress]":
    from rich.console import Console

    from tvm_integration.cli.progress import counted

    with counted(Console(stderr=True, highlight=False), unit) as on_progress:
        yield on_progress


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


@app.command("import")
def import_(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Folders with work directories of MetaSchedule."),
    ],
    out: Annotated[Path, typer.Option(help="The data set; made, or added to.")],
    device: Annotated[
        Path | None, typer.Option(help="Device file of what was measured on; this host by default.")
    ] = None,
) -> None:
    """Add the records of MetaSchedule's work directories, searched recursively.

    The network is the first folder below DIR, and calls each kernel once.
    """
    from costmodels.dataset.writer import DatasetWriter
    from costmodels.device import read_device
    from tvm_integration.records.exchange import import_work_dirs, work_dirs_below

    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} must be a folder, got no such folder")
        work_dirs_below(folder, [])  # before the data set is made
    given = None if device is None else read_device(device)
    with DatasetWriter(out) as writer, _progress("records") as on_progress:
        done = import_work_dirs(folders, writer, given, on_progress)
    for problem in done.problems:
        sys.stderr.write(f"{problem}; it is kept out\n")
    _say(
        f"{out}: {done.records} records of {done.tasks} tasks from {done.work_dirs} work "
        f"directories, "
        f"{done.failures} of them failures; {done.duplicates} were there already, "
        f"{len(done.problems)} rows kept out"
    )


@app.command()
def export(
    dataset: Dataset,
    out: Annotated[Path, typer.Option(help="The work directory; must not hold a database.")],
    target: Annotated[
        str | None,
        typer.Option(help="Of a data set of several targets: the one to export, as in `describe`."),
    ] = None,
) -> None:
    """Write a database that stock tune_relax and MetaScheduleApplyDatabase use."""
    from tvm_integration.records.exchange import export_database

    stored = _read(dataset)
    with _progress("records") as on_progress:
        written = export_database(stored, out, on_progress, target=target)
    left_out = len(stored.records) - written
    reason = "; the others failed, or are unscheduled programs, which such a database cannot hold"
    _say(f"{out}: {written} of {len(stored.records)} records{reason if left_out else ''}")


@app.command()
def merge(
    datasets: Annotated[
        list[str], typer.Argument(metavar="DATASET...", help="Folders, or shipped:NAME.")
    ],
    out: Annotated[Path, typer.Option(help="The data set; made, or added to.")],
) -> None:
    """Join data sets; a program of one task that is in several is kept once."""
    from costmodels.dataset.contradictions import contradictions
    from costmodels.dataset.writer import DatasetWriter
    from tvm_integration.records.rows import with_names_of

    stored = [_read(path) for path in datasets]
    licences = sorted({str(each.info.get("licence")) for each in stored})
    info = {
        "licence": " and ".join(licences),
        "provenance": {"merged": [dict(each.info) for each in stored]},
    }
    contradicted = 0
    with DatasetWriter(out, info) as writer:
        for each in stored:
            found = contradictions(each, writer.records)
            for problem in found[:MAX_TOLD]:
                sys.stderr.write(f"{each.path}/{problem}\n")
            if len(found) > MAX_TOLD:
                sys.stderr.write(f"and {len(found) - MAX_TOLD} more of {each.path}\n")
            contradicted += len(found)
            writer.add(each.tasks.values())
            records = [
                with_names_of(record, each.tasks[record.task], writer.tasks[record.task])
                for record in each.records
            ]
            writer.add([*records, *each.reference, *each.networks])
        _say(f"{out}: {len(writer.records)} records of {len(writer.tasks)} tasks")
        if contradicted:
            _say(
                f"{contradicted} latencies contradict those that were there before, which are "
                f"kept: what is named first counts. Remove {out} and leave one of the data sets "
                "out if they are of different machines"
            )


@app.command()
def describe(
    dataset: Dataset,
    html: Annotated[Path | None, typer.Option(help="Write a page with charts here.")] = None,
    as_json: Json = False,
) -> None:
    """Say what is in a data set: counts, spread of latencies, failures, noise."""
    from costmodels.dataset.describe import describe as summarise
    from costmodels.dataset.report import report_html
    from costmodels.files import check_can_be_written, write_atomically

    if html is not None:
        check_can_be_written(html)
    stored = _read(dataset)
    if html is not None:
        write_atomically(html, report_html(stored).encode())
    found = summarise(stored)
    if as_json:
        sys.stdout.write(json_text(found))
    else:
        for name, value in found.items():
            _say(f"{name.replace('_', ' ')}: {_short(value)}")


def _short(value: Any) -> str:
    if isinstance(value, dict):
        parts = [f"{key}: {_short(each)}" for key, each in value.items()]
        more = "" if len(parts) <= 12 else f"; and {len(parts) - 12} more"
        return "; ".join(parts[:12]) + more or "none"
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@app.command()
def split(
    dataset: Dataset,
    name: Annotated[str, typer.Option(help="Of the split.")],
    by: Annotated[str, typer.Option(help="task, network or target.")] = "network",
    test: Annotated[
        list[str] | None, typer.Option(help="A network or device to test on, or a pattern.")
    ] = None,
    validation: Annotated[
        list[str] | None, typer.Option(help="A network or device to validate on, or a pattern.")
    ] = None,
    test_share: Annotated[float, typer.Option(help="Of the workloads, by task.")] = 0.2,
    validation_share: Annotated[float, typer.Option(help="Of the workloads, by task.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn, by task.")] = 0,
) -> None:
    """Divide a data set into training, validation and test, and save that as splits/NAME.json."""
    import numpy as np

    from costmodels.dataset.locate import PREFIX
    from costmodels.dataset.splits import (
        save_split,
        split_by_network,
        split_by_target,
        split_by_task,
    )

    if by not in ("task", "network", "target"):
        raise InputError(f"--by must be task, network or target, got {by!r}")
    if dataset.startswith(PREFIX):
        raise InputError(
            f"a split must be of a data set of yours, got {dataset}: copy it with `costmodels "
            "dataset merge`, and split that"
        )
    stored = _read(dataset)
    tasks = stored.used_tasks
    if by == "task":
        made = split_by_task(
            tasks,
            name=name,
            rng=np.random.default_rng(seed),
            validation=validation_share,
            test=test_share,
        )
    else:
        hold_out = split_by_network if by == "network" else split_by_target
        made = hold_out(tasks, name=name, test=test or [], validation=validation or [])
    path = save_split(stored.path, made)
    counts = {part: len(made.part(part)) for part in ("train", "validation", "test")}
    taken_out = len(tasks) - sum(counts.values())
    text = ", ".join(f"{part} {count}" for part, count in counts.items())
    _say(f"{path}: tasks: {text}, taken out {taken_out}")


@app.command()
def featurize(dataset: Dataset) -> None:
    """Extract the features of every program and keep them in the cache."""
    from tvm_integration.collect.featurize import featurize as extract

    stored = _read(dataset)
    with _progress("programs") as on_progress:
        found = extract(stored, on_progress=on_progress)
    _say(
        f"{dataset}: {len(found.records)} programs, {len(found.kernels.batch.rows)} rows; "
        f"{len(stored.records) - len(found.records)} traces no longer apply"
    )


@app.command()
def verify(
    dataset: Dataset,
    sample: Annotated[
        int, typer.Option(min=0, help="Records whose traces are applied again.")
    ] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample.")] = 0,
) -> None:
    """Check every file and row, and a sample of traces; exit code 1 when something is wrong."""
    import numpy as np

    from tvm_integration.records.exchange import verify as check

    stored = _read(dataset)
    rng = np.random.default_rng(seed)
    with _progress("traces") as on_progress:
        applied, problems = check(stored, sample=sample, rng=rng, on_progress=on_progress)
    problems = [*stored.problems, *problems]
    reference = ", the reference kernel among them" if stored.reference else ""
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    _say(
        f"{dataset}: {len(stored.tasks)} tasks{reference}, {len(stored.records)} records read, "
        f"{stored.duplicates} more of programs that are there, {applied} traces applied, "
        f"{len(problems)} problems"
    )
    if problems:
        raise typer.Exit(1)
