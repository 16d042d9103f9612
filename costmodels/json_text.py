"""Values -> the text of a JSON document, and back.

JSON has no NaN, so what is not known is null.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from costmodels.errors import InputError

__all__ = ["from_values", "json_text", "parse_json"]

T = TypeVar("T")


def parse_json(text: str | bytes) -> Any:
    """Read a document of unknown origin.

    Raises
    ------
    ValueError
        When it is none, or is nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def from_values(kind: type[T], values: object, what: str) -> T:
    """Undo `dataclasses.asdict`, and what JSON makes of it: a list of a tuple.

    Parameters
    ----------
    kind : type
        A dataclass, or a tuple of them; of fields that can be told in JSON. Fields with a default
        may be missing, as they are in what earlier releases wrote.
    values : object
        From JSON.
    what : str
        Names the document in errors: ``"overheads"``.

    Raises
    ------
    InputError
        When a value is missing, of another type, or refused by the dataclass; when the outermost
        object has a name that is no field, or none that is one.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Point:
    ...     x: float
    ...     y: float = 0.0
    >>> from_values(Point, {"x": 1}, "a point")
    Point(x=1.0, y=0.0)
    >>> from_values(Point, {"x": "far"}, "a point")
    Traceback (most recent call last):
    costmodels.errors.InputError: a point: Expected `float`, got `str` - at `$.x`
    """
    import msgspec  # every command imports this file, few read a document

    if is_dataclass(kind) and isinstance(values, Mapping):
        names = {field.name for field in fields(kind)}
        unknown = sorted(map(str, values.keys() - names))
        if unknown or not values:
            raise InputError(
                f"{what}: the names must be of {', '.join(sorted(names))}, "
                f"got {', '.join(unknown) or 'none'}"
            )
    try:
        return msgspec.convert(values, kind)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what}: {error}") from None


def json_text(value: object) -> str:
    r"""Write a document.

    Parameters
    ----------
    value : object
        Of dicts with names as keys, lists, tuples, texts, numbers, truth values and None.

    Returns
    -------
    str
        Ends with a new line.

    Examples
    --------
    >>> json_text({"error": float("nan")})
    '{\n "error": null\n}\n'
    """
    return json.dumps(_finite(value), indent=1, allow_nan=False) + "\n"


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
