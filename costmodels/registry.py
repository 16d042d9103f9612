"""Registered kernel models by name, loaded on first use.

Third parties register theirs with an entry point in the group ``costmodels.kernel_models``; an
entry point cannot replace a model of this package.
"""

import difflib
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points

from costmodels.errors import InputError
from costmodels.protocol import KernelCostModel

ENTRY_POINT_GROUP = "costmodels.kernel_models"

KERNEL_MODELS: Mapping[str, str] = {
    "gbt": "costmodels.kernel_models.gbt:GradientBoostedTrees",
    "random": "costmodels.kernel_models.random:RandomModel",
}
"""Name -> ``module:class`` of the models that come with this package."""


def kernel_model_names() -> tuple[str, ...]:
    """Names of all registered kernel models, sorted."""
    return tuple(sorted({*KERNEL_MODELS, *entry_points(group=ENTRY_POINT_GROUP).names}))


def kernel_model_class(name: str) -> type[KernelCostModel]:
    """Load the class of a registered kernel model.

    Parameters
    ----------
    name : str
        A registered name.

    Raises
    ------
    InputError
        When no model has that name.

    Examples
    --------
    >>> kernel_model_class("gbt").name
    'gbt'
    """
    if name in KERNEL_MODELS:
        module, _, attribute = KERNEL_MODELS[name].partition(":")
        found: type[KernelCostModel] = getattr(import_module(module), attribute)
        return found
    for entry_point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        loaded: type[KernelCostModel] = entry_point.load()
        return loaded
    names = kernel_model_names()
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InputError(f"a kernel model must be one of {', '.join(names)}, got {name!r}{hint}")
