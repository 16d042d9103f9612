"""The cost model that a tuning run is asked for."""

from dataclasses import replace
from typing import Any

from costmodels.errors import InputError
from costmodels.load_model import load_kernel_model
from costmodels.protocol import KernelCostModel
from tvm_integration.compat import Target, meta_schedule
from tvm_integration.tune.cost_model import MetaScheduleCostModel
from tvm_integration.tune.state import TuneOptions

__all__ = [
    "STOCK",
    "check_cost_model",
    "check_has_learned",
    "default_cost_model",
    "make_cost_model",
    "with_cost_model",
]

STOCK = "stock"
"""``--cost-model`` for TVM's own XGBModel."""


def default_cost_model(target: Target) -> str:
    """Trees that have learned kernels of server processors; for GPUs some that have not."""
    return "pretrained:gbt" if target.kind.name == "llvm" else "gbt"


def with_cost_model(options: TuneOptions, target: Target) -> TuneOptions:
    """Name the cost model of a run, where the user did not."""
    if options.cost_model is not None:
        return options
    return replace(options, cost_model=default_cost_model(target))


def make_cost_model(options: TuneOptions) -> Any:
    """Return the cost model of a run: ours, which resumes in its work directory, or TVM's.

    Parameters
    ----------
    options : TuneOptions
        With a cost model and a work directory.
    """
    assert options.cost_model is not None
    if options.cost_model == STOCK:
        return meta_schedule.cost_model.XGBModel()
    return MetaScheduleCostModel(
        options.cost_model, work_dir=options.folder, device=options.device, seed=options.seed
    )


def check_cost_model(options: TuneOptions) -> None:
    """Raise InputError unless the cost model can be used, and chosen by without trials."""
    assert options.cost_model is not None
    model = None
    if options.cost_model != STOCK:
        model = load_kernel_model(options.cost_model, seed=options.seed)
    if options.trials == 0:
        check_has_learned(model, options.cost_model)


def check_has_learned(model: KernelCostModel | None, name: str) -> None:
    """Raise InputError unless a model can choose programs that nobody measures."""
    if model is None or not model.is_fitted:
        raise InputError(
            f"cost_model must be one that has learned for 0 trials, got {name!r}: take "
            "pretrained:best or a checkpoint, or give some trials"
        )
    if not model.claims.ranks:
        raise InputError(
            f"cost_model must be one that tells the programs of a kernel apart for 0 trials, got "
            f"{name!r}, a {model.name}: take pretrained:best"
        )
