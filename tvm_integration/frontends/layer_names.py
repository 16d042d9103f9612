"""Which layer of the user's network a weight is of: told by its content, for importers drop names.

What folding constants changes beyond shape and a transposition is not found again, nor is what two
layers hold alike without sharing it.
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b

import numpy as np

LayerNames = Mapping[bytes, str]
"""Digest of a weight's content -> name of its layer."""
PARTS = frozenset(
    ("weight", "bias", "gamma", "beta", "running_mean", "running_var", "mean", "var", "scale")
)
"""Last parts of a weight's name that say what it is to its layer."""
SMALLEST_BYTES = 16
"""Less is often the same by chance."""
MAX_UNIFORM_BYTES = 1 << 20
"""Of what is looked through for being all zeros, or all ones."""


def digest_of(array: np.ndarray) -> bytes:
    """Of the content alone: a weight keeps it when its shape changes."""
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return blake2b(content.data, digest_size=16).digest()


def layer_of(weight: str) -> str:
    """The layer's part of a weight's name.

    Examples
    --------
    >>> layer_of("layer1.0.conv1.weight"), layer_of("onnx::Conv_193")
    ('layer1.0.conv1', 'onnx::Conv_193')
    """
    before, _, last = weight.rpartition(".")
    return before if before and last in PARTS else weight


def layer_names(weights: Iterable[tuple[str, np.ndarray]]) -> LayerNames:
    """Names of layers by the content of their weights, also of transposed matrices.

    Parameters
    ----------
    weights : iterable of tuple
        Name and values of each; the name is empty where nobody gave it one. A weight that several
        layers share, in the same place of memory, comes with each of its names.
    """
    shared: dict[tuple[int, tuple[int, ...]], tuple[np.ndarray, dict[str, None]]] = {}
    for name, array in weights:
        if array.nbytes >= SMALLEST_BYTES and not _is_uniform(array):
            place = array.__array_interface__["data"][0], array.shape
            shared.setdefault(place, (array, {}))[1][layer_of(name)] = None
    found: dict[bytes, str] = {}
    several: set[bytes] = set()
    for array, layers in shared.values():
        layer = " / ".join(layers)
        for each in (array, array.T) if array.ndim == 2 else (array,):
            digest = digest_of(each)
            if found.setdefault(digest, layer) != layer:
                several.add(digest)
    return {k: layer for k, layer in found.items() if layer and k not in several}


def _is_uniform(array: np.ndarray) -> bool:
    """Whether all values are the same: what folding makes may well be that, too."""
    return array.nbytes <= MAX_UNIFORM_BYTES and bool(np.all(array == array.flat[0]))
