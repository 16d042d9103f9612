"""Learned cost models, warm workers and tuning for Apache TVM's MetaSchedule.

Importing this package checks the versions of TVM's wheels but does not import TVM: the public
names below are loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from tvm_integration.versions import check_versions

check_versions()

if TYPE_CHECKING:
    from tvm_integration.measure.builder import WarmBuilder
    from tvm_integration.measure.measure_log import MeasureLog
    from tvm_integration.measure.rpc_runner import WarmRPCRunner
    from tvm_integration.measure.runner import WarmRunner
    from tvm_integration.tune.cost_model import MetaScheduleCostModel
    from tvm_integration.tune.relax_pass import tuning_pipeline
    from tvm_integration.tune.scheduler import EagerScheduler

_HOME = {
    "MeasureLog": "measure.measure_log",
    "MetaScheduleCostModel": "tune.cost_model",
    "EagerScheduler": "tune.scheduler",
    "WarmBuilder": "measure.builder",
    "WarmRPCRunner": "measure.rpc_runner",
    "WarmRunner": "measure.runner",
    "tuning_pipeline": "tune.relax_pass",
}

__all__ = [
    "MeasureLog",
    "MetaScheduleCostModel",
    "EagerScheduler",
    "WarmBuilder",
    "WarmRPCRunner",
    "WarmRunner",
    "tuning_pipeline",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
