"""Which layer of the user's network a weight is of: told by its content, for importers drop names.

What folding constants changes beyond shape and a transposition is not found again, nor is what two
layers hold alike.
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
        Name and values of each.
    """
    found: dict[bytes, str] = {}
    several: set[bytes] = set()
    for name, array in weights:
        if array.nbytes < SMALLEST_BYTES:
            continue
        layer = layer_of(name)
        for each in (array, array.T) if array.ndim == 2 else (array,):
            digest = digest_of(each)
            if found.setdefault(digest, layer) != layer:
                several.add(digest)
    return {digest: layer for digest, layer in found.items() if digest not in several}
