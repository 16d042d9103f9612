"""Choosing the best of many that are not all alike."""

from collections.abc import Iterable, Mapping

import numpy as np

from costmodels.kernel import FloatArray

Place = tuple[str, FloatArray]


def spread_out(
    order: Iterable[int],
    places: Mapping[int, Place],
    count: int,
    apart: float,
    others: Iterable[Place] = (),
) -> list[int]:
    """Take the first that are not close to one taken before, nor to others.

    Parameters
    ----------
    order : iterable of int
        Positions, the best first.
    places : mapping
        Of each position: its group, and its features [columns of the group]. Only those of one
        group can be close; what is not known counts as alike.
    count : int
        How many to take at most.
    apart : float
        Least sum of the differences of two.
    others : iterable
        Places to keep away from.
    """
    taken: list[int] = []
    near: dict[str, list[FloatArray]] = {}
    for group, features in others:
        near.setdefault(group, []).append(features)
    for position in order:
        if len(taken) == count:
            break
        group, features = places[position]
        known = near.setdefault(group, [])
        if known and float(np.nansum(np.abs(np.array(known) - features), axis=1).min()) < apart:
            continue
        known.append(features)
        taken.append(position)
    return taken
