"""Data sets that travel with the package: ``shipped:NAME`` wherever a data set is asked for."""

import difflib
from importlib.resources import files
from pathlib import Path

from costmodels.dataset.folder import is_dataset
from costmodels.errors import InputError

PREFIX = "shipped:"


def shipped_datasets() -> dict[str, Path]:
    """Name -> folder, sorted by name."""
    root = Path(str(files("costmodels") / "shipped" / "datasets"))
    if not root.is_dir():
        return {}
    return {path.name: path for path in sorted(root.iterdir()) if is_dataset(path)}


def dataset_path(text: str) -> Path:
    """Folder of a data set as a user names it.

    Parameters
    ----------
    text : str
        A path, or ``shipped:NAME``.

    Raises
    ------
    InputError
        When no shipped data set has that name.
    """
    known = shipped_datasets()
    names = [f"{PREFIX}{name}" for name in known]
    near = difflib.get_close_matches(text, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    if not text.startswith(PREFIX):
        if near and not Path(text).exists():
            raise InputError(f"a data set must be a folder or {PREFIX}NAME, got {text!r}{hint}")
        return Path(text)
    name = text.removeprefix(PREFIX)
    if name not in known:
        raise InputError(
            f"a shipped data set must be one of {', '.join(known) or 'none'}, got {name!r}{hint}"
        )
    return known[name]
