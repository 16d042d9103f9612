"""Where the tasks of a data set come from, as text: a network, or drawn kernels."""

import re
from dataclasses import dataclass

from costmodels.errors import InputError
from tvm_integration.frontends.model_spec import check_model_name

__all__ = ["DTYPES", "Drawn", "check_task_source", "is_drawn", "parse_drawn"]

DTYPES = ("float32", "float16", "int8")
_PREFIX = "drawn:"
_FORM = re.compile(
    rf"{_PREFIX}(?P<count>\d+)(,dtype=(?P<dtype>\w+))?(,seed=(?P<seed>\d+))?", re.ASCII
)


@dataclass(frozen=True)
class Drawn:
    """How many kernels to draw, of which element type, from which seed."""

    count: int
    dtype: str = "float32"
    seed: int = 0


def is_drawn(source: str) -> bool:
    """Whether drawn kernels are meant."""
    return source.startswith(_PREFIX)


def check_task_source(source: str) -> None:
    """Check what can be checked at once.

    Raises
    ------
    InputError
        As of `check_model_name` and `parse_drawn`.
    """
    if is_drawn(source):
        parse_drawn(source)
    else:
        check_model_name(source)


def parse_drawn(text: str) -> Drawn:
    """Read ``drawn:COUNT[,dtype=NAME][,seed=NUMBER]``.

    Raises
    ------
    InputError
        When it is something else.

    Examples
    --------
    >>> parse_drawn("drawn:40,dtype=int8")
    Drawn(count=40, dtype='int8', seed=0)
    """
    found = _FORM.fullmatch(text)
    if found is None or int(found["count"]) < 1:
        raise InputError(
            f"drawn kernels must be drawn:COUNT[,dtype=NAME][,seed=NUMBER], got {text!r}"
        )
    dtype = found["dtype"] or "float32"
    if dtype not in DTYPES:
        raise InputError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    return Drawn(int(found["count"]), dtype, int(found["seed"] or 0))
