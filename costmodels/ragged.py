"""Lists of different lengths laid end to end: which entries belong to some of them."""

import numpy as np
from numpy.typing import NDArray


def gather(
    offsets: NDArray[np.int64], lists: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the entries of some lists are, and where they lie when laid end to end anew.

    Parameters
    ----------
    offsets : numpy.ndarray
        int64 [all lists + 1]; list ``i`` is ``offsets[i]:offsets[i + 1]``.
    lists : numpy.ndarray
        int64 [lists]; may repeat.

    Returns
    -------
    entries : numpy.ndarray
        int64 [entries of these lists]; positions among all entries.
    new_offsets : numpy.ndarray
        int64 [lists + 1].

    Examples
    --------
    >>> entries, offsets = gather(np.array([0, 2, 5]), np.array([1, 0]))
    >>> entries.tolist(), offsets.tolist()
    ([2, 3, 4, 0, 1], [0, 3, 5])
    """
    counts = offsets[lists + 1] - offsets[lists]
    new_offsets = offsets_of(counts)
    within = np.arange(new_offsets[-1]) - np.repeat(new_offsets[:-1], counts)
    return np.repeat(offsets[lists], counts) + within, new_offsets


def offsets_of(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """int64 [lists + 1]; where lists of these lengths begin when laid end to end.

    Examples
    --------
    >>> offsets_of(np.array([2, 3])).tolist()
    [0, 2, 5]
    """
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def owners(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 [entries]; the list that each entry belongs to.

    Examples
    --------
    >>> owners(np.array([0, 2, 2, 3])).tolist()
    [0, 0, 2]
    """
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
