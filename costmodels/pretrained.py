"""Trained models that travel with the package: ``pretrained:NAME`` where a model is asked for."""

from importlib.resources import files
from pathlib import Path

from costmodels.errors import InputError

PREFIX = "pretrained:"
BEST = "best"
BEST_MODEL = "ensemble"
"""What ``pretrained:best`` stands for: it orders kernels of validation networks best."""


def pretrained_models() -> dict[str, Path]:
    """Name -> checkpoint, sorted by name."""
    root = Path(str(files("costmodels") / "shipped" / "models"))
    return {path.stem: path for path in sorted(root.glob("*.ckpt"))} if root.is_dir() else {}


def is_pretrained(model: str) -> bool:
    """Whether a model is named as one that travels with the package."""
    return model.startswith(PREFIX)


def pretrained_path(model: str) -> Path:
    """Checkpoint of a model as a user names it.

    Parameters
    ----------
    model : str
        ``pretrained:NAME``; ``pretrained:best`` stands for one of them.

    Raises
    ------
    InputError
        When no such model is there.
    """
    known = pretrained_models()
    name = model.removeprefix(PREFIX)
    wanted = BEST_MODEL if name == BEST else name
    if wanted not in known:
        names = ", ".join([*known, BEST]) if known else "none"
        raise InputError(f"a pretrained model must be one of {names}, got {name!r}")
    return known[wanted]
