"""Checkpoints: one safetensors file with the arrays, the schema and the provenance; no pickle.

Loading a checkpoint runs no code from it. Formats are numbered: another than this
release's is refused, with the release that wrote it.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from costmodels.errors import CheckpointError, SchemaError
from costmodels.features.schema import FeatureSchema
from costmodels.files import write_atomically
from costmodels.installed import release
from costmodels.json_text import parse_json

FORMAT = "costmodels-checkpoint"
FORMAT_VERSION = 2
ZSTD_LEVEL = 9


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Parameters
    ----------
    model : str
        Registered name of the model.
    schema : str
        Fingerprint of the feature schema it was made with.
    arrays : mapping
        Name -> array.
    settings : mapping
        JSON values: configuration, counters.
    provenance : mapping
        JSON values: with what it was made.
    schema_text : str
        The schema for people.
    """

    model: str
    schema: str
    arrays: Mapping[str, NDArray[Any]]
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema_text: str = ""

    @classmethod
    def of(
        cls,
        model: str,
        schema: FeatureSchema,
        *,
        arrays: Mapping[str, NDArray[Any]] | None = None,
        settings: Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Self:
        """What a model with a schema has to keep."""
        return cls(
            model, schema.fingerprint, arrays or {}, settings or {}, provenance or {}, str(schema)
        )

    def with_more(
        self,
        *,
        arrays: Mapping[str, NDArray[Any]] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Self:
        """The same with more arrays, and more of its provenance."""
        return replace(
            self,
            arrays={**self.arrays, **(arrays or {})},
            provenance={**self.provenance, **(provenance or {})},
        )


def write_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically.

    Parameters
    ----------
    path : path
        Replaced if it exists; on failure the old file stays.
    checkpoint : Checkpoint
        What it holds.

    Raises
    ------
    CheckpointError
        When the file cannot be written (folder missing, disk full, ...).
    """
    try:
        write_atomically(path, checkpoint_bytes(checkpoint))
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be written: {error.strerror}; "
            "an older one at that place is unchanged"
        ) from error


def checkpoint_bytes(checkpoint: Checkpoint) -> bytes:
    """Return the content of a checkpoint's file."""
    dense = {name: np.ascontiguousarray(array) for name, array in checkpoint.arrays.items()}
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "costmodels": release(),
        "model": checkpoint.model,
        "schema": checkpoint.schema,
        "schema_text": checkpoint.schema_text,
        "settings": dict(checkpoint.settings),
        "provenance": dict(checkpoint.provenance),
    }
    header["digest"] = _digest(header, dense)
    return save_tensors(dense, {FORMAT: json.dumps(header)})


def save_checkpoint(
    path: str | os.PathLike[str],
    *,
    model: str,
    schema: FeatureSchema,
    arrays: Mapping[str, NDArray[Any]],
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint atomically.

    Parameters
    ----------
    path : path
        Replaced if it exists; on failure the old file stays.
    model, schema, arrays, settings, provenance
        As in `Checkpoint`; the schema as such.

    Raises
    ------
    CheckpointError
        When the file cannot be written (folder missing, disk full, ...).
    """
    made = Checkpoint.of(model, schema, arrays=arrays, settings=settings, provenance=provenance)
    write_checkpoint(path, made)


def packed(content: bytes) -> NDArray[np.uint8]:
    """Compress bytes to an array of a checkpoint; quickly, for it is written after each update."""
    import pyarrow  # 25 MB that not every process needs at once

    written = pyarrow.Codec("zstd", ZSTD_LEVEL).compress(content, asbytes=True)
    return np.frombuffer(written, np.uint8)


def unpacked(array: NDArray[Any]) -> bytes:
    """Undo `packed`."""
    import pyarrow

    with pyarrow.CompressedInputStream(pyarrow.BufferReader(array.tobytes()), "zstd") as stream:
        return bytes(stream.read())


def add_provenance(
    path: str | os.PathLike[str],
    provenance: Mapping[str, Any],
    *,
    schema: FeatureSchema,
    arrays: Mapping[str, NDArray[Any]] | None = None,
) -> None:
    """Say in a checkpoint with what it was made.

    Parameters
    ----------
    path : path
        A checkpoint; replaced.
    provenance : mapping
        JSON values, added to those that are there.
    schema : FeatureSchema
        That of the checkpoint.
    arrays : mapping, optional
        What of the provenance is too long for JSON.

    Raises
    ------
    CheckpointError
        When the file cannot be read or written.
    """
    found = replace(load_checkpoint(path), schema_text=str(schema))
    write_checkpoint(path, found.with_more(arrays=arrays, provenance=provenance))


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read and verify a checkpoint.

    Parameters
    ----------
    path : path
        A file that `save_checkpoint` wrote.

    Raises
    ------
    CheckpointError
        When the file is missing, not a checkpoint, damaged, or of a newer format.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error.strerror}") from None
    return parse_checkpoint(content, path)


def parse_checkpoint(content: bytes, path: str | os.PathLike[str]) -> Checkpoint:
    """Verify the content of a checkpoint's file.

    Parameters
    ----------
    content : bytes
        As `checkpoint_bytes` gives it.
    path : path
        Where it is from; for errors.

    Raises
    ------
    CheckpointError
        When it is no checkpoint, damaged, or of a newer format.
    """
    header = _header(path, content)
    try:
        arrays = load_tensors(content)
    except SafetensorError as error:
        raise CheckpointError(_damaged(path, str(error))) from None
    if header.pop("digest", None) != _digest(header, arrays):
        raise CheckpointError(_damaged(path, "its contents do not match its digest"))
    return Checkpoint(
        model=header["model"],
        schema=header["schema"],
        arrays=arrays,
        settings=header["settings"],
        provenance=header["provenance"],
        schema_text=header.get("schema_text", ""),
    )


def require(checkpoint: Checkpoint, *, path: Any, model: str, schema: FeatureSchema) -> None:
    """Check that a checkpoint belongs to a model and was made with its schema.

    Raises
    ------
    CheckpointError
        When it is another model's.
    SchemaError
        When its schema is not `schema`.
    """
    if checkpoint.model != model:
        raise CheckpointError(
            f"checkpoint {path} must be of model {model!r}, got {checkpoint.model!r}"
        )
    if checkpoint.schema != schema.fingerprint:
        raise SchemaError(
            f"checkpoint {path} must be of schema {schema}, got {checkpoint.schema}: "
            "train the model again with this release"
        )


def _header(path: Any, content: bytes) -> dict[str, Any]:
    size = int.from_bytes(content[:8], "little")
    try:
        metadata = parse_json(content[8 : 8 + size])["__metadata__"]
        header: dict[str, Any] = parse_json(metadata[FORMAT])
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(_damaged(path, f"it has no {FORMAT} header")) from None
    found = header.get("format_version")
    if found != FORMAT_VERSION:
        raise CheckpointError(
            f"checkpoint {path} must be of format {FORMAT_VERSION}, got {found}: "
            f"train the model again, or use what wrote it, costmodels {header.get('costmodels')}"
        )
    return header


def _damaged(path: Any, what: str) -> str:
    return f"{path} must be a checkpoint of costmodels, got a damaged or other file ({what})"


def _digest(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    """Digest of everything in a file but the digest itself."""
    state = blake2b(json.dumps(header, sort_keys=True).encode(), digest_size=16)
    for name in sorted(arrays):
        array = arrays[name]
        state.update(f"{name} {array.dtype} {array.shape}".encode())
        state.update(array.tobytes())
    return state.hexdigest()
