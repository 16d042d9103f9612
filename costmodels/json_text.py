"""Values -> the text of a JSON document, and back.

JSON has no NaN, so what is not known is null.
"""

import json
import math
from typing import Any

__all__ = ["json_text", "parse_json"]


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
