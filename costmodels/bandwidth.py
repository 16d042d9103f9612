"""Bandwidth of the host's memory: several readings, those that were disturbed left out, kept.

Whatever else runs only takes of it. So fast undisturbed readings count, a later one that is faster
corrects what is kept, and a slower one does not.
"""

import contextlib
import json
import math
import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from costmodels.files import cache_folder, write_atomically

READINGS = 24
MIN_UNDISTURBED = 6
"""Undisturbed readings without which nothing is kept: the moment was too busy."""
FASTER = 1.25
"""A later reading that is faster by this factor shows that what is kept was disturbed: those of one
machine differ by up to 1.2 within minutes, by what its neighbors do."""
CHECKED_AFTER_S = 3600.0
"""After which what is kept is compared with one more reading."""


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Bandwidth of main memory, read and write together.

    Parameters
    ----------
    byte_per_s : float
        In byte/s.
    source : str
        Where it is known from; for people.
    spread : float
        Range of the undisturbed readings over the fastest; 0 where none was taken.
    readings : int
        How many were undisturbed.
    """

    byte_per_s: float
    source: str
    spread: float = 0.0
    readings: int = 0


def known_bandwidth(processor: str, l3_bytes: int, path: Path | None = None) -> Bandwidth:
    """What is kept of a processor, or measured now.

    Parameters
    ----------
    processor : str
        Its name.
    l3_bytes : int
        Size of its last-level cache.
    path : Path, optional
        Where readings are kept; in the user's cache folder by default.

    Returns
    -------
    Bandwidth
        From readings of a moment that was too busy nothing is kept.
    """
    path = cache_folder("") / "bandwidth.json" if path is None else path
    kept = _read(path)
    found = _from_json(kept.get(processor))
    if found is not None:
        checked_at = float(kept[processor].get("checked_at", 0.0))
        if time.time() - checked_at < CHECKED_AFTER_S:
            return found
        # One reading more: two passes, of which the first touches the pages.
        (fastest,) = _readings_byte_per_s(l3_bytes, 1, keep_disturbed=True)
        if fastest <= found.byte_per_s * FASTER:
            _write(path, kept, processor, found)
            return found
    measured = measure_bandwidth(l3_bytes)
    if measured.readings >= MIN_UNDISTURBED:
        _write(path, kept, processor, measured)
    return measured


def measure_bandwidth(l3_bytes: int) -> Bandwidth:
    """Copy an array four times the size of the last-level cache, again and again, with one thread.

    Parameters
    ----------
    l3_bytes : int
        Size of the last-level cache.

    Returns
    -------
    Bandwidth
        To three digits.
    """
    rates = _readings_byte_per_s(l3_bytes, READINGS, keep_disturbed=False)
    source = "measured"
    if len(rates) < MIN_UNDISTURBED:
        source = "measured while the machine was busy"
        rates += _readings_byte_per_s(l3_bytes, READINGS, keep_disturbed=True)
        undisturbed = 0
    else:
        undisturbed = len(rates)
    # Not the fastest: now and then one copy is served by a cache that others left alone.
    fast = float(np.quantile(rates, 0.75))
    # Not to steps that are larger than the noise: between two of them it moves by a whole one.
    return Bandwidth(float(f"{fast:.3g}"), source, 1 - min(rates) / max(rates), undisturbed)


def _readings_byte_per_s(l3_bytes: int, count: int, *, keep_disturbed: bool) -> list[float]:
    """Read and written bytes over the seconds of each copy."""
    size = min(max(4 * l3_bytes, 64 << 20), 512 << 20)
    source = np.ones(size // 8)
    target = np.empty_like(source)
    np.copyto(target, source)  # touches the pages
    found = []
    for _ in range(count):
        before = _interruptions()
        start = time.perf_counter()
        np.copyto(target, source)
        seconds = time.perf_counter() - start
        if keep_disturbed or _interruptions() == before:
            found.append(2 * source.nbytes / seconds)
    return found


def _interruptions() -> int:
    """How often another process was given this thread's core."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw


def _read(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        kept = json.loads(path.read_text())
        if isinstance(kept, dict):
            return kept
    return {}


def _from_json(value: Any) -> Bandwidth | None:
    """What was written; None for what is damaged, and for the bare numbers of earlier releases."""
    try:
        found = Bandwidth(
            float(value["byte_per_s"]), "kept", float(value["spread"]), int(value["readings"])
        )
    except (KeyError, TypeError, ValueError):
        return None
    return found if 1 <= found.byte_per_s < math.inf else None


def _write(path: Path, kept: dict[str, Any], processor: str, found: Bandwidth) -> None:
    values = {
        "byte_per_s": found.byte_per_s,
        "spread": round(found.spread, 3),
        "readings": found.readings,
        "checked_at": round(time.time()),
    }
    content = json.dumps(kept | {processor: values}, indent=1).encode()
    with contextlib.suppress(OSError):  # a read-only home: measured again next time
        os.makedirs(path.parent, exist_ok=True)
        write_atomically(path, content)
