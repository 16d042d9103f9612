"""Writing a file so that a kill or a full disk never leaves half of it."""

import os
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path

from costmodels.errors import InputError


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file beside its place, then rename it into place.

    Parameters
    ----------
    path : path
        Where the file shall be; replaced if it exists, a link by what it points to. Its folder
        must exist.
    content : bytes
        All of the file.

    Raises
    ------
    OSError
        When the disk is full or the folder cannot be written; the old file is still there.
    """
    path = os.path.realpath(path)
    beside = path_beside(path)
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def check_can_be_written(
    path: str | os.PathLike[str], *, needed: Iterable[str | os.PathLike[str]] = ()
) -> None:
    """Raise InputError unless a file can be written there: before hours of work, not after.

    Parameters
    ----------
    path : path
        Where the file shall be in the end; one that exists would be replaced.
    needed : iterable of path
        Files and folders of the input, which must not be: they need not exist.
    """
    path = Path(path)
    try:
        real = path.resolve()
        for each in needed:
            other = Path(each).resolve()
            if real == other or (other.is_dir() and real.parent == other and real.exists()):
                raise InputError(
                    f"{path} must be a file of its own, got one of the input: give another path"
                )
        if path.exists() and not path.is_file() and not path.is_dir():
            raise InputError(
                f"{path} must be a regular file or a new one, got a device or a pipe: "
                "give another path"
            )
        if path.is_dir():
            raise InputError(
                f"{path} must be a file to write, got a folder: give the name of a file"
            )
        if not path.parent.is_dir():
            raise InputError(f"the folder of {path} must exist: make it first")
        beside = path_beside(path)
        beside.touch()
        beside.unlink()
    except OSError as error:
        raise InputError(
            f"{path} must be a file that can be written, got: {error.strerror}: give another path"
        ) from None


def cache_folder(kind: str) -> Path:
    """Where what can be made again is kept: under ``$XDG_CACHE_HOME``, or ``~/.cache``.

    Parameters
    ----------
    kind : str
        Of what is kept; a folder of its own, which need not exist.
    """
    chosen = os.environ.get("XDG_CACHE_HOME")
    try:
        home = Path(chosen) if chosen else Path.home() / ".cache"
    except RuntimeError:  # a user without a home
        home = Path(tempfile.gettempdir()) / f"costmodels-{os.getuid()}"
        if home.exists() and home.stat().st_uid != os.getuid():  # somebody else's
            home = home.with_name(f"{home.name}-{os.getpid()}")
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
