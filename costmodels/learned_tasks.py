"""Which tasks a trained model has learned: a small hash of each, kept in its checkpoint."""

from collections.abc import Iterable, Mapping
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from costmodels.checkpoint import Checkpoint

LEARNED_TASKS = "training.learned_tasks"
"""The array of a checkpoint."""


def learned_array(
    keys: Iterable[str], start: Checkpoint | None = None
) -> dict[str, NDArray[np.uint32]]:
    """What a checkpoint shall say of what it learned, as arrays of it.

    Parameters
    ----------
    keys : iterable of str
        Of the tasks learned, `TaskRow.key`.
    start : Checkpoint, optional
        Of the model that learned on; where it does not say what it had learned, nothing is said.
    """
    known = {_mark(key) for key in keys}
    if start is not None:
        if LEARNED_TASKS not in start.arrays:
            return {}
        known |= {int(mark) for mark in start.arrays[LEARNED_TASKS]}
    return {LEARNED_TASKS: np.array(sorted(known), np.uint32)}


def count_learned(checkpoint: Checkpoint, keys: Iterable[str]) -> int | None:
    """How many of some tasks a model has learned; None where its checkpoint does not say."""
    arrays: Mapping[str, NDArray[np.uint32]] = checkpoint.arrays
    if LEARNED_TASKS not in arrays:
        return None
    known = {int(mark) for mark in arrays[LEARNED_TASKS]}
    return sum(_mark(key) in known for key in keys)


def _mark(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=4).digest(), "little")
