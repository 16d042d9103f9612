"""The one key of a task: a workload on a target, by content.

A key is 16 hexadecimal digits of the workload's structural hash, ``-``, and 8 of the target's
digest. Earlier releases wrote the target out in checkpoints and work directories, in JSON whose
numbers and lists were texts of Python; such keys are read.
"""

import ast
import json
from hashlib import blake2b
from typing import Any

_TEXT_SEPARATOR = " "


def task_key(workload_hash: int, target_text: str) -> str:
    """Key of a task.

    Parameters
    ----------
    workload_hash : int
        Structural hash of the program before scheduling, 64 bits.
    target_text : str
        The target as one line of JSON with sorted keys, without its tag.

    Returns
    -------
    str

    Examples
    --------
    >>> task_key(255, '{"kind": "llvm"}')
    '00000000000000ff-21c4b11b'
    """
    return f"{workload_hash & (2**64 - 1):016x}-{_digest(target_text)}"


def with_target(key: str, target_text: str) -> str:
    """Key of the same workload on another target."""
    return f"{key.partition('-')[0]}-{_digest(target_text)}"


def canonical_key(key: str) -> str:
    """The key of a task as it is written now, from one of any release.

    Examples
    --------
    >>> canonical_key('00000000000000ff {"kind": "llvm"}') == task_key(255, '{"kind": "llvm"}')
    True
    >>> canonical_key("a name")
    'a name'
    """
    workload, separator, text = key.partition(_TEXT_SEPARATOR)
    if not separator or len(workload) != 16:
        return key
    try:
        values = json.loads(text)
        target = {name: _value(value) for name, value in values.items()}
        return task_key(int(workload, 16), json.dumps(target, sort_keys=True))
    except (ValueError, AttributeError):
        return key


def _value(text: Any) -> Any:
    """A value of a target from its text: whole numbers, lists and truth values were texts."""
    if not isinstance(text, str):
        return text
    if text not in ("True", "False") and not text.lstrip("-").isdigit() and text[:1] not in "([{":
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _digest(target_text: str) -> str:
    return blake2b(target_text.encode(), digest_size=4).hexdigest()
