"""Features of a data set's programs on disk: derived from it, and made again when it changes.

A cache is a folder under the user's cache directory, named by what the features depend on: the
data set's files, the feature schema, and the release of the extractor. It is read by mapping its
files into memory.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from costmodels import files
from costmodels.errors import InputError
from costmodels.features.kernel_graph import OPCODES, STAGES_VERSION, StagedGraph
from costmodels.features.kernel_graph_json import graphs_from_json, graphs_to_json
from costmodels.features.schema import PER_STORE, FeatureSchema
from costmodels.kernel import IndexArray, RowArray

MANIFEST = "manifest.json"
GRAPHS = "graphs.json"
_ARRAYS = ("rows", "row_offsets", "applies", "graph_index")


@dataclass(frozen=True)
class FeatureTable:
    """Rows and graphs of programs.

    Parameters
    ----------
    rows : numpy.ndarray
        float32 [rows, columns].
    row_offsets : numpy.ndarray
        int64 [programs + 1], as in `costmodels.kernel.KernelBatch`.
    applies : numpy.ndarray
        bool [programs]; false where the trace no longer applies: then there are no rows.
    graphs : tuple of StagedGraph
        Those that occur.
    graph_index : numpy.ndarray
        int64 [programs]; position in `graphs`, -1 where the trace no longer applies.
    """

    rows: RowArray
    row_offsets: IndexArray
    applies: NDArray[np.bool_]
    graphs: tuple[StagedGraph, ...]
    graph_index: IndexArray


def cache_folder() -> Path:
    """Where features are kept."""
    return files.cache_folder("features")


def cache_key(files_digest: str, schema: FeatureSchema, extractor: str) -> str:
    """Name of the cache of a data set under a schema and an extractor's release.

    Parameters
    ----------
    files_digest : str
        Of the data set: a damaged copy must not pass for the sound one.
    schema : FeatureSchema
        Of the rows.
    extractor : str
        What extracts.
    """
    meaning = (
        f"{files_digest} {schema.fingerprint} {STAGES_VERSION} {' '.join(OPCODES)} {extractor}"
    )
    return blake2b(meaning.encode(), digest_size=12).hexdigest()


def kept_extractors() -> tuple[str, ...]:
    """Names of what extracted the features that are kept, without repeats."""
    found: dict[str, None] = {}
    for manifest in sorted(cache_folder().glob(f"*/{MANIFEST}")):
        try:
            found[str(json.loads(manifest.read_text())["extractor"])] = None
        except (OSError, ValueError, KeyError, TypeError):
            continue  # of an earlier release, or damaged
    return tuple(found)


def load_features(files_digest: str, programs: int, extractor: str) -> FeatureTable | None:
    """Read what is kept of a data set.

    Parameters
    ----------
    files_digest : str
        Of the data set.
    programs : int
        How many it has.
    extractor : str
        What extracted.

    Returns
    -------
    FeatureTable, optional
        None when nothing is kept, or what is kept is damaged.
    """
    folder = cache_folder() / cache_key(files_digest, PER_STORE, extractor)
    try:
        json.loads((folder / MANIFEST).read_text())
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in _ARRAYS
        }
        graphs = graphs_from_json((folder / GRAPHS).read_text())
    except (OSError, ValueError, InputError):
        return None
    sizes = [len(arrays[name]) for name in ("applies", "graph_index", "row_offsets")]
    if sizes != [programs, programs, programs + 1]:
        return None
    if arrays["row_offsets"][-1] != len(arrays["rows"]):
        return None
    return FeatureTable(graphs=graphs, **arrays)


def save_features(files_digest: str, table: FeatureTable, extractor: str, dataset: Path) -> None:
    """Keep features, in place of those of an earlier state of the same data set.

    A cache that cannot be written is none: the features are made again next time.

    Parameters
    ----------
    files_digest : str
        Of the data set.
    table : FeatureTable
        Of its records, in their order.
    extractor : str
        What extracted.
    dataset : Path
        Where the data set is.
    """
    root, key = cache_folder(), cache_key(files_digest, PER_STORE, extractor)
    beside = root / f".{key}.{os.getpid()}"
    try:
        beside.mkdir(parents=True, exist_ok=True)
        for name in _ARRAYS:
            np.save(beside / f"{name}.npy", getattr(table, name), allow_pickle=False)
        (beside / GRAPHS).write_text(graphs_to_json(table.graphs))
        owner = str(dataset.resolve())
        (beside / MANIFEST).write_text(json.dumps({"dataset": owner, "extractor": extractor}))
        shutil.rmtree(root / key, ignore_errors=True)
        beside.rename(root / key)
        _remove_older(root, owner, key)
    except OSError:
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def unfinished_features(files_digest: str, extractor: str) -> Iterator[Path | None]:
    """Keep parts of an extraction until it has ended.

    Parameters
    ----------
    files_digest : str
        Of the data set; empty where nothing is kept of it.
    extractor : str
        What extracts.

    Yields
    ------
    Path or None
        A folder, with what an extraction that was killed has left; None where none can be made.
        It is removed at the end, unless that is an error.
    """
    folder = cache_folder() / f".unfinished-{cache_key(files_digest, PER_STORE, extractor)}"
    try:
        if not files_digest:
            raise OSError
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        yield None
        return
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _remove_older(root: Path, owner: str, key: str) -> None:
    for manifest in root.glob(f"*/{MANIFEST}"):
        try:
            is_older = json.loads(manifest.read_text()).get("dataset") == owner
        except (OSError, ValueError):
            is_older = False
        if is_older and manifest.parent.name != key:
            shutil.rmtree(manifest.parent, ignore_errors=True)
