"""The command line in a process of its own."""

import subprocess
import sys

COMMAND = [sys.executable, "-m", "tvm_integration.cli"]


def costmodels(*arguments, cwd=None, timeout=300):
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=timeout,
        check=False,
    )
