"""Where a data set is: in a folder, or with the package as ``shipped:NAME``."""

import difflib
import os
from pathlib import Path

from costmodels.checks import require_type
from costmodels.errors import InputError

PREFIX = "shipped:"
INFO = "dataset.json"
"""The file that makes a folder a data set."""


def is_dataset(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is a data set."""
    return (Path(path) / INFO).is_file()


def shipped_datasets() -> dict[str, Path]:
    """Name -> folder, sorted by name."""
    root = Path(__file__).parent.parent / "shipped" / "datasets"
    if not root.is_dir():
        return {}
    return {path.name: path for path in sorted(root.iterdir()) if is_dataset(path)}


def dataset_path(name: str | os.PathLike[str]) -> Path:
    """Folder of a data set as a user names it.

    Parameters
    ----------
    name : str or path
        A path, or ``shipped:NAME``.

    Raises
    ------
    InputError
        When no shipped data set has that name.
    """
    require_type("a data set", name, str | os.PathLike)
    if not isinstance(name, str):
        return Path(name)
    known = shipped_datasets()
    names = [f"{PREFIX}{name}" for name in known]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    if not name.startswith(PREFIX):
        if near and not Path(name).exists():
            raise InputError(f"a data set must be a folder or {PREFIX}NAME, got {name!r}{hint}")
        return Path(name)
    if (bare := name.removeprefix(PREFIX)) not in known:
        raise InputError(
            f"a shipped data set must be one of {', '.join(known) or 'none'}, got {bare!r}{hint}"
        )
    return known[bare]
