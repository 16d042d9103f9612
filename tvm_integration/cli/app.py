"""The command line: its commands, and how it ends.

Bad input ends with one line on stderr and exit code 2. Heavy imports wait until a command runs.
"""

import errno
import io
import logging
import os
import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from costmodels.errors import CostModelError
from costmodels.installed import DISTRIBUTION, release_of
from tvm_integration.cli.cache import cache
from tvm_integration.cli.calibrate import calibrate
from tvm_integration.cli.collect import collect
from tvm_integration.cli.dataset import app as dataset
from tvm_integration.cli.device import device
from tvm_integration.cli.estimate import estimate
from tvm_integration.cli.evaluate import evaluate
from tvm_integration.cli.explain import explain
from tvm_integration.cli.lean_imports import leave_out_sklearn_of_xgboost
from tvm_integration.cli.models import models
from tvm_integration.cli.table import table
from tvm_integration.cli.train import train
from tvm_integration.cli.tune import tune
from tvm_integration.interrupt import INTERRUPTED

OLD_NAMES = {"model": "cost-model", "featurise": "featurize"}
"""Options and commands of earlier releases, which go on working, and what they are called now."""

app = typer.Typer(
    context_settings={"token_normalize_func": lambda name: OLD_NAMES.get(name, name)},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Learned cost models for Apache TVM: tune networks faster.",
)


def _print_version(asked: bool) -> None:
    """Print the release, and those of what it stands on."""
    if asked:
        names = (DISTRIBUTION, "apache-tvm", "apache-tvm-ffi", "torch", "xgboost", "onnx")
        lines = (f"{name} {release_of(name) or 'is not installed'}\n" for name in names)
        sys.stdout.write("".join(lines))
        raise typer.Exit


@app.callback()
def _common(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print releases and end."
        ),
    ] = False,
) -> None:
    """Learned cost models for Apache TVM: tune networks faster, estimate their latency."""


for command in (
    *(tune, collect, estimate, calibrate, table),
    *(train, evaluate, models, explain, device, cache),
):
    app.command()(command)
app.add_typer(dataset, name="dataset")


def _open_standard_streams() -> None:
    """Open those that are closed: a file would get their numbers, and the writes that go there."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    sys.stdin = sys.stdin or open(0)  # noqa: SIM115 - until the process ends
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):  # one that cannot write "µ" writes "?"
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _usage_error(error: TyperException) -> str:
    message = error.format_message()
    if message.startswith("Usage:"):  # a command without anything behind it: its help
        return f"{message}\n"
    context = getattr(error, "ctx", None)
    command = "costmodels" if context is None else context.command_path
    return f"error: {' '.join(message.split()).rstrip('.')}: see `{command} --help`\n"


_DISK_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG),
)


def main() -> None:
    """Run the command line; the entry point of ``costmodels``."""
    _open_standard_streams()
    leave_out_sklearn_of_xgboost()
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.WARNING)
    try:
        code = app(prog_name="costmodels", standalone_mode=False)
        if code == INTERRUPTED:  # typer catches KeyboardInterrupt and says nothing
            sys.stderr.write("interrupted\n")
        sys.exit(code)
    except TyperException as error:
        sys.stderr.write(_usage_error(error))
        sys.exit(2)
    except CostModelError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        where = error.filename or "the disk"
        sys.stderr.write(
            f"error: {where} must be writable and have room, got: {error.strerror}: "
            "free some space or give another path\n"
        )
        sys.exit(2)
