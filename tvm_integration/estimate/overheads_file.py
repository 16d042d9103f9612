"""Where calibrations are kept, and which one an estimate takes."""

import json
import logging
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Self

from costmodels.checkpoint import load_checkpoint
from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.files import cache_folder, write_atomically
from costmodels.json_text import from_values, json_text, parse_json
from costmodels.load_model import checkpoint_path
from costmodels.network_models.overheads import (
    DEFAULT_OVERHEADS,
    NO_OVERHEADS,
    UNSEEN_DEVICE_ERROR,
    Overheads,
)
from tvm_integration.compat import Target
from tvm_integration.identity import target_text

_log = logging.getLogger(__name__)

OF = "calibrated"
"""Key of a file's `Calibrated`, beside its overheads."""


@dataclass(frozen=True)
class Calibrated:
    """What a calibration is of.

    Parameters
    ----------
    model : str
        As the user names it.
    weights : str
        Digest of its checkpoint; empty for a model without one.
    target, device : str
        The target's JSON, and the device's name.
    cores : int
        In use.
    """

    model: str
    weights: str
    target: str
    device: str
    cores: int

    @classmethod
    def of(cls, target: Target, device: Device, model_name: str) -> Self:
        """That of an estimate, or of a calibration to be."""
        checkpoint = checkpoint_path(model_name)
        weights = ""
        if checkpoint is not None and checkpoint.is_file():
            weights = blake2b(checkpoint.read_bytes(), digest_size=8).hexdigest()
        return cls(model_name, weights, target_text(target), device.name, device.cores)

    @property
    def path(self) -> Path:
        """Where it is kept: not where one of a model with other weights is."""
        meaning = json.dumps([self.target, self.device, self.cores, self.weights or self.model])
        key = blake2b(meaning.encode(), digest_size=8).hexdigest()
        return cache_folder("overheads") / f"{key}.json"


def save_overheads(path: Path, overheads: Overheads, of: Calibrated) -> None:
    """Write overheads, and what they are of, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {**asdict(overheads), OF: asdict(of)}
    write_atomically(path, json_text(document).encode())


def load_overheads(path: Path, asked: Calibrated) -> Overheads:
    """Read overheads.

    Those of another target or device are warned of: a device has many names.

    Parameters
    ----------
    path : Path
        What `save_overheads` wrote.
    asked : Calibrated
        What they are wanted for.

    Raises
    ------
    InputError
        When the file cannot be read, is something else, or holds the errors of another model.
    """
    try:
        document = parse_json(path.read_bytes())
        if not isinstance(document, dict):
            raise InputError("it is no JSON object")
        told = document.pop(OF, None)  # earlier releases did not write it
        found = from_values(Overheads, document, "overheads")
        of = None if told is None else from_values(Calibrated, told, OF)
    except OSError as error:
        raise InputError(
            f"overheads {path} must be a file that can be read: {error.strerror}"
        ) from None
    except ValueError as error:
        raise InputError(
            f"overheads {path} must be what `costmodels calibrate` writes, got: {error}"
        ) from None
    if of is None or of == asked:
        return found
    if (of.weights or of.model) != (asked.weights or asked.model):
        other = "" if of.model != asked.model else " with other weights"
        raise InputError(
            f"overheads {path} must be of {asked.model}, got those of {of.model}{other}, whose "
            "errors are others: calibrate with this cost model, or estimate with that one"
        )
    for name in ("target", "device", "cores"):
        here, there = getattr(asked, name), getattr(of, name)
        if here != there:
            _log.warning("%s was calibrated for %s %s, and is used for %s", path, name, there, here)
    return found


def known_overheads(target: Target, device: Device, model_name: str) -> Overheads:
    """What was calibrated for a target and a model on this machine, or else what is typical.

    A device that the model never saw adds to what is uncertain.
    """
    asked = Calibrated.of(target, device, model_name)
    if asked.path.exists():
        return load_overheads(asked.path, asked)
    typical = DEFAULT_OVERHEADS if device.kind == "cpu" else NO_OVERHEADS
    learned = learned_devices(model_name)
    if learned is None or device.name in learned:
        return typical
    return replace(typical, device_error=UNSEEN_DEVICE_ERROR)


def learned_devices(model_name: str) -> frozenset[str] | None:
    """Names of the devices that a model learned from, as its checkpoint says.

    Returns
    -------
    frozenset or None
        None for a model without a checkpoint: a formula, or a table of this machine.
    """
    checkpoint = checkpoint_path(model_name)
    if checkpoint is None or checkpoint.suffix == ".csv":
        return None
    return frozenset(load_checkpoint(checkpoint).provenance.get("devices", ()))
