"""Trained models that travel with the package: ``pretrained:NAME`` where a model is asked for."""

import difflib
from pathlib import Path

from costmodels.errors import InputError

PREFIX = "pretrained:"
BEST = "best"
PRETRAINED_BEST = f"{PREFIX}{BEST}"
BEST_MODEL = "ensemble"
"""What ``pretrained:best`` stands for: it orders kernels of validation networks best."""


def pretrained_folder() -> Path:
    """Where the checkpoints are."""
    return Path(__file__).parent / "shipped" / "models"


def pretrained_models() -> dict[str, Path]:
    """Name -> checkpoint, sorted by name."""
    return {path.stem: path for path in sorted(pretrained_folder().glob("*.ckpt"))}


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
        names = [*known, BEST] if known else ["none"]
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {PREFIX}{near[0]}?" if near else ""
        raise InputError(
            f"a pretrained model must be one of {', '.join(names)}, got {name!r}{hint}"
        )
    return known[wanted]
