"""Registered models of kernels and of networks by name, loaded on first use.

Third parties register theirs with an entry point in the group ``costmodels.kernel_models`` or
``costmodels.network_models``; an entry point cannot replace a model of this project.
"""

import difflib
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import numpy as np

from costmodels.checks import require_type
from costmodels.errors import InputError
from costmodels.pretrained import BEST, PREFIX, is_pretrained, pretrained_models, pretrained_path
from costmodels.protocol import KernelCostModel, NetworkCostModel

ENTRY_POINT_GROUP = "costmodels.kernel_models"
NETWORK_ENTRY_POINT_GROUP = "costmodels.network_models"

KERNEL_MODELS: Mapping[str, str] = {
    "ensemble": "costmodels.kernel_models.ensemble:Ensemble",
    "gbt": "costmodels.kernel_models.gbt.model:GradientBoostedTrees",
    "graphsage": "costmodels.kernel_models.graphsage:GraphSage",
    "halide": "halide_style.model:HalideStyleModel",
    "lookup_table": "costmodels.kernel_models.lookup_table:LookupTable",
    "paleo": "costmodels.kernel_models.paleo:Paleo",
    "random": "costmodels.kernel_models.random:RandomModel",
    "sparse_polynomial": "costmodels.kernel_models.sparse_polynomial:SparsePolynomial",
}
"""Name -> ``module:class`` of the models of this project."""
NETWORK_MODELS: Mapping[str, str] = {
    "sum_of_kernels": "costmodels.network_models.sum_of_kernels:SumOfKernels",
}
"""The same of network models."""


def kernel_model_names() -> tuple[str, ...]:
    """Names of all registered kernel models, sorted."""
    return tuple(sorted({*KERNEL_MODELS, *entry_points(group=ENTRY_POINT_GROUP).names}))


def network_model_names() -> tuple[str, ...]:
    """Names of all registered network models, sorted."""
    return tuple(sorted({*NETWORK_MODELS, *entry_points(group=NETWORK_ENTRY_POINT_GROUP).names}))


def kernel_model_class(name: str) -> type[KernelCostModel]:
    """Load the class of a registered kernel model.

    Parameters
    ----------
    name : str
        A registered name.

    Raises
    ------
    InputError
        When no model has that name, or an entry point cannot be used.

    Examples
    --------
    >>> kernel_model_class("gbt").name
    'gbt'
    """
    found: type[KernelCostModel] | None = _class(name, KERNEL_MODELS, ENTRY_POINT_GROUP)
    if found is not None:
        return found
    names = kernel_model_names()
    trained = [f"{PREFIX}{each}" for each in (*pretrained_models(), BEST)]
    near = difflib.get_close_matches(name, [*names, *trained], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InputError(f"a kernel model must be one of {', '.join(names)}, got {name!r}{hint}")


def network_model_class(name: str) -> type[NetworkCostModel]:
    """Load the class of a registered network model.

    Parameters
    ----------
    name : str
        A registered name.

    Raises
    ------
    InputError
        When no model has that name, or an entry point cannot be used.

    Examples
    --------
    >>> network_model_class("sum_of_kernels").name
    'sum_of_kernels'
    """
    found: type[NetworkCostModel] | None = _class(name, NETWORK_MODELS, NETWORK_ENTRY_POINT_GROUP)
    if found is None:
        names = network_model_names()
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"a network model must be one of {', '.join(names)}, got {name!r}{hint}")
    return found


def _class(name: str, own: Mapping[str, str], group: str) -> Any:
    """The class of a name, of this project or of another; None where there is none."""
    require_type("the name of a model", name, str)
    if name in own:
        module, _, attribute = own[name].partition(":")
        return getattr(import_module(module), attribute)
    for entry_point in entry_points(group=group, name=name):
        return _load(entry_point)
    return None


def check_model_text(text: str) -> None:
    """Check what a user gives as a model, before anything is imported for it.

    Parameters
    ----------
    text : str
        A registered name, ``pretrained:NAME``, or a file.

    Raises
    ------
    InputError
        When it is none of these; the message has the nearest name.
    """
    if is_pretrained(text):
        pretrained_path(text)
    elif text not in kernel_model_names() and not _exists(text):
        if text.endswith((".ckpt", ".csv")):
            raise InputError(f"model {text} cannot be read: there is no file of that name")
        kernel_model_class(text)


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except OSError:  # no name of a file, as one that is too long
        return False


def new_kernel_model(name: str, *, rng: np.random.Generator) -> KernelCostModel:
    """Make a registered kernel model that has learned nothing.

    Parameters
    ----------
    name : str
        A registered name.
    rng : numpy.random.Generator
        Its own source of random numbers.

    Raises
    ------
    InputError
        When no model has that name, or it cannot be made.

    Examples
    --------
    >>> new_kernel_model("gbt", rng=np.random.default_rng(0)).is_fitted
    False
    """
    model: KernelCostModel = _new(name, kernel_model_class(name), rng, KERNEL_MODELS)
    return model


def new_network_model(name: str, *, rng: np.random.Generator) -> NetworkCostModel:
    """Make a registered network model that has learned nothing.

    Parameters
    ----------
    name : str
        A registered name.
    rng : numpy.random.Generator
        Its own source of random numbers.

    Raises
    ------
    InputError
        When no model has that name, or it cannot be made.

    Examples
    --------
    >>> new_network_model("sum_of_kernels", rng=np.random.default_rng(0)).is_fitted
    False
    """
    model: NetworkCostModel = _new(name, network_model_class(name), rng, NETWORK_MODELS)
    return model


def _new(name: str, made: Any, rng: np.random.Generator, own: Mapping[str, str]) -> Any:
    try:
        return made(rng=rng)
    except TypeError as error:
        if name in own:
            raise
        raise InputError(
            f"model {name!r} must be made by {made.__qualname__}(rng=...), got {error}: "
            f"ask the authors of {made.__module__}"
        ) from error


def _load(entry_point: EntryPoint) -> type:
    origin = "" if entry_point.dist is None else f" of {entry_point.dist.name}"
    what = f"entry point {entry_point.name} = {entry_point.value}{origin} must name "
    hint = "reinstall that package, or ask its authors"
    try:
        loaded = entry_point.load()
    except Exception as error:  # foreign code, which can raise anything
        raise InputError(
            f"{what}something importable, got {type(error).__name__}: {error}: {hint}"
        ) from error
    if not isinstance(loaded, type):
        raise InputError(f"{what}a class, got {type(loaded).__name__}: {hint}")
    found = getattr(loaded, "name", None)
    if found != entry_point.name:  # its checkpoints would be opened as another model's
        raise InputError(f"{what}a class with name = {entry_point.name!r}, got {found!r}: {hint}")
    return loaded
