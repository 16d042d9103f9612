"""Functions the user gives to builder and runner: as Python functions, or by name."""

from collections.abc import Callable
from typing import Any, TypeAlias

from costmodels.errors import InputError
from tvm_integration.compat import get_global_func_with_default_on_worker

__all__ = ["FunctionOrName", "require_function", "resolve"]

FunctionOrName: TypeAlias = Callable[..., Any] | str | None


def require_function(name: str, value: object) -> None:
    """Check a function that may be given by its name in TVM's registry.

    Raises
    ------
    InputError
        When it is neither None, a string nor callable.
    """
    if value is not None and not isinstance(value, str) and not callable(value):
        raise InputError(
            f"{name} must be a function, or the name of one registered with TVM, got {value!r}"
        )


def resolve(name: str, given: FunctionOrName, default: Callable[..., Any]) -> Callable[..., Any]:
    """Find a function on the worker.

    Parameters
    ----------
    name : str
        The parameter that gave it.
    given : callable, str or None
        The function, its name in TVM's registry, or None for `default`.
    default : callable
        TVM's own.

    Returns
    -------
    callable
        The function.

    Raises
    ------
    InputError
        When no function of that name is registered.
    """
    try:
        function: Callable[..., Any] = get_global_func_with_default_on_worker(given, default)
    except ValueError as error:
        raise InputError(
            f"{name} must be registered with TVM in the worker, got {given!r}: "
            "register it in `initializer`, or give the function itself"
        ) from error
    return function
