"""Types that are checked where users pass them, for errors that say what must be which."""

import types
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from costmodels.errors import InputError

__all__ = ["MAX_SEED", "check_fields", "check_seed", "require_type"]

MAX_SEED = 2**31 - 2
"""Of all generators that a seed goes to the narrowest takes so much."""


def require_type(name: str, value: object, kind: Any) -> None:
    """Check that a value is of a type, as it is annotated.

    Parameters
    ----------
    name : str
        Of the parameter; for the error.
    value : object
        What was given.
    kind : type or union
        What it must be. A whole number will do for a float; what generics hold is not looked at.

    Raises
    ------
    InputError
        When it is of another type.

    Examples
    --------
    >>> require_type("trials", "64", int)
    Traceback (most recent call last):
    costmodels.errors.InputError: trials must be int, got '64' (str)
    """
    allowed = _classes(kind)
    names = " or ".join("None" if each is type(None) else each.__name__ for each in allowed)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if float in allowed and is_number:
        return
    if isinstance(value, bool) and int in allowed and bool not in allowed:
        allowed = tuple(each for each in allowed if each is not int)
    if not isinstance(value, allowed):
        raise InputError(f"{name} must be {names}, got {value!r} ({type(value).__name__})")


def check_seed(seed: object) -> None:
    """Raise InputError unless a seed is a whole number that every generator takes."""
    require_type("seed", seed, int)
    if not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise InputError(f"seed must be in 0 ... {MAX_SEED}, got {seed}")


def _classes(kind: Any) -> tuple[type, ...]:
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(each for part in get_args(kind) for each in _classes(part))
    return (get_origin(kind) or kind,)


def check_fields(options: Any) -> None:
    """Check the types of a dataclass's fields; a path given as text becomes a `Path`.

    Parameters
    ----------
    options : dataclass instance
        Frozen or not.

    Raises
    ------
    InputError
        When a field is of another type than it is annotated with.
    """
    hints = get_type_hints(type(options))
    for field in fields(options):
        value, kind = getattr(options, field.name), hints[field.name]
        if Path in _classes(kind) and isinstance(value, str | PathLike):
            object.__setattr__(options, field.name, Path(value))
            continue
        require_type(field.name, value, kind)
