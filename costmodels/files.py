"""Writing a file so that a kill or a full disk never leaves half of it."""

import os
import threading
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file beside its place, then rename it into place.

    Parameters
    ----------
    path : path
        Where the file shall be; replaced if it exists. Its folder must exist.
    content : bytes
        All of the file.

    Raises
    ------
    OSError
        When the disk is full or the folder cannot be written; the old file is still there.
    """
    beside = path_beside(path)
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def cache_folder(kind: str) -> Path:
    """Where what can be made again is kept: under ``$XDG_CACHE_HOME``, or ``~/.cache``.

    Parameters
    ----------
    kind : str
        Of what is kept; a folder of its own, which need not exist.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "costmodels" / kind


def path_beside(path: str | os.PathLike[str]) -> Path:
    """A hidden name in the same folder that no other process or thread uses.

    Parameters
    ----------
    path : path
        Where the file shall be in the end.
    """
    path = Path(path)
    return path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
