"""The command line: ``costmodels table``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from costmodels.errors import InputError
from costmodels.files import check_can_be_written
from tvm_integration.cli.arguments import TargetText


def table(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Networks, as `costmodels tune` has.")
    ],
    out: Annotated[Path, typer.Option(help="Write the table here, a file that ends in .csv.")],
    target: TargetText = "host",
    data: Annotated[
        Path | None,
        typer.Option(help="Keep what is measured in this data set, and go on from what it has."),
    ] = None,
) -> None:
    """Measure every kernel of some networks once, unscheduled, and write a lookup table.

    `costmodels estimate --cost-model FILE.csv` looks kernels up in it.
    """
    from tempfile import TemporaryDirectory

    if out.suffix != ".csv":
        raise InputError(f"the table must be a file that ends in .csv, got {out}")
    check_can_be_written(out)
    if out.exists():
        _check_is_table(out)
    from tvm_integration.cli.collect import collect

    with TemporaryDirectory(prefix="costmodels-table-") as folder:
        dataset = data or Path(folder) / "measured"
        collect(dataset, models, per_task=1, target=target)
        import numpy as np

        from costmodels.dataset.folder import read_dataset
        from costmodels.kernel_models.lookup_table import LookupTable
        from tvm_integration.collect.featurize import featurize

        kernels = featurize(read_dataset(dataset)).kernels
        found = LookupTable().fit(kernels, rng=np.random.default_rng(0))
        found.export(out)
    sys.stdout.write(f"{out}: {len(found.entries)} entries\n")


def _check_is_table(path: Path) -> None:
    from costmodels.kernel_models.lookup_table import LookupTable

    try:
        LookupTable.from_export(path)
    except InputError as error:
        raise InputError(
            f"{path} must be a new file or a table to replace ({error}): give another name"
        ) from None
