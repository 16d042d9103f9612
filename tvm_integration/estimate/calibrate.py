"""Calibrating estimates for the user's own machine."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from costmodels.checks import check_fields, require_type
from costmodels.errors import InputError
from costmodels.files import check_can_be_written
from costmodels.load_model import load_kernel_model
from costmodels.network_models.overheads import Overheads
from costmodels.pretrained import PRETRAINED_BEST
from costmodels.progress import OnProgress, no_progress
from tvm_integration.collect.networks import NetworkProgress
from tvm_integration.compat import Target
from tvm_integration.compile.execution import check_runs_here
from tvm_integration.estimate.estimate import check_model
from tvm_integration.estimate.network_calibration import calibrate_on_networks
from tvm_integration.estimate.overheads_file import Calibrated, save_overheads
from tvm_integration.estimate.quick_calibration import calibrate_quickly
from tvm_integration.targets import as_target, device_of
from tvm_integration.time_limit import TimeLimit

__all__ = ["CalibrateOptions", "calibrate"]


@dataclass(frozen=True)
class CalibrateOptions:
    """How a machine is calibrated.

    Parameters
    ----------
    quick : bool
        Measure kernels alone for some seconds, which corrects the model's errors; by default
        networks for some minutes, which also fits what lies between kernels.
    minutes : float, optional
        Begin no network after so many.
    out : str or path, optional
        Write the result here; by default where `estimate_network` looks.
    """

    quick: bool = False
    minutes: float | None = None
    out: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.quick and self.minutes is not None:
            raise InputError(f"minutes must not be given with quick, got {self.minutes:g}")
        TimeLimit(self.minutes)


def calibrate(
    target: str | Target = "host",
    cost_model: str = PRETRAINED_BEST,
    options: CalibrateOptions = CalibrateOptions(),
    *,
    on_kernel: OnProgress = no_progress,
    on_network: Callable[[NetworkProgress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[Overheads, Path]:
    """Measure on this machine, fit what a sum of kernels leaves out, and keep it.

    A calibration on networks that was killed goes on where it was.

    Parameters
    ----------
    target : str or Target
        Must be of this machine.
    cost_model : str
        The model whose errors are learned: ``pretrained:NAME`` or a checkpoint.
    options : CalibrateOptions
        How.
    on_kernel : callable
        With `quick`, told how many kernels are done, and how many there are.
    on_network : callable
        Told before each network.
    should_stop : callable
        Asked before each network.

    Returns
    -------
    overheads : Overheads
        What was fitted.
    path : Path
        Where it is; estimates go back to what is typical when it is deleted.

    Raises
    ------
    InputError
        When the machine cannot run the target, the model gives no seconds, or too little could be
        measured.
    """
    require_type("options", options, CalibrateOptions)
    if options.out is not None:
        check_can_be_written(Path(options.out), needed=[Path(cost_model)])
    target = as_target(target)
    check_runs_here(target)
    model = load_kernel_model(cost_model)
    check_model(model, cost_model)
    device = device_of(target)
    of = Calibrated.of(target, device, cost_model)
    path = of.path if options.out is None else Path(options.out)
    if options.quick:
        found = calibrate_quickly(target, device, model, on_progress=on_kernel)
        save_overheads(path, found, of)
        return found, path
    limit = TimeLimit(options.minutes)
    measured = of.path.with_suffix(".networks")
    found = calibrate_on_networks(
        target,
        device,
        model,
        measured,
        on_progress=on_network,
        should_stop=lambda: limit.is_over() or should_stop(),
    )
    save_overheads(path, found, of)
    shutil.rmtree(measured)  # the next calibration measures anew
    return found, path
