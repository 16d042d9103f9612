"""A model as a user names it: registered, trained and shipped, or a file."""

import os
from pathlib import Path

import numpy as np

from costmodels.checkpoint import load_checkpoint
from costmodels.checks import check_seed
from costmodels.errors import InputError
from costmodels.model_state import model_of_state, network_model_of_state
from costmodels.pretrained import is_pretrained, pretrained_path
from costmodels.protocol import KernelCostModel, NetworkCostModel
from costmodels.registry import (
    kernel_model_names,
    network_model_names,
    new_kernel_model,
    new_network_model,
)

__all__ = ["checkpoint_path", "load_kernel_model", "load_network_model"]


def load_kernel_model(
    model: str | os.PathLike[str] | KernelCostModel, *, seed: int = 0
) -> KernelCostModel:
    """Turn what a user names into a model.

    Parameters
    ----------
    model : str, path or KernelCostModel
        A registered name, which gives a model that has learned nothing; ``pretrained:NAME``, a
        checkpoint file or the export of a lookup table (.csv), which give trained ones; or a model,
        which is returned as it is.
    seed : int
        For a new model.

    Returns
    -------
    KernelCostModel
        Of the class that the name or the checkpoint says.

    Raises
    ------
    InputError
        When it is none of these.
    CheckpointError, SchemaError
        When the file cannot be used.

    Examples
    --------
    >>> load_kernel_model("pretrained:best").is_fitted, load_kernel_model("gbt").is_fitted
    (True, False)
    """
    check_seed(seed)
    if isinstance(model, KernelCostModel) and not isinstance(model, type):
        return model
    if not isinstance(model, str | os.PathLike):
        raise InputError(
            f"model must be a registered name ({', '.join(kernel_model_names())}), a checkpoint "
            f"file or a KernelCostModel, got {type(model).__name__}"
        )
    if is_pretrained(os.fspath(model)):
        model = pretrained_path(os.fspath(model))
    elif os.fspath(model) in kernel_model_names():
        model = os.fspath(model)
        return new_kernel_model(model, rng=np.random.default_rng(seed))
    if os.fspath(model).endswith(".csv"):
        from costmodels.kernel_models.lookup_table import LookupTable

        return LookupTable.from_export(model)
    if os.fspath(model).endswith(".ckpt") or _is_file(model):
        return model_of_state(load_checkpoint(model), path=model)
    try:
        return new_kernel_model(os.fspath(model), rng=np.random.default_rng(seed))
    except InputError as error:
        raise InputError(f"{error}; a trained one is pretrained:NAME or a file") from None


def load_network_model(
    model: str | os.PathLike[str] | NetworkCostModel, *, seed: int = 0
) -> NetworkCostModel:
    """Turn what a user names into a model of whole networks.

    Parameters
    ----------
    model : str, path or NetworkCostModel
        A registered name, which gives a model that has learned nothing; a checkpoint file; or a
        model, which is returned as it is.
    seed : int
        For a new model.

    Returns
    -------
    NetworkCostModel
        Of the class that the name or the checkpoint says.

    Raises
    ------
    InputError
        When it is none of these.
    CheckpointError, SchemaError
        When the file cannot be used.
    """
    check_seed(seed)
    if isinstance(model, NetworkCostModel) and not isinstance(model, type):
        return model
    if not isinstance(model, str | os.PathLike):
        raise InputError(
            f"model must be a registered name ({', '.join(network_model_names())}), a checkpoint "
            f"file or a NetworkCostModel, got {type(model).__name__}"
        )
    if os.fspath(model) not in network_model_names() and (
        os.fspath(model).endswith(".ckpt") or _is_file(model)
    ):
        return network_model_of_state(load_checkpoint(model), path=model)
    name = os.fspath(model)
    if is_pretrained(name) or name in kernel_model_names():
        raise InputError(
            f"a network model must be one of {', '.join(network_model_names())} or a checkpoint, "
            f"got {name!r}, a model of kernels: SumOfKernels adds these up, from "
            f"load_kernel_model({name!r})"
        )
    return new_network_model(name, rng=np.random.default_rng(seed))


def _is_file(path: str | os.PathLike[str]) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # no name of a file, as one that is too long
        return False


def checkpoint_path(model: str | os.PathLike[str]) -> Path | None:
    """Return the file of a trained model as a user names it; None for a registered name."""
    name = os.fspath(model)
    if name in kernel_model_names():
        return None
    return pretrained_path(name) if is_pretrained(name) else Path(name)
