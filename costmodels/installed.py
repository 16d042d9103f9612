"""What is installed: this project's own release, those of others, and extras that are missing."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from costmodels.errors import InputError

__all__ = ["DISTRIBUTION", "release", "release_of", "require_package"]

DISTRIBUTION = "tvm-costmodels"
"""This project on PyPI, where ``costmodels`` is the name of another one."""


def release() -> str:
    """Return this project's release."""
    return version(DISTRIBUTION)


def release_of(distribution: str) -> str | None:
    """Return the release of a distribution; None where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def require_package(module: str, extra: str, what: str) -> None:
    """Check that a package is there which not everybody needs.

    Parameters
    ----------
    module : str
        What is imported.
    extra : str
        The extra of this project that brings it.
    what : str
        What needs it.

    Raises
    ------
    InputError
        When it is missing; the message has the command that installs it.
    """
    if find_spec(module) is None:
        raise InputError(
            f"{what} needs {module}, which is not installed: "
            f"`pip install '{DISTRIBUTION}[{extra}]'`"
        )
