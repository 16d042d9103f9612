"""Keeping what libraries print off stdout, which may carry a JSON document."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def clean_stdout(wanted: bool) -> Iterator[TextIO]:
    """Keep whatever libraries print, C++ among them, off stdout: it goes to stderr.

    Parameters
    ----------
    wanted : bool
        Otherwise nothing changes.

    Yields
    ------
    file
        What is stdout outside.
    """
    if not wanted:
        yield sys.stdout
        return
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w", errors="replace") as stdout:
        os.dup2(2, 1)
        try:
            yield stdout
        finally:
            sys.stdout.flush()
            stdout.flush()
            os.dup2(stdout.fileno(), 1)
