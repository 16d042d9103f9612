"""A process beside the user's that serves a module over a connection.

Unlike multiprocessing's it never runs the user's main module again, which scripts without a guard
would take for another start.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from costmodels.cores import usable_cpus

__all__ = ["start_child"]

# The search path goes along because the user's process may have changed it.
_BOOTSTRAP = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from importlib import import_module; from multiprocessing.connection import Connection; "
    "import_module(sys.argv[3]).serve(Connection(int(sys.argv[1])))"
)


def start_child(
    module: str, environment: Mapping[str, str] | None = None
) -> tuple["subprocess.Popen[bytes]", Connection]:
    """Start a process that calls ``serve(connection)`` of a module.

    Parameters
    ----------
    module : str
        Its dotted name.
    environment : mapping, optional
        What the process has beside the environment of this one.

    Returns
    -------
    process : subprocess.Popen
        Ctrl-C does not reach it, and its stdout is nowhere.
    connection : Connection
        To it; when this end closes it reads the end of the file.
    """
    ours, theirs = Pipe()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", _BOOTSTRAP, str(theirs.fileno()), json.dumps(sys.path), module],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    # TVM, or the user, may have bound the thread that starts it.
    os.sched_setaffinity(process.pid, usable_cpus())
    return process, ours
